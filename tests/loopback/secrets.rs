//! No secret in any log, however loud: token, ICE passwords, what the state file remembers.

use std::collections::BTreeSet;

use crate::http::TOKEN;
use crate::program::{Program, roamcast};
use crate::relay::Relay;

/// What stands behind `name` in SDP.
fn values(texts: &[String], name: &str) -> BTreeSet<String> {
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_at_trace_level_hold_no_secret() {
    let files = tempfile::tempdir().unwrap();
    let token_file = files.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let port = crate::program::free_port();
    let mut ingest = roamcast();
    ingest.args(["ingest", "--listen", &format!("127.0.0.1:{port}"), "--token-file"]).arg(&token_file);
    ingest.env("ROAMCAST_LOG", "trace");
    let mut ingest = Program::start(ingest, tempfile::tempdir().unwrap());
    ingest.wait_for_line("watch at");
    let relay = Relay::to(port).await;
    let config = format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [uplink]\nurl = \"http://127.0.0.1:{}/whip/live\"\ntokenFile = \"{}\"\n",
        relay.port,
        token_file.display()
    );
    let mut encoder = Program::encoder_with(&config, |command| {
        command.env("ROAMCAST_LOG", "trace").env("STATE_DIRECTORY", files.path());
    });
    encoder.wait_for_message("broadcasting");
    encoder.reconnect();
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    ingest.signal("TERM");
    ingest.wait_for_exit();

    let texts = relay.texts();
    assert!(texts.iter().any(|text| text.contains(TOKEN)), "the token was not even sent");
    let passwords = values(&texts, "a=ice-pwd:");
    assert!(passwords.len() >= 4, "two sessions, two sides: {passwords:?}");
    // Nothing of the ingest's own is that loud.
    for (who, program, word) in [("encoder", &encoder, "TRACE"), ("ingest", &ingest, "joined")] {
        let log = program.log();
        assert!(log.contains(word), "no `{word}` in the log of the {who}: {log}");
        let shown = [log, format!("{:?} {:?}", program.events, program.text)].concat();
        for secret in passwords.iter().map(String::as_str).chain([TOKEN]) {
            let leak = shown.lines().find(|line| line.contains(secret));
            assert!(leak.is_none(), "a secret in the log of the {who}: {}", leak.unwrap_or_default());
        }
    }
}
