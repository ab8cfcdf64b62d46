//! The lookout - what the network of this machine looks like, and when it changes.
