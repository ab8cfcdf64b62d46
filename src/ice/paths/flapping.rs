//! Pure: how far a path is trusted that answers. One whose lives are short must have lived for a while before media goes
//! there: by the time that it is found to answer and RTCP has followed it would be dead again. A path with a good record
//! is taken at once, whatever the others do; and a dead path in use is not kept for the sake of its past.

use std::time::{Duration, Instant};

/// A life (from the first answer after a silence to the last before the next) that is shorter was not worth a move: finding
/// out that a path is dead, and moving, takes up to half of it. No trial is longer than this either.
const LIFE_MIN: Duration = Duration::from_millis(1_250);
/// After one short life, which may be the stutter at the end of an outage; doubles with each further one in a row.
const TRIAL: Duration = Duration::from_millis(250);

/// The record of one path.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// The first answer after the last silence. `None`: it is silent now.
    alive_since: Option<Instant>,
    /// When the newest question was asked that it has answered.
    proved: Option<Instant>,
    /// Short lives in a row.
    short: u32,
}

impl Trust {
    /// To be told often. `alive`: nothing is missing that chance would not take; `proved` as [`Self::proved`].
    pub(super) fn look(&mut self, now: Instant, alive: bool, proved: Option<Instant>) {
        match (alive, self.alive_since) {
            (true, None) => self.alive_since = Some(now),
            (false, Some(_)) => {
                self.short = if self.life() < LIFE_MIN { self.short.saturating_add(1) } else { 0 };
                self.alive_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        self.proved = proved;
    }

    /// Its address has gone: that says nothing about its lives.
    pub(super) fn away(&mut self) {
        self.alive_since = None;
    }

    /// May media go there?
    pub(super) fn is_earned(&self) -> bool {
        let trial = self.short.checked_sub(1).map(|before| doubled(TRIAL, before, LIFE_MIN));
        trial.is_none_or(|trial| self.life() >= trial)
    }

    /// How long it has proved to live.
    fn life(&self) -> Duration {
        let life = self.alive_since.zip(self.proved).map(|(since, proved)| proved.saturating_duration_since(since));
        life.unwrap_or_default()
    }
}

/// Flaps are forgiven after so long without one.
const FORGIVE_AFTER: Duration = Duration::from_secs(120);

/// A path that was left or has come must be good for so long before media goes there by preference. Doubles with each flap.
const RETURN_AFTER: Duration = Duration::from_secs(5);

const RETURN_AFTER_MAX: Duration = Duration::from_secs(60);

/// After a socket could not be opened. Doubles up to 10 s.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(250);

const OPEN_AGAIN_AFTER_MAX: Duration = Duration::from_secs(10);

/// What is remembered of an address, also while it is away.
#[derive(Debug, Clone, Default)]
pub(super) struct Reputation {
    flaps: u32,
    pub(super) last_flap: Option<Instant>,
    pub(super) refusals: u32,
    pub(super) open_again: Option<Instant>,
    pub(super) renewals: u32,
    /// It has worked since it is here.
    pub(super) proved: bool,
    /// Of the direct way, and of the detour over a TURN server.
    pub(super) trust: [Trust; 2],
}

impl Reputation {
    /// It went away, or silent under our feet.
    pub(super) fn flap(&mut self, now: Instant) {
        let forgiven = self.last_flap.is_none_or(|last| now.saturating_duration_since(last) >= FORGIVE_AFTER);
        self.flaps = if forgiven { 1 } else { self.flaps.saturating_add(1) };
        self.last_flap = Some(now);
    }

    /// For how long it has to be good before it is gone back to.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let forgiven = self.last_flap.is_none_or(|last| now.saturating_duration_since(last) >= FORGIVE_AFTER);
        let flaps = if forgiven { 0 } else { self.flaps };
        doubled(RETURN_AFTER, flaps.saturating_sub(1), RETURN_AFTER_MAX)
    }

    pub(super) fn not_opened(&mut self, now: Instant) {
        self.open_again = Some(now + doubled(OPEN_AGAIN_AFTER, self.refusals, OPEN_AGAIN_AFTER_MAX));
        self.refusals = self.refusals.saturating_add(1);
    }
}

pub(super) fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    (first * 2_u32.pow(times.min(10))).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test needs some Instant to start from; the value does not matter")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A life of so many milliseconds, then silence. When it is over.
    fn live(trust: &mut Trust, from: Instant, ms: u64) -> Instant {
        trust.look(from, true, Some(from));
        let end = from + Duration::from_millis(ms);
        trust.look(end, true, Some(end));
        trust.look(end, false, Some(end));
        end + Duration::from_millis(500)
    }

    /// How long it has to live until media may go there.
    fn trial(mut trust: Trust, from: Instant) -> u64 {
        let earned = |ms: &u64| {
            let now = from + Duration::from_millis(*ms);
            trust.look(now, true, Some(now));
            trust.is_earned()
        };
        (0..5_000).find(earned).unwrap()
    }

    #[test]
    fn who_dies_young_again_and_again_has_to_live_longer_before_media_goes_there() {
        let (mut trust, mut now) = (Trust::default(), start());
        for expected in [0, 250, 500, 1_000, 1_250, 1_250] {
            assert_eq!(trial(trust.clone(), now), expected);
            now = live(&mut trust, now, 1_249);
        }
        now = live(&mut trust, now, 1_250);
        assert_eq!(trial(trust, now), 0, "one long life, and all is forgotten");
    }

    #[test]
    fn an_address_that_went_and_came_begins_a_new_life_with_its_old_record() {
        let (mut trust, mut now) = (Trust::default(), start());
        for _ in 0..4 {
            now = live(&mut trust, now, 100);
        }
        trust.look(now, true, Some(now));
        trust.away();
        assert_eq!(trial(trust, now + Duration::from_secs(60)), 1_250);
    }
}
