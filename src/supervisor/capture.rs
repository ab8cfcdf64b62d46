//! Pure: the capture side - one studio at a time, opened again when it breaks. The network never stops it (law 3).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::status::{CaptureState, StreamWarning};

use super::backoff::after;
use super::event::{Action, Attempt, Failure, MediaEvent, Retry};
use super::policy::Policy;

/// A source that has given no frame for this long hangs. Slow RTSP cameras need up to 20 s.
const STARTING_TIMEOUT: Duration = Duration::from_secs(30);
/// A studio that has not let go of its devices after this long never will; the next one is tried all the same.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait between tries doubles up to this: somebody who plugs the camera in again should not stand and wait.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Never less, whatever the config says.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// A camera that has delivered for this long was sound: the next trouble starts with the short wait again.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// The machine of the capture side.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    state: State,
    last: Attempt,
    /// Frames have come at some time: the config fits this machine.
    has_flowed: bool,
    failures: u32,
}

#[derive(Debug, Clone)]
enum State {
    Off,
    Starting { until: Instant },
    Flowing { since: Instant },
    Stopping { until: Instant, restart: Option<Instant>, shown: CaptureState },
    Waiting { until: Instant, shown: CaptureState },
}

/// What the rest of the brain must know of a voice from the studio.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// Nothing.
    Fine,
    /// Frames come out.
    Flows,
    /// No frames, for now; the machine sees to it.
    Broken(Option<Failure>),
    /// The very first start failed in a way that no retry mends.
    Hopeless(Failure),
    /// Played to the end.
    Ended,
    /// What the operator should know of the stream.
    Warnings(BTreeSet<StreamWarning>),
}

impl Capture {
    pub(super) const fn new() -> Self {
        Self { state: State::Off, last: Attempt(0), has_flowed: false, failures: 0 }
    }

    /// Opens the studio, as soon as the one before is gone.
    pub(super) fn start(&mut self, now: Instant, orders: &mut Vec<Action>) {
        match &mut self.state {
            State::Off | State::Waiting { .. } => self.open(now, orders),
            State::Stopping { restart, .. } => *restart = Some(now),
            State::Starting { .. } | State::Flowing { .. } => {}
        }
    }

    /// Closes the studio for good.
    pub(super) fn stop(&mut self, now: Instant, orders: &mut Vec<Action>) {
        self.failures = 0;
        match &mut self.state {
            State::Off => {}
            State::Waiting { .. } => self.state = State::Off,
            State::Stopping { restart, shown, .. } => {
                *restart = None;
                *shown = CaptureState::Stopped;
            }
            State::Starting { .. } | State::Flowing { .. } => self.close(now, None, CaptureState::Stopped, orders),
        }
    }

    /// The studio of this number speaks.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        attempt: Attempt,
        event: MediaEvent,
        policy: &Policy,
        orders: &mut Vec<Action>,
    ) -> Heard {
        if attempt != self.last {
            return Heard::Fine;
        }
        match (&self.state, event) {
            (_, MediaEvent::Warnings(warnings)) => Heard::Warnings(warnings),
            (State::Off | State::Waiting { .. }, _) => Heard::Fine,
            (State::Stopping { .. }, event) => {
                if event == MediaEvent::Stopped {
                    self.stopped(now, orders);
                }
                Heard::Fine
            }
            (State::Flowing { .. }, MediaEvent::Flowing) => Heard::Fine,
            (State::Starting { .. }, MediaEvent::Flowing) => {
                self.has_flowed = true;
                self.state = State::Flowing { since: now };
                Heard::Flows
            }
            (State::Starting { .. } | State::Flowing { .. }, MediaEvent::Ended) => {
                self.close(now, None, CaptureState::Ended, orders);
                Heard::Ended
            }
            (State::Starting { .. } | State::Flowing { .. }, MediaEvent::Stalled) => {
                self.broke(now, CaptureState::Stalled, policy, orders);
                Heard::Broken(None)
            }
            (State::Starting { .. } | State::Flowing { .. }, MediaEvent::Failed(failure)) => {
                self.broke(now, CaptureState::Failed, policy, orders);
                if failure.retry == Retry::Never && !self.has_flowed {
                    Heard::Hopeless(failure)
                } else {
                    Heard::Broken(Some(failure))
                }
            }
            (State::Starting { .. } | State::Flowing { .. }, MediaEvent::Stopped) => {
                self.broke(now, CaptureState::Failed, policy, orders);
                self.stopped(now, orders);
                Heard::Broken(None)
            }
        }
    }

    /// Sees to what has come due.
    pub(super) fn due(&mut self, now: Instant, policy: &Policy, orders: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.state {
            State::Off | State::Flowing { .. } => {}
            State::Starting { .. } => self.broke(now, CaptureState::Stalled, policy, orders),
            State::Stopping { .. } => self.stopped(now, orders),
            State::Waiting { .. } => self.open(now, orders),
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Off | State::Flowing { .. } => None,
            State::Starting { until } | State::Stopping { until, .. } | State::Waiting { until, .. } => Some(until),
        }
    }

    /// Encoded frames come out just now.
    pub(super) const fn is_flowing(&self) -> bool {
        matches!(self.state, State::Flowing { .. })
    }

    /// No studio is open.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Off | State::Waiting { .. })
    }

    pub(super) const fn state(&self) -> CaptureState {
        match self.state {
            State::Off => CaptureState::Stopped,
            State::Starting { .. } => CaptureState::Starting,
            State::Flowing { .. } => CaptureState::Flowing,
            State::Stopping { shown, .. } | State::Waiting { shown, .. } => shown,
        }
    }

    fn open(&mut self, now: Instant, orders: &mut Vec<Action>) {
        self.last = self.last.next();
        self.state = State::Starting { until: now + STARTING_TIMEOUT };
        orders.push(Action::StartCapture(self.last));
    }

    fn close(&mut self, now: Instant, restart: Option<Instant>, shown: CaptureState, orders: &mut Vec<Action>) {
        self.state = State::Stopping { until: now + STOPPING_TIMEOUT, restart, shown };
        orders.push(Action::StopCapture(self.last));
    }

    fn broke(&mut self, now: Instant, shown: CaptureState, policy: &Policy, orders: &mut Vec<Action>) {
        let was_sound = matches!(self.state, State::Flowing { since } if now >= since + SOUND_AFTER);
        self.failures = if was_sound { 1 } else { self.failures.saturating_add(1) };
        let first = policy.capture_retry_delay.max(RETRY_MIN);
        let doubled = first.saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        self.close(now, Some(after(now, doubled.min(RETRY_MAX.max(first)))), shown, orders);
    }

    /// The studio has let go, or has had its time.
    fn stopped(&mut self, now: Instant, orders: &mut Vec<Action>) {
        let State::Stopping { restart, shown, .. } = self.state else { return };
        match restart {
            None => self.state = State::Off,
            Some(until) if until > now => self.state = State::Waiting { until, shown },
            Some(_) => self.open(now, orders),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ErrorCode;
    use crate::supervisor::event::Phase;
    use crate::supervisor::tests::{at, policy};

    struct Studio {
        machine: Capture,
        orders: Vec<Action>,
    }

    impl Studio {
        fn started() -> Self {
            let mut studio = Self { machine: Capture::new(), orders: Vec::new() };
            studio.machine.start(at(0.0), &mut studio.orders);
            studio
        }
        fn hear(&mut self, seconds: f64, event: MediaEvent) -> Heard {
            let number = self.machine.last;
            self.machine.hear(at(seconds), number, event, &policy(), &mut self.orders)
        }
        fn due(&mut self) -> Instant {
            let deadline = self.machine.deadline().expect("waits for something");
            self.machine.due(deadline, &policy(), &mut self.orders);
            deadline
        }
        fn orders(&mut self) -> Vec<Action> {
            std::mem::take(&mut self.orders)
        }
    }

    fn failure(retry: Retry) -> MediaEvent {
        MediaEvent::Failed(Failure::new(Phase::Capture, retry, ErrorCode::CaptureLost, "`/dev/video0`: no such device"))
    }

    #[test]
    fn a_broken_camera_is_let_go_and_opened_again_after_the_retry_delay() {
        let mut studio = Studio::started();
        assert_eq!(studio.hear(0.5, MediaEvent::Flowing), Heard::Flows);
        assert!(matches!(studio.hear(20.0, failure(Retry::Backoff)), Heard::Broken(Some(_))));
        assert_eq!(studio.orders(), [Action::StartCapture(Attempt(1)), Action::StopCapture(Attempt(1))]);
        assert_eq!(studio.hear(20.1, MediaEvent::Stopped), Heard::Fine);
        assert_eq!(studio.machine.state(), CaptureState::Failed);
        assert_eq!(studio.due(), at(20.0) + policy().capture_retry_delay);
        assert_eq!(studio.orders(), [Action::StartCapture(Attempt(2))]);
    }

    #[test]
    fn a_studio_that_does_not_let_go_is_left_after_five_seconds() {
        let mut studio = Studio::started();
        studio.hear(1.0, MediaEvent::Stalled);
        assert_eq!(studio.due(), at(6.0));
        assert_eq!(studio.orders().last(), Some(&Action::StartCapture(Attempt(2))));
        assert_eq!(
            studio.machine.hear(at(7.0), Attempt(1), MediaEvent::Stopped, &policy(), &mut Vec::new()),
            Heard::Fine
        );
        assert_eq!(studio.machine.state(), CaptureState::Starting);
    }

    #[test]
    fn the_wait_grows_to_fifteen_seconds_and_is_short_again_after_a_sound_spell() {
        let mut studio = Studio::started();
        let mut now = 0.0;
        let mut waits = Vec::new();
        for _ in 0..6 {
            studio.hear(now, failure(Retry::Backoff));
            studio.hear(now, MediaEvent::Stopped);
            let due = studio.due();
            waits.push((due - at(now)).as_secs());
            now = (due - at(0.0)).as_secs_f64();
        }
        assert_eq!(waits, [2, 4, 8, 15, 15, 15]);
        studio.hear(now, MediaEvent::Flowing);
        studio.hear(now + 10.0, MediaEvent::Stalled);
        studio.hear(now + 10.0, MediaEvent::Stopped);
        assert_eq!(studio.due(), at(now + 12.0));
    }

    #[test]
    fn never_at_the_first_start_is_hopeless_but_later_it_is_not() {
        let mut studio = Studio::started();
        assert!(matches!(studio.hear(0.1, failure(Retry::Never)), Heard::Hopeless(_)));
        let mut studio = Studio::started();
        studio.hear(0.1, MediaEvent::Flowing);
        assert!(matches!(studio.hear(0.2, failure(Retry::Never)), Heard::Broken(Some(_))));
    }

    #[test]
    fn a_camera_that_hangs_at_the_start_is_opened_again() {
        let mut studio = Studio::started();
        studio.due();
        assert_eq!(studio.orders(), [Action::StartCapture(Attempt(1)), Action::StopCapture(Attempt(1))]);
    }

    #[test]
    fn stop_then_start_waits_for_the_old_studio() {
        let mut studio = Studio::started();
        studio.machine.stop(at(1.0), &mut studio.orders);
        studio.machine.start(at(1.1), &mut studio.orders);
        assert_eq!(studio.orders(), [Action::StartCapture(Attempt(1)), Action::StopCapture(Attempt(1))]);
        studio.hear(1.2, MediaEvent::Stopped);
        assert_eq!(studio.orders(), [Action::StartCapture(Attempt(2))]);
    }
}
