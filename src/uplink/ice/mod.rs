//! The roaming agent - many paths, one connection.

pub(crate) mod agent;
mod consent;
#[allow(unsafe_code, reason = "the one file of the house that may, see its first lines")]
mod glue;
mod lines;
mod paths;
mod pulse;
mod standing;
pub(crate) mod words;

#[cfg(test)]
#[path = "storm/tests.rs"]
mod storm;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "world/tests.rs"]
mod world;
