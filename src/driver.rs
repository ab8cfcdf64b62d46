//! The hands: the one loop, the one place that reads the clock.
