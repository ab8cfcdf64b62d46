//! The real encoder, by its config file alone, against a real Janus.

use crate::janus::Janus;
use crate::program::Program;

#[test]
fn the_program_broadcasts_into_a_room_and_leaves_it() {
    let Some(janus) = Janus::start() else { return };
    let mut encoder = Program::encoder(&format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [uplink]\nprotocol = \"janus\"\nurl = \"{}\"\nroom = 987654\nroomCreate = true\n",
        janus.url()
    ));
    encoder.wait_for_message("broadcasting");
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    assert_eq!(janus.sessions(), [0_u64; 0]);
}
