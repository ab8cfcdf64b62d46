//! The roaming agent - many paths, one connection.

pub(crate) mod agent;
#[allow(unsafe_code, reason = "the one file of the house that may, see its first lines")]
mod glue;
pub(crate) mod words;
