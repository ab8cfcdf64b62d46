//! Pure: the clock of acknowledgements - how long may the far end say nothing of our media before that is a stall?
//!
//! How often it reports is its own affair: several times a second (Janus, str0m), every 5 s +-50 % (RFC 3550, 6.2), only in
//! answer to our own sender reports (libdatachannel: after 0.3 s and 0.5 s, then every 3 to 7 s), or never (live777). So a
//! silence is held against the longest pause that this far end made lately. While ICE consent (RFC 7675) is fresh, its
//! transport lives, and there is no hurry: no silence is a stall that a slow far end could make. Who has never reported is
//! judged by consent alone.

use std::time::{Duration, Instant};

use super::backoff::after;
use super::policy::Policy;

/// Consent alone is believed after this (product.md): reports of most far ends have come by then.
const BELIEVED_AFTER: Duration = Duration::from_secs(5);
/// The first report after an interruption: even every 5 s +-50 % (RFC 3550, 6.2), two of them have room.
const PROOF_TIMEOUT: Duration = Duration::from_secs(15);
/// While consent is fresh: longer than the pauses of the slowest far end known (8 s), so that one that was quick and becomes
/// slow is given the time. It also bounds how soon a stall is noticed.
const CONSENTED: Patience = Patience { min: Duration::from_secs(10), pauses: 5, max: Duration::from_secs(40) };
/// Where missing reports alone tell a dead path: one report a second apart may be lost, and two in a row.
const UNCONSENTED: Patience = Patience { min: Duration::from_secs(3), pauses: 3, max: Duration::from_secs(24) };
/// By then a far end has shown how it reports: our own sender reports, which some wait for, are at most 7 s apart.
const SETTLED_AFTER: Duration = Duration::from_secs(20);
/// A pause that was longer than usual is forgotten after so many times its length: where one report in twenty is lost, the
/// last such pause is still known when several are lost in a row.
const FADING: u32 = 64;

/// How long a far end may be silent: so many of its pauses, within bounds.
#[derive(Debug, Clone, Copy)]
struct Patience {
    min: Duration,
    /// All reports but the last of so many may be lost. Five, as 5 % loss must not end a broadcast in hours.
    pauses: u32,
    max: Duration,
}

/// The clock of acknowledgements. It runs while ICE is connected and frames are being sent.
#[derive(Debug, Clone)]
pub(super) struct Acks {
    /// Frames are being sent; without them there is nothing to acknowledge.
    frames: bool,
    /// The far end has reported media since ICE was last shown as lost.
    proved: bool,
    /// When the clock was last started afresh: at a report, when ICE came up, when frames came back.
    started: Option<Instant>,
    /// The same, without what ICE says: an ICE that flaps cannot keep a dead session for ever.
    silent_since: Option<Instant>,
    /// The first and the last report.
    first: Option<Instant>,
    last: Option<Instant>,
    /// No report has come, and consent is believed: when it was last known to be fresh.
    consented: Option<Instant>,
    /// It has sent RTCP about our media, though perhaps no report.
    named: bool,
    /// The next pause would span an interruption: it says nothing about the far end's habit.
    interrupted: bool,
    /// The longest of the recent pauses.
    usual: Duration,
}

impl Acks {
    /// `frames`: the camera delivers just now.
    pub(super) const fn new(frames: bool) -> Self {
        Self {
            frames,
            proved: false,
            started: None,
            silent_since: None,
            first: None,
            last: None,
            consented: None,
            named: false,
            interrupted: false,
            usual: Duration::ZERO,
        }
    }

    /// A report says that new media of ours arrived.
    pub(super) fn reported(&mut self, now: Instant) {
        if let Some(last) = self.last.filter(|_| !self.interrupted) {
            // A pause that was taken for a stall may have been one, so it is not believed in full.
            let pause = now.saturating_duration_since(last).min(CONSENTED.max / CONSENTED.pauses);
            self.usual = pause.max(self.usual.saturating_sub(pause / FADING));
        }
        self.proved = true;
        self.named = true;
        self.interrupted = false;
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.started = Some(now);
        self.silent_since = Some(now);
        self.consented = None;
    }

    /// RTCP names our media and is no report. Who reports is judged by its reports: it may ask for keyframes by a timer.
    pub(super) fn named(&mut self, now: Instant, is_connected: bool) {
        self.named = true;
        if self.last.is_none() && is_connected && self.frames {
            self.consented = Some(now);
        }
    }

    /// Consent is fresh.
    pub(super) fn consented(&mut self, now: Instant) {
        self.consented = self.consented.map(|_| now);
    }

    /// ICE is up. `after_repair`: what was done about it gets as long to prove itself as a new session.
    pub(super) fn ice_up(&mut self, now: Instant, after_repair: bool) {
        self.started = Some(now);
        self.silent_since = self.silent_since.filter(|_| !after_repair).or(Some(now));
    }

    /// The pause until the next report is none of the far end's habits.
    pub(super) const fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// The loss is shown: what was proved must be proved again.
    pub(super) const fn doubt(&mut self) {
        self.proved = false;
    }

    /// The clock starts afresh: the silence was not the far end's.
    pub(super) fn restart(&mut self, now: Instant) {
        self.interrupted = true;
        self.started = self.started.map(|_| now);
        self.silent_since = self.silent_since.map(|_| now);
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        self.frames = flowing;
        self.restart(now);
    }

    /// The clock has run at some time.
    pub(super) const fn has_begun(&self) -> bool {
        self.silent_since.is_some()
    }

    /// Media arrives over there, by its reports or, where there are none, by its consent.
    pub(super) const fn is_believed(&self) -> bool {
        self.proved || self.consented.is_some()
    }

    /// It is believed by consent alone, and nothing that was received proves it.
    pub(super) const fn is_unproven(&self) -> bool {
        self.consented.is_some() && !self.named
    }

    /// The far end has never reported, so that its consent decides.
    pub(super) const fn is_by_consent(&self) -> bool {
        self.consented.is_some()
    }

    /// When media was last known to arrive over there; `None`: it never was.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last.max(self.consented)
    }

    /// How long reports have been missing at `now`, if that is more than one or two that were late. After an interruption of
    /// our own there is a reason for that, and no patience is due.
    pub(super) fn missed(&self, now: Instant, policy: &Policy) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.last?);
        let limit = if self.interrupted { UNCONSENTED.with(self.usual) } else { self.limit(policy) };
        (self.proved && silence > limit).then_some(silence)
    }

    /// How long nothing has come, whatever ICE says.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When silence will mean something: see [`Acks::is_stalled`].
    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        if !self.frames || self.consented.is_some() {
            return None;
        }
        let started = self.started?;
        let limit = self.limit(policy);
        let wait = if self.last.is_none() { BELIEVED_AFTER } else { limit };
        let whatever_ice_says = after(self.silent_since?, policy.disconnected_timeout.saturating_add(limit));
        Some((started + wait).min(whatever_ice_says).max(started))
    }

    /// The deadline has come: is it a stall? It is none where no report has ever come and ICE has been up all the while: then
    /// consent is believed from now on.
    pub(super) fn is_stalled(&mut self, now: Instant) -> bool {
        let consents = self.last.is_none() && self.started.is_some_and(|started| now >= started + BELIEVED_AFTER);
        self.consented = consents.then_some(now);
        !consents
    }

    /// How long the far end may be silent.
    fn limit(&self, policy: &Policy) -> Duration {
        if !self.proved {
            return PROOF_TIMEOUT;
        }
        let settled = self.first.zip(self.last).is_some_and(|(first, last)| last >= first + SETTLED_AFTER);
        let patience = if policy.watches_consent { CONSENTED } else { UNCONSENTED };
        let min = if settled { patience.min } else { CONSENTED.min };
        patience.with(self.usual).max(min)
    }
}

impl Patience {
    /// With a far end that usually makes such pauses.
    fn with(self, usual: Duration) -> Duration {
        usual.saturating_mul(self.pauses).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests;
