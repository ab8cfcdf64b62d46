//! A server that has taken our media, and whoever refuses in its name: a reverse proxy while it is restarted, a captive portal.

use serde_json::Value;

use crate::gate::Gate;
use crate::program::{Program, free_port};

fn ingest(port: u16) -> Program {
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    ingest
}

fn config(gate: &Gate, protocol: &str) -> String {
    let url = match protocol {
        "roamcast" => format!("protocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{}/signal/live\"", gate.port),
        _ => format!("url = \"http://127.0.0.1:{}/whip/live\"", gate.port),
    };
    format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n[uplink]\n{url}\n\
         [reconnect]\nminDelay = \"100ms\"\nmaxDelay = \"200ms\"\nmaxRetries = \"unlimited\"\n\
         [signalling]\nminDelay = \"100ms\"\nmaxDelay = \"200ms\"\n"
    )
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Waits for an error whose words hold this; the answer is its code and whether it may be tried again.
fn wait_for_error(encoder: &mut Program, words: &str) -> (String, String) {
    let fits = |event: &Value| {
        event["event"] == "BroadcastError" && event["data"]["words"].as_str().is_some_and(|said| said.contains(words))
    };
    let (_, error) = encoder.wait_for(words, fits);
    let text = |name: &str| error["data"][name].as_str().unwrap_or_default().to_owned();
    (text("code"), text("retry"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_proxy_says_while_the_server_is_restarted_it_comes_back() {
    let port = free_port();
    let mut first = ingest(port);
    let gate = Gate::to(port).await;
    let mut encoder = Program::encoder(&config(&gate, "whip"));
    encoder.wait_for_message("broadcasting");
    let refusals = [
        ("404 Not Found", "NOT_FOUND"),
        ("400 Bad Request", "BAD_ANSWER"),
        ("403 Forbidden", "AUTH_FAILED"),
        ("405 Method Not Allowed", "NOT_FOUND"),
        ("406 Not Acceptable", "BAD_ANSWER"),
        ("410 Gone", "NOT_FOUND"),
        ("415 Unsupported Media Type", "BAD_ANSWER"),
        ("422 Unprocessable Content", "BAD_ANSWER"),
        ("451 Unavailable For Legal Reasons", "SIGNALLING_FAILED"),
    ];
    gate.refuse(&answer(refusals[0].0, "text/plain", "404 page not found\n"));
    first.kill();
    for (status, code) in refusals {
        gate.refuse(&answer(status, "text/plain", "no\n"));
        let told = wait_for_error(
            &mut encoder,
            &format!("POST `http://127.0.0.1:{}/whip/live` was answered with {}", gate.port, &status[..3]),
        );
        // Beside a session without media it counts as a taken slot: `after`.
        assert!(told.0 == code && told.1 != "never", "{status}: {told:?}");
    }
    let unfit = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n";
    gate.refuse(&answer("201 Created", "application/sdp", unfit));
    let before = gate.refused();
    encoder.wait_for("an unfit answer", |event| {
        event["data"]["code"] == "BAD_ANSWER" && event["data"]["retry"] != "never"
    });
    assert!(gate.refused() > before);
    let _second = ingest(port);
    gate.open();
    encoder.wait_for_message("broadcasting");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_outlives_kill_9_and_holds_no_secret() {
    let port = free_port();
    let server = ingest(port);
    let gate = Gate::to(port).await;
    let state = tempfile::tempdir().unwrap();
    let config = config(&gate, "whip").replace("[uplink]\n", "[uplink]\ntoken = \"t0ken-that-is-ours\"\n");
    let start = |config: &str| {
        let path = state.path().to_owned();
        Program::encoder_with(config, move |command| {
            command.env("STATE_DIRECTORY", path);
        })
    };
    let mut first = start(&config);
    first.wait_for_message("broadcasting");
    let deadline = std::time::Instant::now() + crate::program::PATIENCE;
    let proofs = state.path().join("proofs.json");
    while !proofs.exists() {
        assert!(std::time::Instant::now() < deadline, "no proof was written down");
        tokio::task::yield_now().await; // Another process writes the file.
    }
    first.kill();
    let text = std::fs::read_to_string(&proofs).unwrap();
    assert!(!text.contains("t0ken") && !text.contains("whip"), "{text}");
    drop(server);
    gate.refuse(&answer("404 Not Found", "text/plain", "404 page not found\n"));
    let mut second = start(&config);
    assert_eq!(wait_for_error(&mut second, "404"), ("NOT_FOUND".to_owned(), "backoff".to_owned()));
    let _server = ingest(port);
    gate.open();
    second.wait_for_message("broadcasting");
    second.kill();

    // Another token has proven nothing.
    gate.refuse(&answer("404 Not Found", "text/plain", "404 page not found\n"));
    let mut third = start(&config.replace("t0ken-that-is-ours", "an0ther-token"));
    assert_eq!(third.wait_for_exit(), 77, "{}", third.log());
}

/// The WebSocket is refused while media flows: signalling is reopened, nobody sees a flicker.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_a_proxy_refuses_is_reopened_and_media_goes_on() {
    let port = free_port();
    let _server = ingest(port);
    let gate = Gate::to(port).await;
    let mut encoder = Program::encoder(&config(&gate, "roamcast"));
    encoder.wait_for_message("broadcasting");
    for (kind, body) in [("text/plain", "404 page not found"), ("text/html", "<html>Log in</html>")] {
        gate.refuse(&answer("404 Not Found", kind, body));
        let (_, retry) = wait_for_error(&mut encoder, "was answered with 404");
        assert_eq!(retry, "backoff");
        gate.open();
        encoder.wait_for("signalling", |event| {
            event["event"] == "ConnectionState"
                && event["data"]["plane"] == "signalling"
                && event["data"]["state"] == "connected"
        });
    }
    assert_eq!(encoder.messages(), ["signalling", "connected", "broadcasting"], "the status flickered");
}
