//! Pure: one broadcast - who publishes, who watches, and what viewers are told. Time comes in as `now`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::timeline::{Kind, Report, SenderClock, Timeline};

/// No media for this long: viewers are told `interrupted`, and another publisher may take the place. Shorter would flicker
/// at every hiccup of a mobile network.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(1);
/// A publisher that has not sent anything yet is given this long to bring up ICE and DTLS over a slow network.
const CONNECT_GRACE: Duration = Duration::from_secs(5);
/// A silent publisher's session is kept this long (product.md, `resumeWindow`).
const RESUME_WINDOW: Duration = Duration::from_secs(12);
/// No media for this long: viewers are told `offline`.
const OFFLINE_AFTER: Duration = Duration::from_secs(20);
/// A broadcast without publisher and viewers is forgotten after this long.
const EMPTY_FOR: Duration = Duration::from_secs(10);
/// Keyframe wishes are merged into one in this time; a wish that no keyframe has answered is repeated after it.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);

/// The number of a publisher's or viewer's session. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerId(pub(super) u64);

/// What viewers are told about a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was ever published.
    Waiting,
    /// Media flows, since then.
    Live(Instant),
    /// The publisher is silent; it may come back.
    Interrupted(Instant),
    /// The publisher has ended the broadcast, or was silent for long.
    Offline,
}

/// One broadcast.
#[derive(Debug)]
pub(super) struct Broadcast {
    publisher: Option<Publisher>,
    viewers: BTreeMap<PeerId, Viewer>,
    /// When the newest frame came, and since when frames have come without a gap of `OFFLINE_AFTER`.
    media: Option<(Instant, Instant)>,
    /// The publisher said goodbye.
    ended: bool,
    /// The publisher's connection is known to be gone; no need to wait for `SILENT_AFTER`.
    cut: bool,
    empty_since: Option<Instant>,
    keyframe: KeyframeWish,
    lines: [Timeline; 2],
    clock: SenderClock,
}

#[derive(Debug)]
struct Publisher {
    id: PeerId,
    /// When its newest frame came; at first, when it joined.
    heard: Instant,
    sends: bool,
}

#[derive(Debug, Default)]
struct Viewer {
    connected: bool,
    /// Has had a keyframe since it connected or since frames were lost.
    has_picture: bool,
}

/// A frame as it came, as far as time matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) kind: Kind,
    /// A decoder can start here.
    pub(super) keyframe: bool,
    /// Nothing is missing between the frame before and this one.
    pub(super) contiguous: bool,
    /// Extended RTP time.
    pub(super) ticks: u64,
    /// RTP clock, Hz.
    pub(super) rate: u32,
    /// The track's last sender report.
    pub(super) report: Option<Report>,
}

/// A frame as viewers get it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamped {
    /// RTP time on the viewers' line.
    pub(super) ticks: u64,
    /// When it was sampled.
    pub(super) sampled: Instant,
    /// Who can use it.
    pub(super) to: Vec<PeerId>,
}

impl Broadcast {
    /// A broadcast with nobody in it yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            publisher: None,
            viewers: BTreeMap::new(),
            media: None,
            ended: false,
            cut: false,
            empty_since: Some(now),
            keyframe: KeyframeWish::default(),
            lines: [Timeline::default(), Timeline::default()],
            clock: SenderClock::default(),
        }
    }

    /// May another publisher take the place? If not: when to ask again.
    pub(super) fn may_publish(&self, now: Instant) -> Result<(), Instant> {
        match &self.publisher {
            Some(publisher) if now < publisher.silent_at() => Err(publisher.silent_at()),
            Some(_) | None => Ok(()),
        }
    }

    /// `id` takes the place. Gives back the publisher that had it.
    pub(super) fn publish(&mut self, id: PeerId, now: Instant) -> Option<PeerId> {
        self.empty_since = None;
        self.clock = SenderClock::default();
        self.lines.iter_mut().for_each(Timeline::change_source);
        self.lost_picture();
        self.publisher.replace(Publisher { id, heard: now, sends: false }).map(|old| old.id)
    }

    /// `id` wants to watch; it gets frames once it is connected.
    pub(super) fn watch(&mut self, id: PeerId) {
        self.empty_since = None;
        self.viewers.insert(id, Viewer::default());
    }

    /// A viewer's connection is up: it needs a picture at once.
    pub(super) fn connected(&mut self, id: PeerId) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            *viewer = Viewer { connected: true, has_picture: false };
            self.keyframe.wanted = true;
        }
    }

    /// A viewer's decoder lost its way.
    pub(super) fn wants_keyframe(&mut self) {
        self.keyframe.wanted = true;
    }

    /// `id` is gone; `goodbye` when it said so itself.
    pub(super) fn leave(&mut self, id: PeerId, goodbye: bool, now: Instant) {
        self.viewers.remove(&id);
        if self.publisher.as_ref().is_some_and(|publisher| publisher.id == id) {
            self.publisher = None;
            self.cut = true;
            self.ended = goodbye;
        }
        if self.publisher.is_none() && self.viewers.is_empty() {
            self.empty_since.get_or_insert(now);
        }
    }

    /// A frame from `id`: when viewers are to play it and which of them can use it. `None` from anybody but the publisher.
    pub(super) fn frame(&mut self, id: PeerId, frame: Arrived, now: Instant) -> Option<Stamped> {
        let publisher = self.publisher.as_mut().filter(|publisher| publisher.id == id)?;
        (publisher.heard, publisher.sends) = (now, true);
        let since = match self.phase(now) {
            Phase::Live(since) | Phase::Interrupted(since) => since,
            Phase::Waiting | Phase::Offline => now,
        };
        self.media = Some((now, since));
        (self.ended, self.cut) = (false, false);

        if frame.kind == Kind::Video {
            self.see_picture(frame.keyframe, frame.contiguous);
        }
        // The RTP time on the wire has 32 bits.
        let rtp = frame.ticks as u32;
        let usable = |viewer: &Viewer| viewer.connected && (frame.kind == Kind::Audio || viewer.has_picture);
        Some(Stamped {
            ticks: self.lines[frame.kind as usize].map(frame.ticks, frame.rate, now),
            sampled: self.clock.sampled(frame.kind, frame.report, rtp, frame.rate, now),
            to: self.viewers.iter().filter(|(_, viewer)| usable(viewer)).map(|(id, _)| *id).collect(),
        })
    }

    /// A gap would show as smear until the next keyframe: viewers wait for that instead.
    fn see_picture(&mut self, keyframe: bool, contiguous: bool) {
        if keyframe {
            self.keyframe.wanted = false;
            self.viewers.values_mut().for_each(|viewer| viewer.has_picture = viewer.connected);
        } else if !contiguous {
            self.lost_picture();
        }
    }

    fn lost_picture(&mut self) {
        self.viewers.values_mut().for_each(|viewer| viewer.has_picture = false);
        self.keyframe.wanted = !self.viewers.is_empty();
    }

    /// The publisher to ask for a keyframe now, if there is a wish that may go out. Call again at [`Self::deadline`].
    pub(super) fn keyframe_to_ask(&mut self, now: Instant) -> Option<PeerId> {
        let publisher = self.publisher.as_ref().filter(|publisher| publisher.sends)?;
        self.keyframe.due(now).then_some(publisher.id)
    }

    /// What viewers are told.
    pub(super) fn phase(&self, now: Instant) -> Phase {
        let Some((newest, since)) = self.media else { return Phase::Waiting };
        let silent = now.saturating_duration_since(newest);
        if self.ended || silent >= OFFLINE_AFTER {
            Phase::Offline
        } else if self.cut || silent >= SILENT_AFTER {
            Phase::Interrupted(since)
        } else {
            Phase::Live(since)
        }
    }

    /// The publisher whose session has been silent for longer than it is kept.
    pub(super) fn given_up(&self, now: Instant) -> Option<PeerId> {
        self.publisher.as_ref().filter(|publisher| now >= publisher.heard + RESUME_WINDOW).map(|publisher| publisher.id)
    }

    /// Nobody is here, and nobody has been for a while.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.empty_since.is_some_and(|since| now >= since + EMPTY_FOR)
    }

    /// When to look again, though nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let newest = self.media.map(|(newest, _)| newest);
        let heard = self.publisher.as_ref().map(|publisher| publisher.heard + RESUME_WINDOW);
        let keyframe = self.publisher.as_ref().filter(|publisher| publisher.sends).and(self.keyframe.next());
        [
            newest.map(|at| at + SILENT_AFTER),
            newest.map(|at| at + OFFLINE_AFTER),
            heard,
            self.empty_since.map(|at| at + EMPTY_FOR),
            keyframe,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }
}

impl Publisher {
    /// When it counts as a ghost.
    fn silent_at(&self) -> Instant {
        self.heard + if self.sends { SILENT_AFTER } else { CONNECT_GRACE }
    }
}

/// All wishes of all viewers in one. Never dropped: a wish stands until a keyframe comes.
#[derive(Debug, Default)]
struct KeyframeWish {
    wanted: bool,
    asked: Option<Instant>,
}

impl KeyframeWish {
    fn due(&mut self, now: Instant) -> bool {
        let due = self.wanted && self.asked.is_none_or(|asked| now >= asked + KEYFRAME_EVERY);
        if due {
            self.asked = Some(now);
        }
        due
    }

    fn next(&self) -> Option<Instant> {
        self.asked.filter(|_| self.wanted).map(|asked| asked + KEYFRAME_EVERY)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FIRST: PeerId = PeerId(1);
    const SECOND: PeerId = PeerId(2);
    const VIEWER: PeerId = PeerId(9);

    fn picture(keyframe: bool, contiguous: bool) -> Arrived {
        Arrived { kind: Kind::Video, keyframe, contiguous, ticks: 3000, rate: 90_000, report: None }
    }

    /// A live broadcast with one viewer that has its picture.
    fn live(now: Instant) -> Broadcast {
        let mut broadcast = Broadcast::new(now);
        broadcast.publish(FIRST, now);
        broadcast.watch(VIEWER);
        broadcast.connected(VIEWER);
        broadcast.frame(FIRST, picture(true, true), now);
        broadcast
    }

    #[test]
    fn a_silent_publisher_is_interrupted_then_given_up_then_offline() {
        let t = Instant::now();
        let broadcast = live(t);
        for (after_ms, phase, given_up) in [
            (0, Phase::Live(t), None),
            (999, Phase::Live(t), None),
            (1000, Phase::Interrupted(t), None),
            (11_999, Phase::Interrupted(t), None),
            (12_000, Phase::Interrupted(t), Some(FIRST)),
            (20_000, Phase::Offline, Some(FIRST)),
        ] {
            let now = t + after_ms * MS;
            assert_eq!((broadcast.phase(now), broadcast.given_up(now)), (phase, given_up), "{after_ms} ms");
        }
    }

    #[test]
    fn deadlines_lead_through_all_phases() {
        let t = Instant::now();
        let broadcast = live(t);
        let mut now = t;
        let mut seen = vec![];
        while let Some(next) = broadcast.deadline(now) {
            now = next;
            seen.push((now - t).as_secs());
        }
        assert_eq!(seen, [1, 12, 20]);
    }

    #[test]
    fn a_goodbye_is_offline_at_once_and_a_lost_connection_interrupted_at_once() {
        let t = Instant::now();
        let mut broadcast = live(t);
        broadcast.leave(FIRST, false, t);
        assert_eq!(broadcast.phase(t), Phase::Interrupted(t));
        broadcast.publish(SECOND, t + 100 * MS);
        broadcast.frame(SECOND, picture(true, true), t + 200 * MS);
        assert_eq!(broadcast.phase(t + 200 * MS), Phase::Live(t), "the same broadcast goes on");
        broadcast.leave(SECOND, true, t + 300 * MS);
        assert_eq!(broadcast.phase(t + 300 * MS), Phase::Offline);
    }

    #[test]
    fn the_place_of_a_live_publisher_is_taken_and_of_a_ghost_free() {
        let t = Instant::now();
        let mut broadcast = live(t);
        assert_eq!(broadcast.may_publish(t + 500 * MS), Err(t + SILENT_AFTER));
        assert_eq!(broadcast.may_publish(t + SILENT_AFTER), Ok(()));
        assert_eq!(broadcast.publish(SECOND, t + SILENT_AFTER), Some(FIRST));
        assert_eq!(
            broadcast.may_publish(t + 3000 * MS),
            Err(t + SILENT_AFTER + CONNECT_GRACE),
            "it is still connecting"
        );
        assert_eq!(broadcast.frame(FIRST, picture(true, true), t + 3000 * MS), None, "the ghost is not heard");
        broadcast.leave(FIRST, true, t + 3000 * MS);
        assert_eq!(broadcast.phase(t + 3000 * MS), Phase::Interrupted(t), "nor is its goodbye");
    }

    #[test]
    fn a_viewer_gets_pictures_from_a_keyframe_on() {
        let t = Instant::now();
        let mut broadcast = live(t);
        let late = PeerId(10);
        broadcast.watch(late);
        let to = |broadcast: &mut Broadcast, frame| broadcast.frame(FIRST, frame, t).unwrap().to;
        assert_eq!(to(&mut broadcast, picture(true, true)), [VIEWER], "not connected yet");
        broadcast.connected(late);
        assert_eq!(to(&mut broadcast, picture(false, true)), [VIEWER]);
        assert_eq!(to(&mut broadcast, Arrived { kind: Kind::Audio, ..picture(false, true) }), [VIEWER, late]);
        assert_eq!(to(&mut broadcast, picture(true, true)), [VIEWER, late]);
        assert_eq!(to(&mut broadcast, picture(false, true)), [VIEWER, late]);
        assert_eq!(to(&mut broadcast, picture(false, false)), [], "a gap: everybody waits for a keyframe");
    }

    #[test]
    fn keyframe_wishes_are_merged_and_stand_until_answered() {
        let t = Instant::now();
        let mut broadcast = live(t);
        assert_eq!(broadcast.keyframe_to_ask(t), None, "answered already");
        broadcast.wants_keyframe();
        assert_eq!(broadcast.keyframe_to_ask(t), Some(FIRST));
        broadcast.wants_keyframe();
        assert_eq!(broadcast.keyframe_to_ask(t + 100 * MS), None, "merged");
        assert_eq!(broadcast.deadline(t + 100 * MS), Some(t + KEYFRAME_EVERY));
        assert_eq!(broadcast.keyframe_to_ask(t + KEYFRAME_EVERY), Some(FIRST), "asked again");
        broadcast.frame(FIRST, picture(true, true), t + KEYFRAME_EVERY);
        assert_eq!(broadcast.keyframe_to_ask(t + 9 * KEYFRAME_EVERY), None);
    }

    #[test]
    fn a_broadcast_with_nobody_is_over_after_a_while() {
        let t = Instant::now();
        let mut broadcast = live(t);
        broadcast.leave(FIRST, true, t);
        assert!(!broadcast.is_over(t + 60_000 * MS), "a viewer waits");
        broadcast.leave(VIEWER, false, t + 60_000 * MS);
        assert!(!broadcast.is_over(t + 69_999 * MS));
        assert!(broadcast.is_over(t + 70_000 * MS));
    }
}
