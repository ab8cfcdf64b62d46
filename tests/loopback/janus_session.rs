//! The Janus messenger against a real Janus VideoRoom, without media: the offer is a canned one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roamcast::config::units::Secret;
use roamcast::config::{JanusRoom, Protocol, TokenSource, Uplink};
use roamcast::sdp;
use roamcast::sdp::LocalCandidate;
use roamcast::signal::{Ghost, ResumeError, Signaller, Trickle, Word};
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Failure, Retry};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::http;
use crate::janus::{Janus, LOCKED_ROOM, PIN, ROOM, VP8_ROOM};
use crate::program::PATIENCE;

/// As webrtcbin writes it.
const OFFER: &str = include_str!("../support/offer.sdp");

fn room(number: u64) -> JanusRoom {
    JanusRoom { room: number, create: false, pin: None, api_secret: None, display: "van 7".to_owned() }
}

fn uplink(url: Url, room: JanusRoom) -> Uplink {
    Uplink { protocol: Protocol::Janus, janus: Some(room), token: None, ..http::uplink(url) }
}

fn signaller(url: Url, room: JanusRoom) -> Signaller {
    crate::http::signaller(&uplink(url, room)).unwrap()
}

/// The next word, within a generous time.
async fn next(signaller: &mut Signaller) -> Word {
    timeout(PATIENCE, signaller.next()).await.expect("Janus says something")
}

/// Publishing fails; afterwards the goodbye leaves nothing behind.
async fn refused(janus: &Janus, mut signaller: Signaller) -> Failure {
    let failure = signaller.publish(OFFER).await.unwrap_err();
    signaller.goodbye().await.unwrap();
    assert_eq!(janus.sessions(), [0_u64; 0], "{failure}");
    failure
}

#[tokio::test]
async fn a_publish_is_answered_takes_candidates_and_an_ice_restart_and_leaves_nothing_behind() {
    let Some(janus) = Janus::start() else { return };
    let mut signaller = signaller(janus.url(), room(ROOM));
    let accepted = signaller.publish(OFFER).await.unwrap();
    let answer = sdp::check_answer(OFFER, &accepted.answer).unwrap();
    assert_eq!(answer.media.iter().map(|media| media.codec.as_str()).collect::<Vec<_>>(), ["H264", "OPUS"]);
    assert!(answer.candidates > 0 && accepted.ice_servers.is_empty(), "{}", accepted.answer);
    assert!(accepted.session_id.starts_with("1234/"), "{}", accepted.session_id);
    let candidate = "candidate:1 1 UDP 2015363327 127.0.0.1 40001 typ host".to_owned();
    let candidate = LocalCandidate { mid: "video0".to_owned(), mline: 0, candidate };
    assert_eq!(signaller.candidates(&[candidate], true).await.unwrap(), Trickle::Taken);

    let handles = janus.handles();
    assert_eq!((handles.len(), &handles[0]["plugin_specific"]["display"]), (1, &json!("van 7")), "{handles:#?}");

    let restarted =
        signaller.restart(&OFFER.replace("zzhL7Hq", "yyyyyyy").replace("sQ6H1yK", "yyyyyyy")).await.unwrap();
    assert_ne!(sdp::ice_credentials(&restarted.answer), sdp::ice_credentials(&accepted.answer));
    assert_eq!(restarted.session_id, accepted.session_id);

    assert!(signaller.ghost().is_some());
    signaller.goodbye().await.unwrap();
    signaller.goodbye().await.unwrap();
    assert!(signaller.ghost().is_none());
    assert_eq!(janus.sessions(), [0_u64; 0]);
}

#[tokio::test]
async fn a_room_that_is_not_there_is_made_only_when_asked_for() {
    let Some(janus) = Janus::start() else { return };
    let failure = refused(&janus, signaller(janus.url(), room(99))).await;
    assert_eq!((failure.code, failure.retry), (ErrorCode::NotFound, Retry::IfProven { after: None }));
    assert!(failure.words.contains("room 99") && failure.words.contains("uplink.roomCreate"), "{failure}");

    let created = JanusRoom { create: true, pin: Some(Secret::new(PIN.to_owned())), ..room(99) };
    let mut first = signaller(janus.url(), created.clone());
    let accepted = first.publish(OFFER).await.unwrap();
    sdp::check_answer(OFFER, &accepted.answer).unwrap();
    // It has our PIN from now on.
    let failure = signaller(janus.url(), room(99)).publish(OFFER).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::AuthFailed, Retry::Never), "{failure}");
    // And is there for the next one.
    signaller(janus.url(), created).publish(OFFER).await.unwrap();
}

#[tokio::test]
async fn a_wrong_or_missing_pin_is_final() {
    let Some(janus) = Janus::start() else { return };
    let with = |pin: Option<&str>| {
        let pin = pin.map(|pin| Secret::new(pin.to_owned()));
        signaller(janus.url(), JanusRoom { pin, ..room(LOCKED_ROOM) })
    };
    for pin in [None, Some("wr0ng-p1n")] {
        let failure = refused(&janus, with(pin)).await;
        assert_eq!((failure.code, failure.retry), (ErrorCode::AuthFailed, Retry::Never), "{failure}");
        assert!(failure.words.contains("uplink.roomPin") && !failure.words.contains("wr0ng"), "{failure}");
    }
    with(Some(PIN)).publish(OFFER).await.unwrap();
}

#[tokio::test]
async fn a_room_for_another_codec_is_a_failure_that_names_it() {
    let Some(janus) = Janus::start() else { return };
    let failure = refused(&janus, signaller(janus.url(), room(VP8_ROOM))).await;
    assert_eq!((failure.code, failure.retry), (ErrorCode::BadAnswer, Retry::IfProven { after: None }), "{failure}");
    assert!(failure.words.ends_with("; room 4321 takes video as vp8, audio as opus"), "{failure}");
}

#[tokio::test]
async fn the_api_secret_is_asked_for() {
    let Some(janus) = Janus::start_with("api_secret = \"open-sesame\"") else { return };
    let with = |secret: Option<&str>| {
        let api_secret = secret.map(|secret| Secret::new(secret.to_owned()));
        signaller(janus.url(), JanusRoom { api_secret, ..room(ROOM) })
    };
    for secret in [None, Some("wr0ng")] {
        let failure = refused(&janus, with(secret)).await;
        assert_eq!((failure.code, failure.retry), (ErrorCode::AuthFailed, Retry::Never), "{failure}");
        assert!(failure.words.contains("uplink.apiSecret") && !failure.words.contains("wr0ng"), "{failure}");
    }
    let mut signaller = with(Some("open-sesame"));
    signaller.publish(OFFER).await.unwrap();
    signaller.goodbye().await.unwrap();
    assert_eq!(janus.sessions(), [0_u64; 0]);
}

#[tokio::test]
async fn a_token_that_is_not_known_is_asked_for_anew_once() {
    let Some(janus) = Janus::start_with("token_auth = true") else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let token = Some(TokenSource::File(file.path().to_owned()));
    let mut signaller = crate::http::signaller(&Uplink { token, ..uplink(janus.url(), room(ROOM)) }).unwrap();
    std::fs::write(file.path(), "stale").unwrap();
    let failure = signaller.publish(OFFER).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::InvalidToken, Retry::Once), "{failure}");

    janus.admin(json!({ "janus": "add_token", "token": "fr3sh-of-janus" }));
    std::fs::write(file.path(), "fr3sh-of-janus").unwrap();
    signaller.publish(OFFER).await.unwrap();
    signaller.resume().await.unwrap();
    signaller.goodbye().await.unwrap();
    assert_eq!(janus.sessions(), [0_u64; 0]);
}

/// Passes TCP connections on, until they are cut.
struct Relay {
    port: u16,
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Relay {
    async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let passing = tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(address).await {
                        let _cut = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
                kept.lock().unwrap().push(passing);
            }
        });
        Self { port: here, accepting, connections }
    }

    fn url(&self) -> Url {
        format!("ws://127.0.0.1:{}/", self.port).parse().unwrap()
    }

    /// Ends all connections without a word of WebSocket.
    fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

#[tokio::test]
async fn the_session_is_claimed_after_the_connection_broke() {
    let Some(janus) = Janus::start() else { return };
    let relay = Relay::to(janus.address).await;
    let mut signaller = signaller(relay.url(), room(ROOM));
    let accepted = signaller.publish(OFFER).await.unwrap();
    let sessions = janus.sessions();
    for _ in 0..3 {
        relay.cut();
        let word = next(&mut signaller).await;
        assert!(matches!(&word, Word::Lost(failure) if failure.retry == Retry::Backoff), "{word:?}");
        let resumed = signaller.resume().await.unwrap();
        assert_eq!((resumed.session_id, resumed.recovered_from), (accepted.session_id.clone(), None));
    }
    assert_eq!(janus.sessions(), sessions);
    // It is the old session, with all that was in it.
    signaller.restart(OFFER).await.unwrap();
    signaller.goodbye().await.unwrap();
    assert_eq!(janus.sessions(), [0_u64; 0]);
}

#[tokio::test]
async fn the_session_is_claimed_while_the_old_connection_is_still_open() {
    let Some(janus) = Janus::start() else { return };
    let relay = Relay::to(janus.address).await;
    let mut signaller = signaller(relay.url(), room(ROOM));
    let accepted = signaller.publish(OFFER).await.unwrap();
    assert_eq!(signaller.resume().await.unwrap().session_id, accepted.session_id);
    // Requests and events go over the new one.
    signaller.restart(OFFER).await.unwrap();
    kick_everybody(&janus);
    let word = next(&mut signaller).await;
    assert!(matches!(word, Word::Ended(_)), "{word:?}");
}

#[tokio::test]
async fn a_session_that_is_gone_refuses_the_claim() {
    let Some(mut janus) = Janus::start() else { return };
    let relay = Relay::to(janus.address).await;
    let mut signaller = signaller(relay.url(), room(ROOM));
    signaller.publish(OFFER).await.unwrap();
    janus.restart();
    let word = next(&mut signaller).await;
    assert!(matches!(word, Word::Lost(_)), "{word:?}");
    let refused = signaller.resume().await.unwrap_err();
    let ResumeError::Refused(failure) = refused else { panic!("{refused:?}") };
    assert_eq!((failure.code, failure.retry), (ErrorCode::NetworkDisconnect, Retry::Backoff), "{failure}");
    assert!(failure.words.contains("458"), "{failure}");
    // Nothing to say goodbye to is no failure.
    signaller.goodbye().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_a_lost_connection_that_cannot_be_resumed_yet() {
    let Some(mut janus) = Janus::start() else { return };
    let mut signaller = signaller(janus.url(), room(ROOM));
    signaller.publish(OFFER).await.unwrap();
    janus.kill();
    let word = next(&mut signaller).await;
    assert!(matches!(word, Word::Lost(_)), "{word:?}");
    let failed = signaller.resume().await.unwrap_err();
    assert!(matches!(&failed, ResumeError::Failed(failure) if failure.retry == Retry::Backoff), "{failed:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_any_more_is_found_by_ping() {
    let Some(janus) = Janus::start() else { return };
    let mut signaller = signaller(janus.url(), room(ROOM));
    signaller.publish(OFFER).await.unwrap();
    janus.signal("STOP");
    let word = next(&mut signaller).await;
    assert!(matches!(&word, Word::Lost(failure) if failure.words.contains("not even a pong")), "{word:?}");
    janus.signal("CONT");
    signaller.resume().await.unwrap();
}

#[tokio::test]
async fn keepalives_keep_the_session_and_without_them_it_expires() {
    let Some(janus) = Janus::start_with("session_timeout = 8\nreclaim_session_timeout = 8") else { return };
    let mut kept = signaller(janus.url(), room(ROOM));
    let mut forgotten = signaller(janus.url(), room(ROOM));
    kept.publish(OFFER).await.unwrap();
    forgotten.publish(OFFER).await.unwrap();
    let both = janus.sessions();
    tokio::select! {
        word = kept.next() => panic!("{word:?}"),
        () = until(|| janus.sessions().len() < both.len()) => {}
    }
    assert_eq!(janus.sessions().len(), 1);
    let word = next(&mut forgotten).await;
    assert!(matches!(&word, Word::Ended(failure) if failure.code == ErrorCode::NetworkDisconnect), "{word:?}");
    kept.restart(OFFER).await.unwrap();
}

/// Asks again and again.
async fn until(holds: impl Fn() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let asking = async {
        while !holds() {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it comes true");
}

/// As an administrator of the room.
fn kick_everybody(janus: &Janus) {
    for handle in janus.handles() {
        let id = &handle["plugin_specific"]["id"];
        let request = json!({ "request": "kick", "room": ROOM, "id": id });
        let done = janus.room(request);
        assert_eq!(done["videoroom"], "success", "{done}");
    }
}

#[tokio::test]
async fn who_is_thrown_out_stays_out_and_a_room_that_is_destroyed_ends_the_session() {
    let Some(janus) = Janus::start() else { return };
    let mut signaller = signaller(janus.url(), room(ROOM));
    signaller.publish(OFFER).await.unwrap();
    kick_everybody(&janus);
    let word = next(&mut signaller).await;
    assert!(
        matches!(&word, Word::Ended(failure) if (failure.code, failure.retry) == (ErrorCode::AdminDisconnect, Retry::Never)),
        "{word:?}"
    );
    signaller.goodbye().await.unwrap();
    signaller.publish(OFFER).await.unwrap();
    janus.room(json!({ "request": "destroy", "room": ROOM }));
    let word = next(&mut signaller).await;
    assert!(matches!(&word, Word::Ended(failure) if failure.retry == Retry::Backoff), "{word:?}");
    signaller.goodbye().await.unwrap();
    assert_eq!(janus.sessions(), [0_u64; 0]);
}

#[tokio::test]
async fn a_ghost_is_ended_over_a_connection_of_its_own() {
    let Some(janus) = Janus::start() else { return };
    let relay = Relay::to(janus.address).await;
    let mut first = signaller(relay.url(), room(ROOM));
    first.publish(OFFER).await.unwrap();
    let memory = first.memory().unwrap();
    drop(first);
    relay.cut();
    // As after a restart of this process: the memory comes out of the state file.
    let memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    let mut second = signaller(relay.url(), room(ROOM));
    let burial = second.bury(Ghost(memory));
    let (published, buried) = tokio::join!(second.publish(OFFER), burial);
    buried.unwrap();
    published.unwrap();
    assert_eq!(janus.sessions().len(), 1);
    // Twice is no failure.
    let ghost = second.ghost().unwrap();
    second.bury(ghost.clone()).await.unwrap();
    second.bury(ghost).await.unwrap();
    assert_eq!(janus.sessions(), [0_u64; 0]);
}
