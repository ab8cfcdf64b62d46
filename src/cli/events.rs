//! `roamcast events [--json]`: what happens to the running encoder.

use super::args::Socket;
use super::{Exit, client, print};

/// Prints each event as it comes, until the encoder ends or nobody reads.
#[must_use]
pub fn run(args: &Socket) -> Exit {
    let form = if args.json { "application/x-ndjson" } else { "text/plain" };
    client::talk(args, async |client| client.read_lines("events", form, print::out).await)
}
