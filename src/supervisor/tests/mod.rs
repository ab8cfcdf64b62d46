//! Golden traces of the whole brain, and what its machines' tests share.

#[cfg(test)]
mod ice_restart;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::event::{
    Action, Attempt, Command, Event, Failure, MediaEvent, PathEvent, Phase, Retry, SessionEvent, TokenEvent,
};
use super::policy::{Policy, Retries};
use crate::status::notice::{Notice, notices};
use crate::status::path::{PathChange, PathChangeReason};
use crate::status::{ErrorCode, Message, PlaneState, Reason, RetryAdvice, StopReason, WaitingFor};

/// One moment for all tests; times are seconds from it.
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to start from; the value does not matter")]
pub(super) fn base() -> Instant {
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BASE
}

pub(super) fn at(seconds: f64) -> Instant {
    base() + Duration::from_millis((seconds * 1000.0).round() as u64)
}

/// The defaults of product.md.
pub(super) fn policy() -> Policy {
    Policy {
        min_delay: Duration::from_secs(2),
        max_delay: Duration::from_secs(15),
        max_retries: Retries::AtMost(10),
        give_up_after: None,
        stuck_after: Duration::from_secs(30),
        disconnected_timeout: Duration::from_secs(4),
        ice_restart_attempts: 9,
        force_reconnect_after_drop: false,
        status_grace: Duration::from_secs(1),
        capture_retry_delay: Duration::from_secs(2),
        watches_consent: true,
        needs_network: true,
        signalling: super::policy::SignallingPolicy::default(),
        endpoints: 1,
    }
}

/// A brain and the story of what it shows and orders.
pub(super) struct Run {
    pub(super) brain: Supervisor,
    now: f64,
    story: Vec<String>,
    pub(super) newest: Attempt,
}

impl Run {
    pub(super) fn new(policy: Policy) -> Self {
        Self { brain: Supervisor::new(policy, 7, base()), now: 0.0, story: Vec::new(), newest: Attempt(0) }
    }

    pub(super) fn started(policy: Policy) -> Self {
        let mut run = Self::new(policy);
        run.hear(0.0, Event::Command(Command::Start));
        run.hear(0.0, Event::Media(Attempt(1), MediaEvent::Flowing));
        run
    }

    pub(super) fn on_air(policy: Policy) -> Self {
        let mut run = Self::started(policy);
        run.goes_on_air(0.0);
        run
    }

    /// Moves on by `seconds`, then hears.
    pub(super) fn hear(&mut self, seconds: f64, event: Event) -> Vec<Action> {
        self.now += seconds;
        let before = self.brain.status().clone();
        let orders = self.brain.step(at(self.now), event);
        for notice in notices(&before, self.brain.status()) {
            match notice {
                Notice::BroadcastStatus(broadcast) => {
                    let message = serde_json::to_value(broadcast.message).expect("json");
                    self.story.push(message.as_str().expect("text").to_owned());
                }
                Notice::BroadcastError(error) => self.story.push(format!("{:?}", error.code)),
                Notice::BroadcastStopped(stopped) => self.story.push(format!("stopped {:?}", stopped.reason)),
                Notice::ReconnectStuck(stuck) => self.story.push(format!("stuck {:.0}", stuck.since)),
                Notice::Gap(gap) => self.story.push(format!("gap {:.1}", gap.seconds)),
                Notice::PathChanged(change) => self.story.push(format!("{} -> {}", change.from, change.to)),
                Notice::GoingAway(going) => self.story.push(format!("going away {}", going.retry_after_ms)),
                Notice::TokenProviderError(error) => {
                    self.story.push(format!("no token {}", error.consecutive_failures))
                }
                Notice::ConnectionState(_) | Notice::CaptureStatus(_) | Notice::StreamWarning(_) | Notice::Stats(_) => {
                }
            }
        }
        for order in &orders {
            if let Action::Open { attempt: number, .. } = order {
                self.newest = *number;
            }
        }
        orders
    }

    pub(super) fn session(&mut self, seconds: f64, event: SessionEvent) -> Vec<Action> {
        let newest = self.newest;
        self.hear(seconds, Event::Session(newest, event))
    }

    /// The session fails, and its teardown hangs.
    fn hangs(&mut self, retry: Retry) -> Vec<Action> {
        let failure = Failure::new(Phase::Request, retry, ErrorCode::AuthFailed, "no");
        self.session(0.1, SessionEvent::Failed(failure))
    }

    /// The session fails, and is closed properly.
    fn fails(&mut self, retry: Retry) -> Vec<Action> {
        let orders = self.hangs(retry);
        self.session(0.0, SessionEvent::Closed);
        orders
    }

    pub(super) fn goes_on_air(&mut self, seconds: f64) {
        self.session(seconds, SessionEvent::Accepted { session_id: "/whip/1".into() });
        self.session(0.0, SessionEvent::Connected);
        self.session(0.0, SessionEvent::Acknowledged);
    }

    /// Acknowledgements once a second.
    pub(super) fn stays_on_air(&mut self, seconds: u32) {
        for _ in 0..seconds {
            assert_eq!(self.session(1.0, SessionEvent::Acknowledged), []);
        }
    }

    /// Moves on to the deadline; the answer is how long that took, and the orders.
    pub(super) fn due(&mut self) -> (f64, Vec<Action>) {
        let waited = (self.brain.deadline().expect("waits for something") - at(self.now)).as_secs_f64();
        // The story is told in ms, deadlines are finer.
        let waited = (waited * 1000.0).ceil() / 1000.0;
        (waited, self.hear(waited, Event::Deadline))
    }

    /// Until the deadline, ms.
    pub(super) fn until_due_ms(&self) -> Option<u64> {
        let left = self.brain.deadline()?.saturating_duration_since(at(self.now));
        u64::try_from(left.as_micros().div_ceil(1_000)).ok()
    }

    /// Time passes, and a deadline may have come.
    pub(super) fn hear_nothing(&mut self, seconds: f64) -> Vec<Action> {
        self.hear(seconds, Event::Deadline)
    }

    /// Waits until it opens the next session; the answer is how long that took.
    fn opens(&mut self) -> f64 {
        let mut waited = 0.0;
        loop {
            let (time, orders) = self.due();
            waited += time;
            if orders.iter().any(|order| matches!(order, Action::Open { .. })) {
                return waited;
            }
            assert_eq!(orders, [], "nothing else is ordered while it waits");
        }
    }

    pub(super) fn story(&mut self) -> Vec<String> {
        std::mem::take(&mut self.story)
    }
}

fn unlimited() -> Policy {
    Policy { max_retries: Retries::Unlimited, ..policy() }
}

#[test]
fn server_down_for_a_minute() {
    let mut run = Run::on_air(policy());
    assert_eq!(run.story(), ["signalling", "connected", "broadcasting"]);
    run.stays_on_air(5);
    run.fails(Retry::Backoff);
    let down_until = run.now + 60.0;
    let mut waits = vec![run.opens()];
    while run.now < down_until {
        run.fails(Retry::Backoff);
        waits.push(run.opens());
    }
    run.goes_on_air(0.1);
    assert!(waits.iter().all(|wait| (2.0..=15.001).contains(wait)), "{waits:?}");
    assert!((2.0..=2.4).contains(&waits[0]) && (4.0..=4.8).contains(&waits[1]) && (8.0..=9.6).contains(&waits[2]));
    let mut story = run.story();
    assert_eq!(story.iter().filter(|line| *line == "stuck 30").count(), 1, "told once: {story:?}");
    story.retain(|line| line != "AuthFailed" && line != "stuck 30");
    let (outage, last) = story.split_last_chunk::<3>().expect("a story");
    assert_eq!(last, &["connected", "broadcasting", "gap 65.2"], "from the last acknowledgement to the next");
    assert!(outage.chunks(2).all(|pair| pair == ["reconnecting_broadcast", "signalling"]), "{outage:?}");
}

/// The process was suspended, and the good news waits in the inbox before anything is due.
#[test]
fn a_gap_without_a_loss_is_told_too() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(5);
    run.story();
    assert_eq!(run.hear(8.0, Event::Woke), []);
    assert_eq!(run.session(0.0, SessionEvent::Acknowledged), []);
    run.stays_on_air(5);
    assert_eq!(run.story(), ["gap 8.0"], "once, and no outage");
}

/// However long it lasted, whatever waits in the inbox, and however much the receiver has told of its habit.
#[test]
fn a_suspended_process_does_not_hold_its_own_silence_against_the_far_end() {
    for (tenths, reports) in (20..600).flat_map(|tenths| [(tenths, 1), (tenths, 10)]) {
        let seconds = f64::from(tenths) / 10.0;
        let mut run = Run::on_air(policy());
        run.stays_on_air(reports);
        run.story();
        run.hear(seconds, Event::Woke);
        assert_eq!(run.hear(0.0, Event::Deadline), []);
        run.session(0.9, SessionEvent::Acknowledged);
        run.stays_on_air(5);
        let story = run.story();
        assert!(story.iter().all(|line| line.starts_with("gap")) && story.len() <= 1, "{seconds} s: {story:?}");
    }
}

/// The far end that has really gone is missed as long after the waking as ever.
#[test]
fn a_session_that_died_during_a_suspension_is_lost_after_it() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(10);
    run.story();
    run.hear(60.0, Event::Woke);
    let (waited, _) = run.due();
    assert!((10.0..=10.1).contains(&waited), "{waited}");
    assert_eq!(run.story().first().map(String::as_str), Some("reconnecting_broadcast"));
}

/// The session that is to take its place was being opened meanwhile.
#[test]
fn a_suspended_process_gives_its_next_session_the_time_that_it_slept() {
    let mut run = resuming(unlimited());
    run.session(0.1, resume_refused());
    assert_eq!(run.session(0.1, SessionEvent::Accepted { session_id: "/whip/2".into() }), []);
    run.hear(60.0, Event::Woke);
    assert_eq!(run.hear(0.0, Event::Deadline), []);
    run.session(0.1, SessionEvent::Connected);
    let orders = run.session(0.1, SessionEvent::Acknowledged);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
}

#[test]
fn a_move_within_the_session_is_told_and_nothing_else_changes() {
    let change = |to: &str| PathChange {
        from: "wlan0".into(),
        from_address: "192.168.1.5".into(),
        to: to.into(),
        to_address: "10.64.0.9".into(),
        why: PathChangeReason::AddressLost,
        gap_ms: 12,
    };
    let mut run = Run::on_air(policy());
    run.story();
    assert_eq!(run.session(1.0, SessionEvent::Moved(change("wwan0"))), []);
    assert_eq!(run.session(0.1, SessionEvent::Moved(change("wwan0"))), [], "the same move again is news again");
    assert_eq!(run.story(), ["wlan0 -> wwan0", "wlan0 -> wwan0"]);
    let path = run.brain.status().broadcast.as_ref().and_then(|broadcast| broadcast.path.clone());
    assert_eq!(path.as_deref(), Some("wwan0"));
    let old = Event::Session(Attempt(99), SessionEvent::Moved(change("eth0")));
    run.hear(0.1, old);
    assert_eq!(run.story(), [""; 0], "a voice from another session");
}

#[test]
fn nothing_listens_and_max_retries_is_three() {
    let mut run = Run::started(Policy { max_retries: Retries::AtMost(3), ..policy() });
    for attempt in 1..=3 {
        run.fails(Retry::Backoff);
        let shown = run.brain.status().broadcast.clone().expect("on air");
        assert_eq!((shown.attempt, shown.max_retries), (attempt, Some(3)));
        assert!((2.0..=15.001).contains(&run.opens()));
    }
    let orders = run.fails(Retry::Backoff);
    assert_eq!(run.newest, Attempt(4), "the first try and three retries");
    assert_eq!(
        orders,
        [Action::Close { attempt: Attempt(4), goodbye: true }, Action::StopCapture(Attempt(1))],
        "Exit waits for both"
    );
    let orders = run.hear(0.0, Event::Media(Attempt(1), MediaEvent::Stopped));
    assert_eq!(orders, [Action::Exit(StopReason::ReconnectionExhausted)]);
    let error = run.brain.status().error.clone().expect("an error");
    assert_eq!(error.words, "all 3 retries of `reconnect.maxRetries` have failed; the last failure: no");
    assert_eq!(run.story().last().expect("a story"), "stopped ReconnectionExhausted");
}

#[test]
fn max_retries_zero_ends_at_the_first_failure() {
    let mut run = Run::on_air(Policy { max_retries: Retries::AtMost(0), ..policy() });
    run.fails(Retry::Backoff);
    assert_eq!(run.brain.status().stopped, Some(StopReason::ReconnectionExhausted));
}

#[test]
fn a_second_401_is_final_even_with_other_failures_between() {
    let mut run = Run::started(unlimited());
    run.fails(Retry::Once);
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!(shown.waiting_for, Some(WaitingFor::Token));
    run.opens();
    run.fails(Retry::Backoff);
    run.opens();
    run.fails(Retry::Once);
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused));
    assert_eq!(run.brain.status().error.as_ref().map(|error| error.retry), Some(RetryAdvice::Never));
}

#[test]
fn a_401_after_the_token_was_good_begins_anew() {
    let mut run = Run::started(unlimited());
    for _ in 0..5 {
        run.fails(Retry::Once);
        run.opens();
        run.goes_on_air(0.1);
        run.fails(Retry::Backoff);
        run.opens();
    }
    assert_eq!(run.brain.status().stopped, None);
}

#[test]
fn a_servers_retry_after_is_kept_whoever_is_impatient() {
    let mut run = Run::started(policy());
    run.fails(Retry::After(Duration::from_secs(40)));
    let closed_at = run.now;
    for event in [
        Event::Command(Command::Reconnect),
        Event::Network(PathEvent::RouteAppeared),
        Event::Network(PathEvent::AllRoutesLost),
        Event::Network(PathEvent::RouteAppeared),
        Event::Command(Command::Stop),
        Event::Command(Command::Start),
    ] {
        let orders = run.hear(0.1, event);
        assert!(!orders.iter().any(|order| matches!(order, Action::Open { .. })), "{orders:?}");
    }
    run.hear(0.0, Event::Media(Attempt(1), MediaEvent::Stopped));
    run.hear(0.0, Event::Media(Attempt(2), MediaEvent::Flowing));
    run.opens();
    assert!((40.0..=44.001).contains(&(run.now - closed_at)), "{}", run.now - closed_at);
}

#[test]
fn without_a_network_nothing_is_tried_and_a_route_is_used_at_once() {
    let mut run = Run::on_air(Policy { max_retries: Retries::AtMost(1), ..policy() });
    run.hear(1.0, Event::Network(PathEvent::AllRoutesLost));
    run.fails(Retry::Backoff);
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!((shown.waiting_for, shown.retry_in), (Some(WaitingFor::Network), None));
    assert_eq!(shown.reason, Some(Reason::NetworkChange));
    for _ in 0..5 {
        // A try that the network is taken away from costs nothing.
        let orders = run.hear(3600.0, Event::Network(PathEvent::RouteAppeared));
        assert_eq!(orders, [Action::Open { attempt: run.newest, endpoint: 0 }]);
        run.hear(0.1, Event::Network(PathEvent::AllRoutesLost));
        run.fails(Retry::Backoff);
    }
    assert_eq!(run.brain.status().stopped, None);
    run.hear(1.0, Event::Network(PathEvent::RouteAppeared));
    run.fails(Retry::Backoff);
    assert_eq!(run.brain.status().stopped, Some(StopReason::ReconnectionExhausted));
}

#[test]
fn a_server_on_this_machine_needs_no_network() {
    let mut run = Run::new(Policy { needs_network: false, ..policy() });
    run.hear(0.0, Event::Network(PathEvent::AllRoutesLost));
    let orders = run.hear(0.0, Event::Command(Command::Start));
    assert_eq!(orders, [Action::StartCapture(Attempt(1)), Action::Open { attempt: Attempt(1), endpoint: 0 }]);
}

#[test]
fn a_flapping_server_uses_the_budget_up_a_stable_minute_restores_it() {
    let mut run = Run::on_air(Policy { max_retries: Retries::AtMost(2), ..policy() });
    for _ in 0..10 {
        run.stays_on_air(61);
        run.fails(Retry::Backoff);
        run.opens();
        run.goes_on_air(0.1);
    }
    for _ in 0..2 {
        assert_eq!(run.brain.status().stopped, None);
        run.stays_on_air(50);
        run.fails(Retry::Backoff);
        if run.brain.status().stopped.is_none() {
            run.opens();
            run.goes_on_air(0.1);
        }
    }
    assert_eq!(run.brain.status().stopped, Some(StopReason::ReconnectionExhausted));
}

#[test]
fn stop_says_goodbye_and_never_reconnects_until_start() {
    let mut run = Run::on_air(policy());
    let orders = run.hear(1.0, Event::Command(Command::Stop));
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }, Action::StopCapture(Attempt(1))]);
    assert_eq!(run.hear(0.0, Event::Command(Command::Reconnect)), []);
    assert_eq!(run.hear(0.0, Event::Network(PathEvent::RouteAppeared)), []);
    run.hear(0.1, Event::Session(Attempt(1), SessionEvent::Closed));
    run.hear(0.1, Event::Media(Attempt(1), MediaEvent::Stopped));
    assert_eq!(run.brain.deadline(), None);
    let orders = run.hear(9.0, Event::Command(Command::Start));
    assert_eq!(orders, [Action::StartCapture(Attempt(2)), Action::Open { attempt: Attempt(2), endpoint: 0 }]);
    assert_eq!(run.brain.status().stopped, None);
}

#[test]
fn shutdown_waits_for_teardown_but_not_for_ever_and_twice_is_at_once() {
    let shutdown = || Event::Command(Command::Shutdown(StopReason::Requested));
    let mut run = Run::on_air(policy());
    run.hear(1.0, shutdown());
    let (waited, orders) = run.due();
    assert_eq!((waited, orders), (1.5, vec![Action::Exit(StopReason::Requested)]));
    assert_eq!(run.hear(0.0, Event::Command(Command::Start)), []);
    assert_eq!(run.brain.deadline(), None);

    let mut run = Run::on_air(policy());
    run.hear(1.0, shutdown());
    assert_eq!(run.hear(0.1, shutdown()), [Action::Exit(StopReason::Requested)]);

    let mut run = Run::new(policy());
    assert_eq!(run.hear(0.0, shutdown()), [Action::Exit(StopReason::Requested)], "nothing is open");
}

#[test]
fn a_persons_reconnect_replaces_the_session_and_is_shown() {
    let mut run = Run::on_air(policy());
    run.story();
    let orders = run.hear(1.0, Event::Command(Command::Reconnect));
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
    assert_eq!(run.brain.status().broadcast.as_ref().and_then(|shown| shown.reason), Some(Reason::Operator));
    let (waited, orders) = run.due();
    assert_eq!((waited, orders), (0.0, vec![Action::Open { attempt: Attempt(2), endpoint: 0 }]));
    run.goes_on_air(0.1);
    assert_eq!(run.story(), ["reconnecting_broadcast", "signalling", "connected", "broadcasting", "gap 1.1"]);
}

#[test]
fn new_numbers_hold_for_the_wait_under_way() {
    let slow = Duration::from_secs(100);
    let mut run = Run::started(Policy { min_delay: slow, max_delay: slow, ..policy() });
    run.fails(Retry::Backoff);
    run.hear(1.0, Event::Command(Command::Policy(Box::new(policy()))));
    let waited = run.opens();
    assert!((13.9..14.1).contains(&waited), "15 s from the loss, 1 s of them gone: {waited}");
    run.fails(Retry::Backoff);
    run.hear(0.1, Event::Command(Command::Policy(Box::new(Policy { max_retries: Retries::AtMost(1), ..policy() }))));
    assert_eq!(run.brain.status().stopped, Some(StopReason::ReconnectionExhausted), "the second retry is one too many");
}

#[test]
fn the_camera_breaks_and_the_session_stays() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(20);
    let lost = Failure::new(Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost, "unplugged");
    assert_eq!(run.hear(0.5, Event::Media(Attempt(1), MediaEvent::Failed(lost))), [Action::StopCapture(Attempt(1))]);
    run.hear(0.1, Event::Media(Attempt(1), MediaEvent::Stopped));
    assert_eq!(run.due().1, [Action::StartCapture(Attempt(2))]);
    run.hear(20.0, Event::Media(Attempt(2), MediaEvent::Flowing));
    run.stays_on_air(3);
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!((shown.message, run.newest), (Message::Broadcasting, Attempt(1)));
}

#[test]
fn a_plugin_that_is_missing_at_the_start_is_a_bad_config() {
    let mut run = Run::new(policy());
    run.hear(0.0, Event::Command(Command::Start));
    let missing = Failure::new(Phase::Capture, Retry::Never, ErrorCode::EncoderFailed, "no `x264enc`");
    run.hear(0.1, Event::Media(Attempt(1), MediaEvent::Failed(missing)));
    assert_eq!(run.brain.status().stopped, Some(StopReason::BadConfig));
}

#[test]
fn three_teardowns_that_hang_end_the_process() {
    let mut run = Run::started(unlimited());
    for number in 1..=3 {
        run.hangs(Retry::Backoff);
        let stuck = Event::Session(Attempt(number), SessionEvent::TeardownStuck);
        assert_eq!(run.brain.status().stopped, None);
        run.hear(0.1, stuck);
        if number < 3 {
            run.opens();
        }
    }
    assert_eq!(run.brain.status().stopped, Some(StopReason::Internal));
}

#[test]
fn give_up_after_ends_the_outage_wherever_it_is() {
    let mut run = Run::started(Policy { give_up_after: Some(Duration::from_secs(20)), ..unlimited() });
    while run.brain.status().stopped.is_none() {
        run.due();
        if run.brain.status().signalling.state == PlaneState::Connecting {
            run.fails(Retry::Backoff);
        }
    }
    assert!((19.9..=20.2).contains(&run.now), "{}", run.now);
    assert_eq!(run.brain.status().stopped, Some(StopReason::ReconnectionExhausted));
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(5);
    run.brain.step(base(), Event::Session(Attempt(1), SessionEvent::Disconnected));
    assert_eq!(run.brain.deadline(), Some(at(run.now + 1.0)));
}

fn signalling_lost(retry: Retry) -> SessionEvent {
    SessionEvent::SignallingLost(Failure::new(Phase::Established, retry, ErrorCode::SignallingFailed, "1006"))
}

fn resume_failed(retry: Retry) -> SessionEvent {
    SessionEvent::ResumeFailed(Failure::new(Phase::Dial, retry, ErrorCode::SignallingFailed, "no"))
}

fn resume_refused() -> SessionEvent {
    SessionEvent::ResumeRefused(Failure::new(Phase::Request, Retry::Backoff, ErrorCode::NotFound, "no such session"))
}

/// On air, and the connection broke; the Resume is on its way.
fn resuming(policy: Policy) -> Run {
    let mut run = Run::on_air(policy);
    run.story();
    run.session(1.0, signalling_lost(Retry::Backoff));
    assert_eq!(run.due().1, [Action::Resume(Attempt(1))]);
    run
}

#[test]
fn a_lost_websocket_is_reopened_and_nobody_sees_a_flicker() {
    let mut run = Run::on_air(policy());
    run.story();
    assert_eq!(run.session(1.0, signalling_lost(Retry::Backoff)), []);
    assert_eq!(run.brain.status().signalling.state, PlaneState::Disconnected);
    for wait in [0.5, 1.0, 2.0] {
        let (waited, orders) = run.due();
        assert!((wait * 0.8..=wait * 1.2 + 0.001).contains(&waited), "{wait}: {waited}");
        assert_eq!(orders, [Action::Resume(Attempt(1))]);
        run.session(0.0, SessionEvent::Acknowledged);
        run.session(0.0, resume_failed(Retry::Backoff));
    }
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!((shown.message, shown.reason, shown.waiting_for), (Message::Broadcasting, None, None));
    run.due();
    let recovered_from = Some("/whip/1".to_owned());
    run.session(0.1, SessionEvent::SignallingResumed { session_id: "/whip/9".into(), recovered_from });
    assert_eq!(run.brain.status().signalling.state, PlaneState::Connected);
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!(shown.session_id.as_deref(), Some("/whip/9"));
    assert_eq!(shown.recovered_session_id.as_deref(), Some("/whip/1"));
    let mut story = run.story();
    story.retain(|line| line != "SignallingFailed");
    assert_eq!(story, ["broadcasting"], "told once, for the new name of the session");
}

#[test]
fn both_lost_is_a_full_reconnect() {
    let mut run = resuming(policy());
    let orders = run.hangs(Retry::Backoff);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
    assert!(run.opens() >= 2.0);
}

#[test]
fn a_kick_on_the_signalling_plane_is_final() {
    let mut run = Run::on_air(policy());
    run.session(1.0, signalling_lost(Retry::Never));
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused));
    let mut run = resuming(policy());
    run.session(0.1, resume_failed(Retry::Once));
    assert_eq!(run.brain.status().stopped, None);
    run.due();
    run.session(0.1, resume_failed(Retry::Once));
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused), "a fresh token was refused too");
}

#[test]
fn a_forgotten_session_feeds_until_the_new_one_is_proven() {
    let mut run = resuming(policy());
    run.story();
    let orders = run.session(0.1, resume_refused());
    assert_eq!(orders, [Action::Open { attempt: Attempt(2), endpoint: 0 }], "at once, and nothing is closed");
    assert_eq!(run.session(0.1, SessionEvent::Accepted { session_id: "/whip/2".into() }), []);
    assert_eq!(run.session(0.1, SessionEvent::Connected), []);
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!((shown.message, shown.session_id.as_deref()), (Message::Broadcasting, Some("/whip/1")));
    let orders = run.session(0.1, SessionEvent::Acknowledged);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
    let shown = run.brain.status().broadcast.clone().expect("on air");
    assert_eq!((shown.message, shown.session_id.as_deref()), (Message::Broadcasting, Some("/whip/2")));
    assert_eq!(run.brain.status().signalling.state, PlaneState::Connected);
    assert_eq!(run.story(), ["NotFound", "broadcasting"]);
}

#[test]
fn a_heir_that_fails_is_tried_again_and_takes_over_when_the_old_session_dies() {
    let mut run = resuming(policy());
    run.session(0.1, resume_refused());
    assert_eq!(run.fails(Retry::Backoff), [Action::Close { attempt: Attempt(2), goodbye: true }]);
    run.hear(0.1, Event::Session(Attempt(1), SessionEvent::Acknowledged));
    let (waited, orders) = run.due();
    assert!((2.0..=4.9).contains(&waited), "{waited}");
    assert_eq!(orders, [Action::Open { attempt: Attempt(3), endpoint: 0 }]);
    run.story();
    let died = Failure::new(Phase::Established, Retry::Backoff, ErrorCode::IceConnectionFailed, "ICE");
    let orders = run.hear(0.1, Event::Session(Attempt(1), SessionEvent::Failed(died)));
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
    run.goes_on_air(0.1);
    assert_eq!(run.story(), ["IceConnectionFailed", "reconnecting_broadcast", "connected", "broadcasting", "gap 4.8"]);
}

#[test]
fn going_away_is_told_and_its_hint_kept_by_resume_and_open_alike() {
    for full in [false, true] {
        let mut run = Run::on_air(policy());
        run.story();
        run.session(1.0, SessionEvent::GoingAway { retry_after: Duration::from_secs(10) });
        let told_at = run.now;
        run.session(0.5, if full { SessionEvent::Closed } else { signalling_lost(Retry::Backoff) });
        if full {
            let shown = run.brain.status().broadcast.clone().expect("on air");
            assert_eq!(shown.waiting_for, Some(WaitingFor::ServerRetryAfter));
        }
        run.hear(0.1, Event::Network(PathEvent::RouteAppeared));
        let orders = loop {
            run.session(0.0, SessionEvent::Acknowledged);
            let left = (run.brain.deadline().expect("waits") - at(run.now)).as_secs_f64();
            if left <= 1.0 {
                break run.due().1;
            }
            run.now += 1.0;
        };
        assert_eq!(orders.len(), 1, "{orders:?}");
        let waited = run.now - told_at;
        assert!((10.0..=11.001).contains(&waited), "{waited}");
        assert_eq!(run.story()[0], "going away 10000");
    }
}

#[test]
fn the_onward_leg_of_the_server_is_shown() {
    let mut run = Run::on_air(policy());
    run.story();
    run.session(1.0, SessionEvent::Output { reconnecting: true });
    run.session(1.0, SessionEvent::Output { reconnecting: false });
    assert_eq!(run.story(), ["reconnecting", "broadcasting"]);
}

#[test]
fn a_provider_without_tokens_is_told_and_ends_nothing() {
    let no_token = || Failure::new(Phase::Request, Retry::Backoff, ErrorCode::TokenProviderFailed, "no such file");
    let mut run = Run::on_air(Policy { max_retries: Retries::AtMost(1), ..policy() });
    run.story();
    for _ in 0..4 {
        assert_eq!(run.hear(0.5, Event::Token(TokenEvent::Failed(no_token()))), []);
    }
    assert_eq!(run.story(), ["TokenProviderFailed", "no token 3", "no token 4"]);
    run.fails(Retry::Backoff);
    for _ in 0..5 {
        run.opens();
        run.session(0.1, SessionEvent::Failed(no_token()));
        run.session(0.0, SessionEvent::Closed);
        let shown = run.brain.status().broadcast.clone().expect("on air");
        assert_eq!(shown.waiting_for, Some(WaitingFor::Token));
    }
    run.hear(0.1, Event::Token(TokenEvent::Recovered));
    assert_eq!(run.brain.status().token_failures, 0);
}

#[test]
fn a_taken_slot_is_left_alone_for_thirty_seconds_whoever_is_impatient() {
    let mut run = Run::started(policy());
    let taken = Failure::new(Phase::Request, Retry::Backoff, ErrorCode::ConcurrentLimit, "4010");
    run.session(0.1, SessionEvent::Failed(taken));
    run.session(0.0, SessionEvent::Closed);
    let failed_at = run.now;
    assert_eq!(run.hear(1.0, Event::Network(PathEvent::RouteAppeared)), []);
    assert_eq!(run.hear(1.0, Event::Command(Command::Reconnect)), []);
    run.opens();
    assert!((30.0..=33.001).contains(&(run.now - failed_at)), "{}", run.now - failed_at);
}

#[test]
fn who_is_evicted_rejoins_at_min_delay() {
    let mut run = Run::on_air(unlimited());
    for _ in 0..5 {
        let evicted = Failure::new(Phase::Established, Retry::Backoff, ErrorCode::NetworkDisconnect, "evicted");
        run.session(1.0, SessionEvent::Failed(evicted));
        run.session(0.0, SessionEvent::Closed);
        let waited = run.opens();
        assert!((2.0..=2.401).contains(&waited), "{waited}");
        run.goes_on_air(0.1);
    }
}

#[test]
fn the_second_server_serves_while_the_first_is_down_and_the_way_back_has_no_gap() {
    let mut run = Run::started(Policy { endpoints: 2, ..unlimited() });
    for endpoint in [0, 1] {
        let orders = run.fails(Retry::Backoff);
        assert_eq!(orders.len(), 1);
        run.opens();
        assert_eq!(run.newest, Attempt(2 + endpoint));
    }
    run.goes_on_air(0.1);
    run.story();
    let since = run.now;
    let open = loop {
        let orders = run.session(1.0, SessionEvent::Acknowledged);
        assert_eq!(orders, []);
        if run.brain.deadline().is_some_and(|deadline| deadline <= at(run.now + 1.0)) && run.now - since > 290.0 {
            break run.due().1;
        }
    };
    assert_eq!(open, [Action::Open { attempt: Attempt(4), endpoint: 0 }]);
    assert!((299.0..=301.0).contains(&(run.now - since)), "{}", run.now - since);
    run.session(0.1, SessionEvent::Accepted { session_id: "/first/1".into() });
    run.session(0.1, SessionEvent::Connected);
    let orders = run.session(0.1, SessionEvent::Acknowledged);
    assert_eq!(orders, [Action::Close { attempt: Attempt(3), goodbye: true }, Action::RememberProof { endpoint: 0 }]);
    assert_eq!(run.story(), ["broadcasting"], "told once, for the other session");
}

#[test]
fn a_server_that_knows_us_not_is_no_end_while_there_is_another() {
    let mut run = Run::started(Policy { endpoints: 2, ..unlimited() });
    let unknown = || Failure::new(Phase::Request, Retry::Never, ErrorCode::NotFound, "404");
    run.session(0.1, SessionEvent::Failed(unknown()));
    run.session(0.0, SessionEvent::Closed);
    run.opens();
    run.session(0.1, SessionEvent::Failed(unknown()));
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused));
    assert_eq!(run.newest, Attempt(2));
}

fn slot_taken(retry: Retry) -> SessionEvent {
    SessionEvent::Failed(Failure::new(Phase::Request, retry, ErrorCode::ConcurrentLimit, "4010"))
}

#[test]
fn the_first_401_asks_for_another_token_at_once_and_the_second_is_final() {
    let mut run = Run::started(unlimited());
    run.fails(Retry::Once);
    assert_eq!(run.due(), (0.0, vec![Action::Open { attempt: Attempt(2), endpoint: 0 }]));
    run.fails(Retry::Once);
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused));
}

#[test]
fn a_provider_that_gives_the_refused_token_again_is_told_and_given_time() {
    let mut run = Run::started(Policy { max_retries: Retries::AtMost(1), ..policy() });
    run.story();
    run.fails(Retry::Once);
    assert_eq!(run.opens(), 0.0);
    let stale = Failure::new(Phase::Request, Retry::Backoff, ErrorCode::TokenProviderFailed, "the same token");
    run.session(0.1, SessionEvent::Failed(stale));
    run.session(0.0, SessionEvent::Closed);
    assert!(run.story().contains(&"TokenProviderFailed".to_owned()));
    let waited = run.opens();
    assert!((2.0..=2.401).contains(&waited), "{waited}");
    run.goes_on_air(0.1);
}

#[test]
fn an_expired_token_on_the_signalling_plane_is_replaced_at_once_and_media_stays() {
    let mut run = Run::on_air(policy());
    run.story();
    run.session(1.0, signalling_lost(Retry::Once));
    assert_eq!(run.due(), (0.0, vec![Action::Resume(Attempt(1))]));
    run.session(0.1, SessionEvent::SignallingResumed { session_id: "/whip/1".into(), recovered_from: None });
    assert_eq!(run.story(), ["SignallingFailed"]);
}

#[test]
fn a_server_that_takes_a_token_and_refuses_it_again_does_not_make_us_spin() {
    let mut run = Run::on_air(unlimited());
    let mut hurried = Vec::new();
    for _ in 0..20 {
        run.fails(Retry::Once);
        if run.opens() < 2.0 {
            hurried.push(run.now);
        }
        run.goes_on_air(0.1);
    }
    assert!(hurried.len() >= 2 && hurried.windows(2).all(|two| two[1] - two[0] >= 60.0), "once a minute: {hurried:?}");
}

#[test]
fn a_slot_that_somebody_else_has_is_tried_every_thirty_seconds() {
    let mut run = Run::started(unlimited());
    for retry in [Retry::Backoff, Retry::After(Duration::from_secs(5)), Retry::After(Duration::from_secs(30))] {
        run.session(0.1, slot_taken(retry));
        run.session(0.0, SessionEvent::Closed);
        run.hear(1.0, Event::Network(PathEvent::RouteAppeared));
        let shown = run.brain.status().broadcast.clone().expect("on air");
        assert_eq!(shown.waiting_for, Some(WaitingFor::ServerRetryAfter), "{retry:?}");
        let waited = 1.0 + run.opens();
        assert!((30.0..=33.001).contains(&waited), "{retry:?}: {waited}");
    }
}

#[test]
fn a_forgotten_session_that_holds_the_slot_makes_way_and_the_next_comes_when_it_is_closed() {
    for is_silent in [false, true] {
        let mut run = resuming(unlimited());
        run.session(0.1, resume_refused());
        let orders = run.session(0.1, slot_taken(Retry::After(Duration::from_secs(30))));
        let close = |number| Action::Close { attempt: Attempt(number), goodbye: true };
        assert_eq!(orders, [close(2), close(1)], "the heir has failed, and the old session is in its way");
        assert_eq!(run.brain.status().broadcast.as_ref().expect("on air").message, Message::ReconnectingBroadcast);
        let next = [Action::Open { attempt: Attempt(3), endpoint: 0 }];
        run.hear(0.1, Event::Session(Attempt(2), SessionEvent::Closed));
        if is_silent {
            assert_eq!(run.due(), (1.4, next.to_vec()), "a goodbye takes no longer");
        } else {
            assert_eq!(run.hear(0.1, Event::Session(Attempt(1), SessionEvent::Closed)), next);
        }
        // Somebody else has it, then.
        run.session(0.1, slot_taken(Retry::After(Duration::from_secs(30))));
        run.session(0.0, SessionEvent::Closed);
        let waited = run.opens();
        assert!((30.0..=33.001).contains(&waited), "{waited}");
    }
}

#[test]
fn a_forgotten_session_feeds_on_when_the_server_wants_us_to_stay_away_for_longer() {
    let mut run = resuming(unlimited());
    run.session(0.1, resume_refused());
    let orders = run.session(0.1, slot_taken(Retry::After(Duration::from_secs(90))));
    assert_eq!(orders, [Action::Close { attempt: Attempt(2), goodbye: true }]);
    assert_eq!(run.brain.status().broadcast.as_ref().expect("on air").message, Message::Broadcasting);
}

#[test]
fn give_up_after_twenty_minutes_is_twenty_minutes() {
    let minutes = Duration::from_secs(20 * 60);
    let mut run = Run::on_air(Policy { give_up_after: Some(minutes), ..unlimited() });
    run.stays_on_air(3);
    run.fails(Retry::Backoff);
    let lost_at = run.now;
    while run.brain.status().stopped.is_none() {
        assert!(run.now - lost_at < 1200.0, "it goes on");
        run.due();
        if run.brain.status().signalling.state == PlaneState::Connecting {
            run.fails(Retry::Backoff);
        }
    }
    assert!((1200.0..1200.2).contains(&(run.now - lost_at)), "{}", run.now - lost_at);
}

fn refused(after: Option<u64>, code: ErrorCode) -> SessionEvent {
    let retry = Retry::IfProven { after: after.map(Duration::from_secs) };
    SessionEvent::Failed(Failure::new(Phase::Request, retry, code, "no such path"))
}

fn slot_busy() -> SessionEvent {
    SessionEvent::Failed(Failure::new(Phase::Request, Retry::Busy { after: None }, ErrorCode::ConcurrentLimit, "409"))
}

fn lost() -> SessionEvent {
    SessionEvent::Failed(Failure::new(Phase::Established, Retry::Backoff, ErrorCode::NetworkDisconnect, "gone"))
}

#[test]
fn a_refusal_is_final_only_where_no_media_was_ever_acknowledged() {
    for code in [ErrorCode::NotFound, ErrorCode::AuthFailed, ErrorCode::BadAnswer, ErrorCode::UntrustedRedirect] {
        let mut run = Run::started(policy());
        run.session(0.1, refused(None, code));
        assert_eq!(run.brain.status().stopped, Some(StopReason::Refused), "{code:?}: never proven");

        let mut run = Run::started(unlimited());
        let orders = run.session(0.1, SessionEvent::Accepted { session_id: "/whip/1".into() });
        assert_eq!(orders, [], "accepted is not proven");
        run.session(0.0, SessionEvent::Connected);
        let orders = run.session(0.0, SessionEvent::Acknowledged);
        assert_eq!(orders, [Action::RememberProof { endpoint: 0 }]);
        run.session(1.0, lost());
        for _ in 0..40 {
            run.session(0.0, SessionEvent::Closed);
            assert!(run.opens() <= 15.0, "as after a 503");
            run.session(0.1, refused(None, code));
            let told = run.brain.status().error.clone().expect("told");
            assert_eq!((told.code, told.words.as_str()), (code, "no such path"), "words and code are kept");
            assert_eq!((run.brain.status().stopped, told.retry), (None, RetryAdvice::Backoff));
        }
        run.session(0.0, SessionEvent::Closed);
        run.opens();
        run.goes_on_air(0.1);
        assert_eq!(run.brain.status().broadcast.clone().expect("on air").message, Message::Broadcasting);
    }
}

#[test]
fn a_proof_of_an_earlier_process_counts_and_a_servers_hint_is_kept() {
    let mut run = Run::new(unlimited());
    run.brain = Supervisor::new(unlimited(), 7, base()).with_memory(&[0], false);
    run.hear(0.0, Event::Command(Command::Start));
    run.session(0.1, refused(Some(20), ErrorCode::NotFound));
    run.session(0.0, SessionEvent::Closed);
    let shown = run.brain.status().broadcast.clone().expect("not stopped");
    assert_eq!(shown.waiting_for, Some(WaitingFor::ServerRetryAfter));
    let waited = run.opens();
    assert!((20.0..=22.001).contains(&waited), "{waited}");
    let orders = run.session(0.1, SessionEvent::Accepted { session_id: "/whip/1".into() });
    assert_eq!(orders, []);
    run.session(0.0, SessionEvent::Connected);
    assert_eq!(run.session(0.0, SessionEvent::Acknowledged), [], "it is written down already");
}

#[test]
fn terminal_codes_and_401_twice_end_what_is_proven_too() {
    let mut run = Run::on_air(unlimited());
    run.session(1.0, lost());
    run.session(0.0, SessionEvent::Closed);
    run.opens();
    run.session(
        0.1,
        SessionEvent::Failed(Failure::new(Phase::Request, Retry::Never, ErrorCode::AdminDisconnect, "4020")),
    );
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused));
    let mut run = Run::on_air(unlimited());
    run.session(1.0, lost());
    for _ in 0..2 {
        assert_eq!(run.brain.status().stopped, None);
        run.session(0.0, SessionEvent::Closed);
        run.opens();
        run.fails(Retry::Once);
    }
    assert_eq!(run.brain.status().stopped, Some(StopReason::Refused));
}

#[test]
fn a_refused_resume_of_signalling_that_is_proven_is_tried_again() {
    let mut run = resuming(policy());
    let proxy = Retry::IfProven { after: None };
    run.session(0.1, resume_failed(proxy));
    assert_eq!(run.brain.status().stopped, None);
    run.session(0.0, SessionEvent::Acknowledged);
    assert_eq!(run.due().1, [Action::Resume(Attempt(1))]);
}

/// product.md: 3, 6, 12 s, then >= 30 s; after the next loss anew. Where we had no session: >= 30 s at once.
#[test]
fn the_slot_of_our_own_lost_session_is_asked_for_sooner() {
    let mut run = Run::on_air(unlimited());
    for _ in 0..2 {
        run.session(5.0, lost());
        run.session(0.0, SessionEvent::Closed);
        run.opens();
        for wait in [3.0, 6.0, 12.0, 30.0, 30.0] {
            run.session(0.0, slot_busy());
            run.session(0.0, SessionEvent::Closed);
            let waited = run.opens();
            assert!((wait..=wait * 1.1 + 0.001).contains(&waited), "{wait}: {waited}");
        }
        run.goes_on_air(0.1);
    }
    let mut run = Run::started(unlimited());
    run.session(0.1, slot_busy());
    run.session(0.0, SessionEvent::Closed);
    assert!(run.opens() >= 30.0, "it is somebody else's");
    // 4010 says that it is a cap, not a ghost.
    let mut run = Run::on_air(unlimited());
    run.session(5.0, lost());
    run.session(0.0, SessionEvent::Closed);
    run.opens();
    run.session(0.0, slot_taken(Retry::After(Duration::from_secs(30))));
    run.session(0.0, SessionEvent::Closed);
    assert!(run.opens() >= 30.0);
}

#[test]
fn a_session_left_by_an_earlier_process_may_hold_the_slot() {
    let mut run = Run::new(unlimited());
    run.brain = Supervisor::new(unlimited(), 7, base()).with_memory(&[], true);
    run.hear(0.0, Event::Command(Command::Start));
    run.session(0.1, slot_busy());
    run.session(0.0, SessionEvent::Closed);
    let waited = run.opens();
    assert!((3.0..=3.301).contains(&waited), "{waited}");
}

/// A server that has no word for a busy slot: 400 "already has a host", while the session whose media is lost holds it.
#[test]
fn a_session_without_media_makes_way_for_the_one_that_is_refused_beside_it() {
    let mut run = Run::on_air(unlimited());
    run.session(1.0, SessionEvent::IceFailed);
    assert_eq!(run.due().1, [Action::RestartIce(Attempt(1))]);
    let no = Failure::new(Phase::Request, Retry::IfProven { after: None }, ErrorCode::NotFound, "405");
    let orders = run.session(0.1, SessionEvent::IceRestartRefused(no));
    assert_eq!(orders, [Action::Open { attempt: Attempt(2), endpoint: 0 }]);
    let close = |number| Action::Close { attempt: Attempt(number), goodbye: true };
    assert_eq!(run.session(0.1, refused(None, ErrorCode::BadAnswer)), [close(2), close(1)]);
    assert_eq!(run.brain.status().stopped, None);
    run.session(0.0, SessionEvent::Closed);
    let orders = run.hear(0.1, Event::Session(Attempt(1), SessionEvent::Closed));
    assert_eq!(orders, [Action::Open { attempt: Attempt(3), endpoint: 0 }], "at once");
    // And when the server is slow to free it:
    for wait in [3.0, 6.0, 12.0, 30.0] {
        run.session(0.0, slot_busy());
        run.session(0.0, SessionEvent::Closed);
        let waited = run.opens();
        assert!((wait..=wait * 1.1 + 0.001).contains(&waited), "{wait}: {waited}");
    }
    run.goes_on_air(0.1);
}
