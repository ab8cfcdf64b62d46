//! Tests in milliseconds, without devices, network or waiting: the brain in its seeded world, the laws of the house.

mod house_rules;
mod world;
