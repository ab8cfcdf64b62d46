//! Seeded: all that a server, or whoever stands in between, can answer to an offer, and what the brain makes of it.
//!
//! The same seeds each time, and fresh ones that are printed; `REFUSALS_SEED=n cargo test --test pure refusals` repeats one.

use std::time::{Duration, SystemTime};

use roamcast::signal::failure::{self, Body, Closed, Place, Redirect, Refusal};
use roamcast::signal::transport::headers::{body_kind, excerpt, retry_after};
use roamcast::status::{ErrorCode, RetryAdvice};
use roamcast::supervisor::Supervisor;
use roamcast::supervisor::event::{Action, Attempt, Command, Event, Failure, Retry, SessionEvent};
use roamcast::supervisor::policy::{Policy, Retries};

use crate::world::{base, calm_policy};

const TOKEN: &str = "t0ken-of-the-encoder";
const STREAM_KEY: &str = "k3y-in-the-query";

const STATUSES: [u16; 44] = [
    200, 201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410,
    411, 412, 413, 414, 415, 418, 421, 422, 425, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 511, 599,
];
const KINDS: [&str; 8] = [
    "",
    "text/html",
    "Text/HTML; charset=utf-8",
    "application/xhtml+xml",
    "text/plain",
    "application/json",
    "application/problem+json",
    "application/sdp",
];
const BODIES: [&str; 14] = [
    "",
    "no",
    "404 page not found\n",
    "already has a host",
    "someone is already publishing to path 'live'",
    "{\"error\":\"not found\",\"token\":\"t0ken-of-the-encoder\"}",
    "t0ken-of-the-encoder is not good for ?key=k3y-in-the-query",
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
    "<html>Log in as t0ken-of-the-encoder</html>",
    "<!DOCTYPE html>\n<title>Welcome to the hotel</title>",
    "  \r\n<HTML><meta http-equiv=\"refresh\" content=\"0; url=http://portal.example/\"></HTML>",
    "\u{feff}<html></html>",
    "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
    "\u{1f}\u{8b} compressed \u{0}\u{202e}",
];
const HINTS: [&str; 7] = ["", "0", "7", "100000000000000000000", "soon", "Fri, 31 Dec 9999 23:59:59 GMT", "-1"];

/// One answer, and who hears it.
#[derive(Debug)]
struct Case {
    protocol: Protocol,
    tls: bool,
    token_sent: bool,
    proven: bool,
    status: u16,
    kind: &'static str,
    body: &'static str,
    hint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    Whip,
    WebSocket,
}

impl Case {
    fn new(dice: &mut fastrand::Rng) -> Self {
        Self {
            protocol: if dice.bool() { Protocol::Whip } else { Protocol::WebSocket },
            tls: dice.bool(),
            token_sent: dice.bool(),
            proven: dice.bool(),
            status: STATUSES[dice.usize(..STATUSES.len())],
            kind: KINDS[dice.usize(..KINDS.len())],
            body: BODIES[dice.usize(..BODIES.len())],
            hint: HINTS[dice.usize(..HINTS.len())],
        }
    }

    fn page(&self) -> Body {
        body_kind(self.kind, self.body.as_bytes())
    }

    fn wait(&self) -> Option<Duration> {
        retry_after(self.hint, SystemTime::UNIX_EPOCH)
    }

    /// What the messengers make of it.
    fn failure(&self) -> Failure {
        let said = excerpt(self.kind, self.body.as_bytes(), &[TOKEN, STREAM_KEY]);
        let refusal =
            Refusal { status: self.status, retry_after: self.wait(), body: self.page(), said: said.as_deref() };
        let scheme = match (self.protocol, self.tls) {
            (Protocol::Whip, true) => "https",
            (Protocol::Whip, false) => "http",
            (Protocol::WebSocket, true) => "wss",
            (Protocol::WebSocket, false) => "ws",
        };
        let url = format!("{scheme}://h.example/live?...");
        let method = if self.protocol == Protocol::Whip { "POST" } else { "GET" };
        let place = Place { method, url: &url, token_sent: self.token_sent };
        match (self.protocol, self.status) {
            (Protocol::WebSocket, _) => failure::upgrade(place, &refusal),
            (Protocol::Whip, 201) => failure::not_sdp(place, self.page()),
            (Protocol::Whip, 307 | 308) => {
                failure::redirected(place, Some("http://portal.example/"), &Redirect::Foreign, self.page())
            }
            (Protocol::Whip, 300..=399) => {
                let why = Redirect::ChangesMethod(self.status);
                failure::redirected(place, Some("http://portal.example/"), &why, self.page())
            }
            (Protocol::Whip, _) => failure::status(place, &refusal),
        }
    }

    /// Only a person can help, as far as one answer tells.
    fn is_refusal(&self) -> bool {
        match self.status {
            301 => self.tls,
            307 => self.tls && self.protocol == Protocol::Whip,
            308 => self.tls,
            300 | 304 => self.tls && self.protocol == Protocol::WebSocket,
            400 if self.failure().code == ErrorCode::ConcurrentLimit => false,
            401 | 407 | 408 | 409 | 425 | 429 => false,
            status => (400..=499).contains(&status),
        }
    }
}

/// The brain hears the same answer again and again.
struct Hearing {
    brain: Supervisor,
    now: std::time::Instant,
    newest: Attempt,
}

impl Hearing {
    fn new(proven: bool) -> Self {
        let policy = Policy { max_retries: Retries::Unlimited, ..calm_policy(9) };
        let brain = Supervisor::new(policy, 7, base()).with_memory(if proven { &[0] } else { &[] }, false);
        let mut hearing = Self { brain, now: base(), newest: Attempt(0) };
        hearing.tell(Event::Command(Command::Start));
        hearing
    }

    fn tell(&mut self, event: Event) {
        for order in self.brain.step(self.now, event) {
            if let Action::Open { attempt, .. } = order {
                self.newest = attempt;
            }
        }
    }

    /// True: that was the end.
    fn fails(&mut self, failure: &Failure) -> bool {
        self.tell(Event::Session(self.newest, SessionEvent::Failed(failure.clone())));
        self.tell(Event::Session(self.newest, SessionEvent::Closed));
        self.brain.status().stopped.is_some()
    }

    /// How long until the next session is opened.
    fn opens(&mut self) -> Duration {
        let (before, from) = (self.newest, self.now);
        while self.newest == before {
            self.now = self.brain.deadline().expect("something is waited for");
            self.tell(Event::Deadline);
        }
        self.now - from
    }
}

#[track_caller]
fn check(case: &Case) {
    let failure = case.failure();
    let page = case.page() == Body::Html;
    let words = &failure.words;
    assert!(!words.contains(TOKEN) && !words.contains(STREAM_KEY), "a secret is shown: {words}");
    assert!(!words.chars().any(char::is_control) && words.contains("h.example/live?..."), "{words:?}");

    let mut hearing = Hearing::new(case.proven);
    let is_final = hearing.fails(&failure);
    let told = hearing.brain.status().error.clone().expect("it is told");
    assert_eq!((told.code, &told.words), (failure.code, words), "words and code are kept");
    assert_eq!(is_final, told.retry == RetryAdvice::Never, "what is told is what is done");
    assert!(!(is_final && page), "a web page is never final");
    assert!(!(is_final && case.proven), "one refusal never ends what is proven");
    assert_eq!(is_final, case.is_refusal() && !page && !case.proven, "final is what was never proven, and a refusal");
    if page && (case.is_refusal() || matches!(case.status, 200..=299 | 401 | 511)) {
        assert!(words.contains("captive portal or proxy"), "{words}");
        assert_ne!(failure.code, ErrorCode::InvalidToken, "a page says nothing about the token");
    }
    if is_final {
        return;
    }
    let hinted =
        matches!(case.status, 429 | 503) || case.proven && case.is_refusal() && (400..=499).contains(&case.status);
    let least = case.wait().filter(|_| hinted).unwrap_or_default();
    let floor = if matches!(case.status, 409 | 429) { Duration::from_secs(30) } else { Duration::from_secs(2) };
    let waited = if failure.retry == Retry::Once { hearing.opens().max(floor) } else { hearing.opens() };
    assert!(waited >= least.max(floor), "tried again after {waited:?}, {least:?} was wanted");
    // A second time in a row: 401 is the only one that ends it.
    let ends = hearing.fails(&failure);
    assert_eq!(ends, case.status == 401 && !page, "after the second");
}

fn check_seed(seed: u64) {
    let case = Case::new(&mut fastrand::Rng::with_seed(seed));
    let verdict = std::panic::catch_unwind(|| check(&case));
    assert!(verdict.is_ok(), "REFUSALS_SEED={seed}: {case:?} gives {:?}", case.failure());
}

#[test]
fn every_answer_is_weighed_by_what_its_server_has_proven() {
    if let Ok(seed) = std::env::var("REFUSALS_SEED") {
        return check_seed(seed.parse().expect("REFUSALS_SEED is a number"));
    }
    (0..20_000).for_each(check_seed);
    let fresh = fastrand::u64(..u64::MAX / 2);
    println!("fresh seeds from {fresh}");
    (fresh..fresh + 20_000).for_each(check_seed);
}

/// The codes by which a protocol itself says that it is over end what is proven, too.
#[test]
fn terminal_codes_stay_terminal_and_a_cap_stays_thirty_seconds() {
    for proven in [false, true] {
        for (code, is_final) in [
            (4001, true),
            (4003, true),
            (4012, true),
            (4020, true),
            (4010, false),
            (1000, false),
            (1001, false),
            (1006, false),
            (1011, false),
            (1013, false),
        ] {
            let reason = "so there".to_owned();
            let failure = failure::closed("wss://h.example/live", &Closed::ByServer { code, reason });
            let mut hearing = Hearing::new(proven);
            assert_eq!(hearing.fails(&failure), is_final, "{code}, proven: {proven}");
            if code == 4010 {
                assert!(hearing.opens() >= Duration::from_secs(30));
            }
        }
    }
}
