//! Milliseconds to seconds, no devices, no network: the pure rooms and the laws of the house.

mod house_rules;
mod pipelines;
mod world;
