//! TURN credentials that run out while the broadcast goes on: a real coturn with a REST secret, and relays alone.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use ring::hmac;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::coturn::Coturn;
use crate::place::Place;
use crate::program::{Program, free_port};
use crate::publisher::http_client;
use crate::secrets_kept;
use crate::stage;
use crate::turn::acknowledged_anew;

const SECRET: &str = "s3cret-of-the-relay";
/// Enough to get on air with, on a busy machine.
const SHORT: Duration = Duration::from_secs(12);
const LONG: Duration = Duration::from_secs(3600);

/// What a REST service makes of the secret: user name and password.
fn credentials(who: &str, life: Duration) -> (String, String) {
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + life;
    let user = format!("{}:{who}", end.as_secs());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let password = base64::engine::general_purpose::STANDARD.encode(hmac::sign(&key, user.as_bytes()));
    secrets_kept::learn("TURN password", &password);
    (user, password)
}

struct Rig {
    coturn: Coturn,
    port: u16,
    _ingest: Program,
}

impl Rig {
    /// `None`, with the reason printed, where there is no coturn.
    fn start() -> Option<Self> {
        let secret = format!("use-auth-secret\nstatic-auth-secret={SECRET}\n");
        let coturn = Coturn::start_with(&Place::loopback(), &secret)?;
        let port = free_port();
        Some(Self { coturn, port, _ingest: stage::ingest(port) })
    }

    /// Relays alone; its config knows these credentials.
    fn encoder(&self, uplink: &str, (user, password): &(String, String)) -> Program {
        Program::encoder(&format!(
            "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n{}[uplink]\n{uplink}iceTransport = \"relay\"\n\
             iceServers = [{{ urls = [\"{}\"], username = \"{user}\", credential = \"{password}\" }}]\n",
            stage::QUICK,
            self.coturn.url(),
        ))
    }

    /// The ingest names the TURN server with these from now on.
    async fn names(&self, (user, password): &(String, String)) {
        let fault =
            json!({ "iceServers": [{ "urls": [self.coturn.url()], "username": user, "credential": password }] });
        let url = format!("http://{}:{}/faults/live", Ipv4Addr::LOCALHOST, self.port);
        let request = http_client().post(url).header("content-type", "application/json").body(fault.to_string());
        assert!(request.send().await.unwrap().status().is_success());
    }

    fn lends_to(&mut self, (user, _): &(String, String)) {
        self.coturn.wait_for_line(&format!("user <{user}>: incoming packet ALLOCATE processed, success"));
    }

    /// The short credentials run out, and the TURN server forgets what it has lent by them.
    async fn forgets_after(&mut self, learned: Instant) {
        // It counts in whole seconds.
        tokio::time::sleep((learned + SHORT + Duration::from_secs(2)).saturating_duration_since(Instant::now())).await;
        block_in_place(|| self.coturn.restart());
    }
}

fn sessions(encoder: &Program) -> usize {
    encoder.messages().iter().filter(|message| *message == "signalling").count()
}

/// Over roamcast signalling the server names fresh ones before the old ones run out: the session stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_turn_credentials_come_in_time_and_the_session_stays() {
    let Some(mut rig) = block_in_place(Rig::start) else { return };
    let learned = Instant::now();
    let (short, fresh) = (credentials("short", SHORT), credentials("fresh", LONG));
    let uplink = format!("protocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{}/signal/live\"\n", rig.port);
    let mut encoder = rig.encoder(&uplink, &short);
    block_in_place(|| encoder.wait_for_message("broadcasting"));
    rig.lends_to(&short);
    rig.names(&fresh).await;
    rig.forgets_after(learned).await;
    block_in_place(|| {
        rig.lends_to(&fresh);
        acknowledged_anew(&mut encoder);
    });
    assert_eq!(sessions(&encoder), 1, "{:?}", encoder.messages());
}

/// A WHIP server names them in its answers alone: a new session fetches new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turn_credentials_of_a_whip_answer_have_run_out_and_a_new_session_fetches_others() {
    let Some(mut rig) = block_in_place(Rig::start) else { return };
    let learned = Instant::now();
    let (short, fresh) = (credentials("short", SHORT), credentials("fresh", LONG));
    // Those of the config were good last year.
    let old = ("1700000000:van".to_owned(), short.1.clone());
    rig.names(&short).await;
    let mut encoder = rig.encoder(&format!("url = \"http://127.0.0.1:{}/whip/live\"\n", rig.port), &old);
    block_in_place(|| encoder.wait_for_message("broadcasting"));
    rig.lends_to(&short);
    rig.names(&fresh).await;
    rig.forgets_after(learned).await;
    let words = |event: &Value| event["data"]["words"].as_str().unwrap_or_default().to_owned();
    block_in_place(|| {
        encoder.wait_for("a clear sentence", |event| {
            words(event).contains("refuses our credentials (401): their time is over")
        });
        encoder.wait_for_message("broadcasting");
        rig.lends_to(&fresh);
    });
    assert_eq!(sessions(&encoder), 2, "{:?}", encoder.messages());
}
