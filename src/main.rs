//! args -> config -> house -> exit code.

fn main() {}
