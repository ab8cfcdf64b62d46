//! roamcast signalling: the client against the embedded ingest, in one process.

use std::time::Duration;

use roamcast::config::units::Secret;
use roamcast::config::{Protocol, TokenSource, Uplink};
use roamcast::ingest::{Ingest, Options};
use roamcast::sdp::LocalCandidate;
use roamcast::signal::RestartError;
use roamcast::signal::{Memory, ResumeError, Signaller, Trickle, Word};
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Failure, Retry, RetrySlot};
use tokio::sync::OnceCell;

use crate::{http, publisher};

/// Generous: the machine may be busy.
const WITHIN: Duration = Duration::from_secs(30);

static OFFER: OnceCell<String> = OnceCell::const_new();

/// One offer for all: nobody sends media here.
async fn offer() -> &'static str {
    OFFER.get_or_init(publisher::offer).await
}

/// The offer with other ICE credentials.
fn restarted(offer: &str) -> String {
    let line = |line: &str| match line.split_once(':').map_or(line, |(name, _)| name) {
        "a=ice-ufrag" => "a=ice-ufrag:another\r\n".to_owned(),
        "a=ice-pwd" => "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n".to_owned(),
        _ => format!("{line}\r\n"),
    };
    offer.lines().map(line).collect()
}

struct Server(Ingest);

impl Server {
    async fn start(token: Option<&str>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listen = "127.0.0.1:0".parse().unwrap();
        let options = Options { token: token.map(Into::into), faults: true, ..Options::new(listen) };
        Self(Ingest::start(options).await.unwrap())
    }

    fn uplink(&self, token: Option<&str>) -> Uplink {
        let token = token.map(|token| TokenSource::Value(Secret::new(token.to_owned())));
        let url = format!("ws://{}/signal/live", self.0.address()).parse().unwrap();
        Uplink { protocol: Protocol::Roamcast, token, ..http::uplink(url) }
    }

    fn signaller(&self) -> Signaller {
        crate::http::signaller(&self.uplink(None)).unwrap()
    }

    /// Has published.
    async fn on_air(&self) -> Signaller {
        let mut signaller = self.signaller();
        signaller.publish(offer().await).await.unwrap();
        signaller
    }

    async fn fault(&self, json: &str) {
        let url = format!("http://{}/faults/live", self.0.address());
        let request = publisher::http_client().post(url).header("content-type", "application/json");
        let request = request.header("authorization", "Bearer t0ken").body(json.to_owned());
        assert_eq!(request.send().await.unwrap().status(), 204, "{json}");
    }
}

/// The next word after the slot that every session is given.
async fn next(signaller: &mut Signaller) -> Word {
    loop {
        let word = tokio::time::timeout(WITHIN, signaller.next()).await.expect("the server says something");
        if !matches!(word, Word::RetrySlot(_)) {
            return word;
        }
    }
}

async fn slot(signaller: &mut Signaller) -> RetrySlot {
    match tokio::time::timeout(WITHIN, signaller.next()).await.expect("the server says something") {
        Word::RetrySlot(slot) => slot,
        other => panic!("{other:?}"),
    }
}

async fn lost(signaller: &mut Signaller) -> Failure {
    match next(signaller).await {
        Word::Lost(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn session_id(memory: &Option<Memory>) -> &str {
    match memory {
        Some(Memory::Roamcast { session_id, .. }) => session_id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_lives_from_hello_to_bye() {
    let server = Server::start(None).await;
    let mut signaller = server.signaller();
    let accepted = signaller.publish(offer().await).await.unwrap();
    assert!(accepted.answer.starts_with("v=0") && accepted.answer.contains("a=candidate:"), "{}", accepted.answer);
    assert_eq!(session_id(&signaller.memory()), accepted.session_id);
    let candidate = LocalCandidate {
        mid: "video0".into(),
        mline: 0,
        candidate: "candidate:9 1 UDP 2122260223 127.0.0.1 61764 typ host".into(),
    };
    assert_eq!(signaller.candidates(&[candidate], true).await.unwrap(), Trickle::Taken);
    let again = signaller.restart(&restarted(offer().await)).await.unwrap();
    assert_ne!(again.answer, accepted.answer, "new credentials");
    assert_eq!(again.session_id, accepted.session_id);
    signaller.goodbye().await.unwrap();
    assert!(signaller.memory().is_none());
    signaller.goodbye().await.unwrap();
    server.on_air().await;
    server.0.stop().await;
}

/// So that they do not come back in one instant when the server is lost. WHIP publishers count, too; viewers do not.
#[tokio::test]
async fn each_session_has_a_number_of_its_own_the_lowest_and_keeps_it() {
    let server = Server::start(None).await;
    let mut first = server.on_air().await;
    assert_eq!(slot(&mut first).await, RetrySlot(0));
    let other = |name: &str| {
        let mut uplink = server.uplink(None);
        uplink.url = uplink.url.join(name).unwrap();
        crate::http::signaller(&uplink).unwrap()
    };
    let whip = |path: &str| {
        let url = format!("http://{}/{path}", server.0.address()).parse().unwrap();
        crate::http::signaller(&Uplink { token: None, ..http::uplink(url) }).unwrap()
    };
    let (mut second, mut third, mut viewer) = (whip("whip/second"), other("third"), whip("whep/live"));
    second.publish(offer().await).await.unwrap();
    viewer.publish(&offer().await.replace("a=sendonly", "a=recvonly")).await.unwrap();
    third.publish(offer().await).await.unwrap();
    assert_eq!((slot(&mut second).await, slot(&mut third).await), (RetrySlot(1), RetrySlot(2)));
    let told = tokio::time::timeout(Duration::from_millis(50), viewer.next()).await;
    assert!(told.is_err(), "a viewer is told {told:?}");

    server.fault(r#"{"dropWebSocket":true}"#).await;
    lost(&mut first).await;
    first.resume().await.unwrap();
    first.goodbye().await.unwrap();
    let mut fourth = other("fourth");
    fourth.publish(offer().await).await.unwrap();
    assert_eq!(slot(&mut fourth).await, RetrySlot(0), "the first has kept it to its end, and told of it once");
    second.goodbye().await.unwrap();
    let mut fifth = whip("whip/fifth");
    fifth.publish(offer().await).await.unwrap();
    assert_eq!(slot(&mut fifth).await, RetrySlot(1), "a goodbye frees the number");
}

#[tokio::test]
async fn an_offer_that_cannot_be_answered_is_final_but_leaves_the_connection_alone() {
    let server = Server::start(None).await;
    let mut signaller = server.signaller();
    let failure = signaller.publish("v=0\r\nhello\r\n").await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::BadAnswer, Retry::IfProven { after: None }), "{failure}");
    signaller.publish(offer().await).await.unwrap();
    let refused = signaller.restart("v=0\r\n").await.unwrap_err();
    let RestartError::Refused(failure) = refused else { panic!("{refused:?}") };
    assert!(failure.words.contains("no media section"), "{failure}");
    signaller.restart(&restarted(offer().await)).await.unwrap();
}

#[tokio::test]
async fn a_cut_websocket_is_resumed_with_the_same_session() {
    let server = Server::start(None).await;
    let mut signaller = server.on_air().await;
    for _ in 0..3 {
        server.fault(r#"{"dropWebSocket":true}"#).await;
        let failure = lost(&mut signaller).await;
        assert_eq!((failure.code, failure.retry), (ErrorCode::SignallingFailed, Retry::Backoff), "{failure}");
        let before = signaller.memory();
        let resumed = signaller.resume().await.unwrap();
        assert_eq!((resumed.session_id.as_str(), resumed.recovered_from), (session_id(&before), None));
        signaller.restart(&restarted(offer().await)).await.expect("the media connection is still there");
    }
}

/// The ones that are named after a cut were renewed while it lasted.
#[tokio::test]
async fn turn_credentials_are_named_anew_at_any_time_and_after_a_cut() {
    let server = Server::start(None).await;
    let mut signaller = server.on_air().await;
    for (cut, credential) in [(false, "fr3sh-turn-passw0rd"), (true, "fr3sher-turn-passw0rd")] {
        if cut {
            server.fault(r#"{"dropWebSocket":true}"#).await;
            lost(&mut signaller).await;
        }
        let named = format!(r#"{{"urls":["turn:127.0.0.1"],"username":"1767225600:u","credential":"{credential}"}}"#);
        server.fault(&format!(r#"{{"iceServers":[{named}]}}"#)).await;
        if cut {
            signaller.resume().await.unwrap();
        }
        let word = next(&mut signaller).await;
        let Word::IceServers { servers, near: true } = word else { panic!("cut: {cut}: {word:?}") };
        assert_eq!(servers[0].credential.as_ref().map(|secret| secret.expose()), Some(credential));
    }
    // A new media connection of the same session is given them with the answer.
    let answered = signaller.restart(&restarted(offer().await)).await.unwrap();
    let given = answered.ice_servers[0].credential.as_ref().map(|secret| secret.expose());
    assert_eq!(given, Some("fr3sher-turn-passw0rd"));
}

#[tokio::test]
async fn a_session_that_gets_another_name_is_recovered() {
    let server = Server::start(None).await;
    let mut signaller = server.on_air().await;
    let before = signaller.memory();
    server.fault(r#"{"renameSession":true,"dropWebSocket":true}"#).await;
    lost(&mut signaller).await;
    let resumed = signaller.resume().await.unwrap();
    assert_eq!(resumed.recovered_from.as_deref(), Some(session_id(&before)));
    assert_eq!(session_id(&signaller.memory()), resumed.session_id);
}

#[tokio::test]
async fn after_the_window_a_resume_is_refused_and_a_new_session_begins() {
    let server = Server::start(None).await;
    let mut signaller = server.on_air().await;
    server.fault(r#"{"dropWebSocket":true}"#).await;
    lost(&mut signaller).await;
    let (window_over, before) = (Duration::from_secs(13), signaller.memory());
    // The fault itself: an outage that is longer than the window. Nobody is told when one ends.
    tokio::time::sleep(window_over).await;
    let refused = signaller.resume().await.unwrap_err();
    let ResumeError::Refused(failure) = refused else { panic!("{refused:?}") };
    assert_eq!((failure.code, failure.retry), (ErrorCode::NetworkDisconnect, Retry::Backoff), "{failure}");
    assert_ne!(session_id(&signaller.memory()), session_id(&before));
    let mut successor = server.signaller();
    assert!(successor.recall(signaller.memory().unwrap()).is_none());
    successor.publish(offer().await).await.unwrap();
}

#[tokio::test]
async fn another_server_refuses_to_resume() {
    let first = Server::start(None).await;
    let signaller = first.on_air().await;
    let second = Server::start(None).await;
    let Some(Memory::Roamcast { session_id, resume_token, .. }) = signaller.memory() else { panic!() };
    let url = second.uplink(None).url.to_string();
    let mut successor = second.signaller();
    assert!(successor.recall(Memory::Roamcast { url, session_id: session_id.clone(), resume_token }).is_none());
    assert_ne!(successor.publish(offer().await).await.unwrap().session_id, session_id);
    assert!(second.signaller().recall(signaller.memory().unwrap()).is_some(), "a ghost of elsewhere");
}

#[tokio::test]
async fn a_restarted_process_goes_on_with_its_session() {
    let server = Server::start(None).await;
    let signaller = server.on_air().await;
    let text = serde_json::to_string(&signaller.memory()).unwrap();
    // As kill -9 does: no goodbye.
    drop(signaller);
    let memory: Memory = serde_json::from_str(&text).unwrap();
    let mut successor = server.signaller();
    assert!(successor.recall(memory.clone()).is_none());
    let accepted = successor.publish(offer().await).await.unwrap();
    assert_eq!(accepted.session_id, session_id(&Some(memory)));
}

#[tokio::test]
async fn a_session_is_replaced_by_its_owner_while_it_is_live() {
    let server = Server::start(None).await;
    for refuse in [false, true] {
        server.fault(&format!(r#"{{"refuseResume":{refuse}}}"#)).await;
        let mut old = server.on_air().await;
        if refuse {
            server.fault(r#"{"dropWebSocket":true}"#).await;
            lost(&mut old).await;
            assert!(matches!(old.resume().await, Err(ResumeError::Refused(_))));
            server.fault(r#"{"refuseResume":false}"#).await;
        }
        let mut new = server.signaller();
        assert!(new.recall(old.memory().unwrap()).is_none());
        new.publish(offer().await).await.unwrap();
        new.goodbye().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_publisher_waits() {
    let server = Server::start(None).await;
    let _first = server.on_air().await;
    let failure = server.signaller().publish(offer().await).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::ConcurrentLimit, Retry::After(Duration::from_secs(30))));
    assert!(failure.words.contains("somebody else"), "{failure}");
}

#[tokio::test]
async fn a_ghost_is_buried_by_its_owner() {
    let server = Server::start(None).await;
    let first = server.on_air().await;
    let second = server.signaller();
    second.bury(first.ghost().unwrap()).await.unwrap();
    second.bury(first.ghost().unwrap()).await.unwrap();
    server.on_air().await;
}

/// The slot to come back in is lost with the words of the first try, unless it counts as told no longer.
#[tokio::test]
async fn a_second_publish_of_one_messenger_is_as_good_as_a_first() {
    let server = Server::start(None).await;
    let mut uplink = server.uplink(None);
    uplink.url.set_path("/signal/another");
    let mut another = crate::http::signaller(&uplink).unwrap();
    another.publish(offer().await).await.unwrap();
    let mut ghost = server.on_air().await;
    // The lowest slot is free for both tries.
    another.goodbye().await.unwrap();
    let mut signaller = server.signaller();
    let failure = signaller.publish(offer().await).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConcurrentLimit);
    ghost.goodbye().await.unwrap();
    let accepted = signaller.publish(offer().await).await.unwrap();
    assert_eq!(session_id(&signaller.memory()), accepted.session_id);
    slot(&mut signaller).await;
    server.fault(r#"{"output":"reconnecting"}"#).await;
    assert_eq!(next(&mut signaller).await, Word::Output { reconnecting: true }, "the end of the first try is told");
}

#[tokio::test]
async fn every_close_code_says_what_to_do() {
    use ErrorCode as Code;
    let server = Server::start(None).await;
    for (code, ends, retry, name) in [
        (1000, true, Retry::Backoff, Code::SignallingFailed),
        (1001, false, Retry::Backoff, Code::SignallingFailed),
        (1011, false, Retry::Backoff, Code::SignallingFailed),
        (1012, false, Retry::Backoff, Code::SignallingFailed),
        (1013, false, Retry::Backoff, Code::SignallingFailed),
        (4001, true, Retry::Never, Code::InvalidToken),
        (4002, false, Retry::Once, Code::TokenExpired),
        (4003, true, Retry::Never, Code::ChannelNotAuthorized),
        (4010, true, Retry::After(Duration::from_secs(30)), Code::ConcurrentLimit),
        (4012, true, Retry::Never, Code::AccountSuspended),
        (4020, true, Retry::Never, Code::AdminDisconnect),
    ] {
        let mut signaller = server.on_air().await;
        server.fault(&format!(r#"{{"close":{code}}}"#)).await;
        let (ended, failure) = match next(&mut signaller).await {
            Word::Ended(failure) => (true, failure),
            Word::Lost(failure) => (false, failure),
            other => panic!("{code}: {other:?}"),
        };
        assert_eq!((ended, failure.retry, failure.code), (ends, retry, name), "{code}: {failure}");
        assert_eq!(signaller.memory().is_none(), ends, "{code}");
        if !ends {
            signaller.resume().await.unwrap_or_else(|error| panic!("{code}: {error:?}"));
            signaller.goodbye().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_the_server_says_unasked_is_heard_in_order() {
    let server = Server::start(None).await;
    let mut signaller = server.on_air().await;
    server.fault(r#"{"goingAway":3000,"output":"reconnecting"}"#).await;
    server.fault(r#"{"output":"ok"}"#).await;
    // An answer in between takes nothing away.
    signaller.restart(&restarted(offer().await)).await.unwrap();
    assert_eq!(next(&mut signaller).await, Word::GoingAway(Duration::from_secs(3)));
    assert_eq!(next(&mut signaller).await, Word::Output { reconnecting: true });
    assert_eq!(next(&mut signaller).await, Word::Output { reconnecting: false });
    server.fault(r#"{"evict":true}"#).await;
    let Word::Ended(failure) = next(&mut signaller).await else { panic!() };
    assert_eq!((failure.code, failure.retry), (ErrorCode::NetworkDisconnect, Retry::Backoff), "{failure}");
    server.on_air().await;
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let server = Server::start(None).await;
    let mut signaller = server.on_air().await;
    server.0.stop().await;
    assert_eq!(next(&mut signaller).await, Word::GoingAway(Duration::from_secs(2)));
    let failure = lost(&mut signaller).await;
    assert!(failure.words.contains("1012"), "{failure}");
    assert!(matches!(signaller.resume().await, Err(ResumeError::Failed(_))), "nobody is there");
    assert!(signaller.memory().is_some(), "it may come back");
}

#[tokio::test]
async fn a_busy_server_is_given_the_time_it_asks_for() {
    let server = Server::start(None).await;
    server.fault(r#"{"status":503,"retryAfter":4,"times":2}"#).await;
    for _ in 0..2 {
        let failure = server.signaller().publish(offer().await).await.unwrap_err();
        assert_eq!(failure.retry, Retry::After(Duration::from_secs(4)), "{failure}");
    }
    server.on_air().await;
}

#[tokio::test]
async fn tokens_are_wrong_expired_or_for_somebody_else() {
    let server = Server::start(Some("t0ken")).await;
    let publish = async |token: Option<&str>| {
        let mut signaller = crate::http::signaller(&server.uplink(token)).unwrap();
        signaller.publish(offer().await).await.map(|_| signaller)
    };
    for token in [None, Some("wr0ng")] {
        let failure = publish(token).await.unwrap_err();
        assert_eq!((failure.code, failure.retry), (ErrorCode::InvalidToken, Retry::Never));
        assert!(failure.words.contains("the ingest's token") && !failure.words.contains("wr0ng"), "{failure}");
    }
    let other = Uplink {
        url: format!("ws://{}/signal/other", server.0.address()).parse().unwrap(),
        ..server.uplink(Some("t1ken"))
    };
    server.fault(r#"{"addToken":"t1ken"}"#).await;
    let failure = crate::http::signaller(&other).unwrap().publish(offer().await).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::ChannelNotAuthorized, Retry::Never));

    let mut signaller = publish(Some("t1ken")).await.unwrap();
    server.fault(r#"{"expireToken":1}"#).await;
    let failure = lost(&mut signaller).await;
    assert_eq!((failure.code, failure.retry), (ErrorCode::TokenExpired, Retry::Once), "{failure}");
    let Err(ResumeError::Failed(failure)) = signaller.resume().await else { panic!() };
    assert_eq!((failure.code, failure.retry), (ErrorCode::TokenExpired, Retry::Once), "{failure}");
    let mut fresh = crate::http::signaller(&server.uplink(Some("t0ken"))).unwrap();
    assert!(fresh.recall(signaller.memory().unwrap()).is_none(), "the session is still there");
    let accepted = fresh.publish(offer().await).await.unwrap();
    assert_eq!(accepted.session_id, session_id(&signaller.memory()));
}

/// What viewers are told, from the first word on.
struct Viewer(reqwest::Response, String);

impl Viewer {
    async fn open(server: &Server) -> Self {
        let url = format!("http://{}/api/live/events", server.0.address());
        Self(publisher::http_client().get(url).send().await.unwrap(), String::new())
    }

    async fn told(&mut self, state: &str) {
        let word = format!(r#""state":"{state}"#);
        let told = async {
            while !self.1.contains(&word) {
                self.1 += &String::from_utf8_lossy(&self.0.chunk().await.unwrap().expect("the stream goes on"));
            }
        };
        tokio::time::timeout(WITHIN, told).await.unwrap_or_else(|_| panic!("never {state}"));
    }
}

#[tokio::test]
async fn viewers_notice_neither_a_cut_websocket_nor_a_new_media_connection() {
    let server = Server::start(None).await;
    let mut viewer = Viewer::open(&server).await;
    let mut old = server.signaller();
    let old_media = publisher::Publisher::over(&mut old).await;
    viewer.told("live").await;
    server.fault(r#"{"dropWebSocket":true}"#).await;
    lost(&mut old).await;
    old.resume().await.unwrap();

    // Make before break: the old one feeds until the new one has sent a picture.
    let mut new = server.signaller();
    assert!(new.recall(old.memory().unwrap()).is_none());
    let new_media = publisher::Publisher::over(&mut new).await;
    new_media.connected().await;
    drop(old_media);
    let dropped = live_for(&server).await;
    while live_for(&server).await < dropped + 2.0 {}

    server.fault(r#"{"blackHoleMedia":100}"#).await;
    viewer.told("interrupted").await;
    new.goodbye().await.unwrap();
    viewer.told("offline").await;
    assert_eq!(viewer.1.matches("interrupted").count(), 1, "{}", viewer.1);
    drop(new_media);
}

/// Seconds; the broadcast is live just now.
async fn live_for(server: &Server) -> f64 {
    let mut viewer = Viewer::open(server).await;
    viewer.told("").await;
    let (_, text) = viewer.1.split_once("data: ").unwrap();
    let event: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(event["data"]["state"], "live", "{event}");
    event["data"]["liveFor"].as_f64().unwrap()
}
