//! Pure: one broadcast - who publishes, who watches, and what viewers are told. Time comes in as `now`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::signal::roamcast::text::Stats;

use super::timeline::{Kind, Report, SenderClock, Timeline};

/// A publisher that has sent nothing for this long, and has no signalling, is a ghost: another may take its place. With one
/// more sign of a loss (signalling or ICE) viewers are told `interrupted`, too. Shorter would flicker at every hiccup.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(1);
/// A publisher that has not sent anything yet is given this long to bring up ICE and DTLS over a slow network.
const CONNECT_GRACE: Duration = Duration::from_secs(5);
/// A silent publisher's session is kept this long (product.md, `resumeWindow`).
pub(super) const RESUME_WINDOW: Duration = Duration::from_secs(12);
/// No media for this long, with no other sign of a loss: viewers are told `interrupted`. A mobile network that hands over
/// is silent for a second or three, and then goes on.
const INTERRUPTED_AFTER: Duration = Duration::from_secs(4);
/// No media for this long: viewers are told `offline`.
const OFFLINE_AFTER: Duration = Duration::from_secs(20);
/// Whoever has half of what it takes (signalling without media, media without signalling) is ended after this long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20 * 60);
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
    /// Takes the publisher's place with its first keyframe: make before break.
    successor: Option<Publisher>,
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
    signalling: Signalling,
    /// ICE has lost it since its newest frame.
    is_unreachable: bool,
    /// What it last told of itself.
    figures: Option<Stats>,
}

/// The connection beside the media on which a publisher talks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signalling {
    /// WHIP has none: media is the only sign of life.
    None,
    /// It stands.
    Up,
    /// It broke then.
    Lost(Instant),
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
    /// The publisher whose place was taken with this frame.
    pub(super) replaced: Option<PeerId>,
}

impl Broadcast {
    /// A broadcast with nobody in it yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            publisher: None,
            successor: None,
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
        let newest = self.successor.as_ref().or(self.publisher.as_ref());
        match newest {
            Some(Publisher { signalling: Signalling::Up, .. }) => Err(now),
            Some(publisher) if now < publisher.silent_at() => Err(publisher.silent_at()),
            Some(_) | None => Ok(()),
        }
    }

    /// Is `id` the publisher, or about to be?
    pub(super) fn is_publisher(&self, id: PeerId) -> bool {
        self.publishers().any(|publisher| publisher.id == id)
    }

    /// Whose frames viewers get.
    pub(super) fn publisher(&self) -> Option<PeerId> {
        self.publisher.as_ref().map(|publisher| publisher.id)
    }

    fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.publisher.iter().chain(&self.successor)
    }

    /// `id` takes the place: at once, or when it sends a picture if the publisher that has the place still sends. Gives
    /// back who is out.
    pub(super) fn publish(&mut self, id: PeerId, signalling: Signalling, now: Instant) -> Vec<PeerId> {
        self.empty_since = None;
        let publisher = Publisher { id, heard: now, sends: false, signalling, is_unreachable: false, figures: None };
        let out = self.successor.take();
        let live = self.publisher.as_ref().is_some_and(|old| old.sends && now < old.silent_at());
        let replaced = if live {
            self.successor = Some(publisher);
            None
        } else {
            let replaced = self.seat(publisher);
            self.cut |= replaced.is_some();
            replaced
        };
        out.into_iter().map(|out| out.id).chain(replaced).collect()
    }

    /// Gives back who sat there.
    fn seat(&mut self, publisher: Publisher) -> Option<PeerId> {
        self.clock = SenderClock::default();
        self.lines.iter_mut().for_each(Timeline::change_source);
        self.lost_picture();
        self.publisher.replace(publisher).map(|old| old.id)
    }

    /// What has become of the signalling connection of `id`. That it is back is no media: viewers who were told
    /// `interrupted` hear `live` with the next frame, not before.
    pub(super) fn signalling(&mut self, id: PeerId, signalling: Signalling, now: Instant) {
        self.cut |= matches!(self.phase(now), Phase::Interrupted(_));
        if let Some(publisher) = self.find(id) {
            publisher.signalling = signalling;
        }
    }

    /// ICE has lost `id`. It may come back, and if frames come they say more.
    pub(super) fn unreachable(&mut self, id: PeerId) {
        if let Some(publisher) = self.find(id) {
            publisher.is_unreachable = true;
        }
    }

    /// What `id` tells of itself.
    pub(super) fn tell_figures(&mut self, id: PeerId, figures: Stats) {
        if let Some(publisher) = self.find(id) {
            publisher.figures = Some(figures);
        }
    }

    /// What the publisher last told of itself; nothing once it is silent.
    pub(super) fn figures(&self, now: Instant) -> Option<&Stats> {
        let is_live = matches!(self.phase(now), Phase::Live(_));
        self.publisher.as_ref().filter(|_| is_live)?.figures.as_ref()
    }

    fn find(&mut self, id: PeerId) -> Option<&mut Publisher> {
        self.publisher.iter_mut().chain(&mut self.successor).find(|publisher| publisher.id == id)
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
        self.successor.take_if(|successor| successor.id == id);
        if self.publisher.as_ref().is_some_and(|publisher| publisher.id == id) {
            self.publisher = None;
            self.cut = true;
            self.ended = goodbye;
            if let Some(successor) = self.successor.take() {
                self.seat(successor);
            }
        }
        if self.publisher.is_none() && self.viewers.is_empty() {
            self.empty_since.get_or_insert(now);
        }
    }

    /// A frame from `id`: when viewers are to play it and which of them can use it. `None` from anybody but the publisher.
    pub(super) fn frame(&mut self, id: PeerId, frame: Arrived, now: Instant) -> Option<Stamped> {
        let replaced = self.succeed(id, frame, now);
        self.heard_again(id, now);
        let publisher = self.publisher.as_mut().filter(|publisher| publisher.id == id)?;
        (publisher.heard, publisher.sends, publisher.is_unreachable) = (now, true, false);
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
            replaced,
        })
    }

    /// A keyframe that was asked of a silent publisher was asked in vain: after the silence a wish goes out at once.
    fn heard_again(&mut self, id: PeerId, now: Instant) {
        let silent = |publisher: &Publisher| publisher.id == id && now >= publisher.heard + KEYFRAME_EVERY;
        if self.publisher.as_ref().is_some_and(silent) {
            self.keyframe.asked = None;
        }
    }

    /// Seats the successor if this is the frame to begin with. Gives back who sat there.
    fn succeed(&mut self, id: PeerId, frame: Arrived, now: Instant) -> Option<PeerId> {
        let successor = self.successor.as_mut().filter(|successor| successor.id == id)?;
        (successor.heard, successor.sends) = (now, true);
        let picture = frame.kind == Kind::Video && frame.keyframe;
        let silent = self.publisher.as_ref().is_none_or(|publisher| now >= publisher.silent_at());
        if !picture && !silent {
            self.keyframe.wanted = true;
            return None;
        }
        let successor = self.successor.take()?;
        self.seat(successor)
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
        let id = self.sender()?.id;
        self.keyframe.due(now).then_some(id)
    }

    /// Whom a keyframe is wanted of.
    fn sender(&self) -> Option<&Publisher> {
        self.successor.iter().chain(&self.publisher).find(|publisher| publisher.sends)
    }

    /// What viewers are told.
    pub(super) fn phase(&self, now: Instant) -> Phase {
        let Some((newest, since)) = self.media else { return Phase::Waiting };
        let silent = now.saturating_duration_since(newest);
        if self.ended || silent >= OFFLINE_AFTER {
            Phase::Offline
        } else if self.cut || silent >= self.interrupted_after() {
            Phase::Interrupted(since)
        } else {
            Phase::Live(since)
        }
    }

    /// At once, so to say, when there are two signs of a loss; silence alone has to last.
    fn interrupted_after(&self) -> Duration {
        let is_lost =
            |publisher: &Publisher| publisher.is_unreachable || matches!(publisher.signalling, Signalling::Lost(_));
        if self.publisher.as_ref().is_some_and(is_lost) { SILENT_AFTER } else { INTERRUPTED_AFTER }
    }

    /// Publishers that nothing was heard of for longer than their sessions are kept.
    pub(super) fn given_up(&self, now: Instant) -> impl Iterator<Item = PeerId> {
        self.publishers().filter(move |publisher| now >= publisher.kept_until()).map(|publisher| publisher.id)
    }

    /// Nobody is here, and nobody has been for a while.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.empty_since.is_some_and(|since| now >= since + EMPTY_FOR)
    }

    /// When to look again, though nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let newest = self.media.map(|(newest, _)| newest);
        let kept = self.publishers().map(Publisher::kept_until).min();
        let keyframe = self.sender().and(self.keyframe.next());
        [
            newest.map(|at| at + self.interrupted_after()),
            newest.map(|at| at + OFFLINE_AFTER),
            kept,
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

    /// Media and signalling each hold the session for [`RESUME_WINDOW`] after their last; one alone not for ever.
    fn kept_until(&self) -> Instant {
        match self.signalling {
            Signalling::None => self.heard + RESUME_WINDOW,
            Signalling::Up => self.heard + GIVE_UP_AFTER,
            Signalling::Lost(at) => (self.heard.max(at) + RESUME_WINDOW).min(at + GIVE_UP_AFTER),
        }
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
        broadcast.publish(FIRST, Signalling::None, now);
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
            (3_999, Phase::Live(t), None),
            (4_000, Phase::Interrupted(t), None),
            (11_999, Phase::Interrupted(t), None),
            (12_000, Phase::Interrupted(t), Some(FIRST)),
            (19_999, Phase::Interrupted(t), Some(FIRST)),
            (20_000, Phase::Offline, Some(FIRST)),
        ] {
            let now = t + after_ms * MS;
            assert_eq!((broadcast.phase(now), broadcast.given_up(now).next()), (phase, given_up), "{after_ms} ms");
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
        assert_eq!(seen, [4, 12, 20]);
    }

    #[test]
    fn a_goodbye_is_offline_at_once_and_a_lost_connection_interrupted_at_once() {
        let t = Instant::now();
        let mut broadcast = live(t);
        broadcast.leave(FIRST, false, t);
        assert_eq!(broadcast.phase(t), Phase::Interrupted(t));
        broadcast.publish(SECOND, Signalling::None, t + 100 * MS);
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
        assert_eq!(broadcast.publish(SECOND, Signalling::None, t + SILENT_AFTER), [FIRST]);
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
    fn a_keyframe_that_was_asked_of_a_dead_path_is_asked_for_again_when_frames_come() {
        let t = Instant::now();
        let mut broadcast = live(t);
        broadcast.wants_keyframe();
        assert_eq!(broadcast.keyframe_to_ask(t + 2900 * MS), Some(FIRST), "nobody hears it");
        broadcast.frame(FIRST, picture(false, false), t + 3000 * MS);
        assert_eq!(broadcast.keyframe_to_ask(t + 3000 * MS), Some(FIRST));
        broadcast.frame(FIRST, picture(false, true), t + 3033 * MS);
        assert_eq!(broadcast.keyframe_to_ask(t + 3033 * MS), None, "once is enough");
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

    /// Live, with this signalling.
    fn live_with(signalling: Signalling, now: Instant) -> Broadcast {
        let mut broadcast = live(now);
        broadcast.signalling(FIRST, signalling, now);
        broadcast
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_session_without_signalling_is_held_while_media_flows_but_not_for_ever() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Lost(t), t);
        let mut now = t;
        while broadcast.given_up(now).next().is_none() {
            assert_eq!(broadcast.phase(now), Phase::Live(t), "viewers notice nothing");
            now += S / 2;
            broadcast.frame(FIRST, picture(true, true), now);
        }
        assert_eq!(now, t + 20 * 60 * S);
    }

    #[test]
    fn the_window_runs_from_the_last_of_media_and_signalling() {
        let t = Instant::now();
        let kept = |heard: u32, lost: u32| {
            let mut broadcast = live_with(Signalling::Lost(t + lost * S), t);
            broadcast.frame(FIRST, picture(true, true), t + heard * S);
            let mut now = t + heard.max(lost) * S;
            while broadcast.given_up(now).next().is_none() {
                now = broadcast.deadline(now).expect("there is an end");
            }
            (now - t).as_secs()
        };
        assert_eq!((kept(0, 0), kept(5, 1), kept(1, 5)), (12, 17, 17));
    }

    #[test]
    fn signalling_alone_holds_the_place_but_not_for_ever() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Up, t);
        let later = t + 100 * S;
        assert_eq!((broadcast.may_publish(later), broadcast.phase(later)), (Err(later), Phase::Offline));
        assert_eq!(broadcast.given_up(later).next(), None, "it may be restarting ICE");
        assert_eq!(broadcast.given_up(t + 20 * 60 * S).next(), Some(FIRST));
        broadcast.signalling(FIRST, Signalling::Lost(later), later);
        assert_eq!(broadcast.may_publish(later), Ok(()), "now it is a ghost");
    }

    #[test]
    fn the_old_one_feeds_until_the_new_one_sends_a_picture() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Up, t);
        assert_eq!(broadcast.publish(SECOND, Signalling::Up, t + 100 * MS), []);
        assert!(broadcast.frame(FIRST, picture(false, true), t + 150 * MS).is_some());
        assert_eq!(broadcast.frame(SECOND, picture(false, true), t + 160 * MS), None);
        assert_eq!(broadcast.keyframe_to_ask(t + 600 * MS), Some(SECOND));
        let first = broadcast.frame(SECOND, picture(true, true), t + 700 * MS).unwrap();
        assert_eq!((first.to, first.replaced), (vec![VIEWER], Some(FIRST)));
        assert_eq!(broadcast.frame(FIRST, picture(true, true), t + 710 * MS), None);
        assert_eq!(broadcast.phase(t + 710 * MS), Phase::Live(t));
    }

    #[test]
    fn a_successor_steps_in_when_the_old_one_leaves_or_falls_silent() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Up, t);
        broadcast.publish(SECOND, Signalling::Up, t);
        broadcast.leave(FIRST, false, t);
        assert!(broadcast.frame(SECOND, picture(false, true), t).is_some());

        let mut broadcast = live_with(Signalling::Up, t);
        broadcast.publish(SECOND, Signalling::Up, t);
        let audio = Arrived { kind: Kind::Audio, ..picture(false, true) };
        assert_eq!(broadcast.frame(SECOND, audio, t + SILENT_AFTER).unwrap().replaced, Some(FIRST));

        let mut broadcast = live_with(Signalling::Up, t);
        broadcast.publish(SECOND, Signalling::Up, t);
        assert_eq!(broadcast.publish(PeerId(3), Signalling::Up, t), [SECOND], "one successor at a time");
        broadcast.leave(PeerId(3), false, t);
        assert!(broadcast.frame(FIRST, picture(true, true), t).is_some(), "the old one goes on");
    }

    /// What viewers are told just before and just at each time, with nothing heard of the publisher from `t` on.
    fn told(broadcast: &Broadcast, t: Instant, after: Duration) -> (Phase, Phase) {
        (broadcast.phase(t + after - MS), broadcast.phase(t + after))
    }

    #[test]
    fn silence_alone_is_interrupted_after_four_seconds_and_offline_after_twenty() {
        let t = Instant::now();
        for signalling in [Signalling::None, Signalling::Up] {
            let broadcast = live_with(signalling, t);
            assert_eq!(told(&broadcast, t, 4 * S), (Phase::Live(t), Phase::Interrupted(t)), "{signalling:?}");
            assert_eq!(told(&broadcast, t, 20 * S), (Phase::Interrupted(t), Phase::Offline), "{signalling:?}");
        }
    }

    #[test]
    fn a_second_sign_of_a_loss_is_enough_after_one_second_and_frames_say_more() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Lost(t), t);
        assert_eq!(told(&broadcast, t, S), (Phase::Live(t), Phase::Interrupted(t)));
        assert_eq!(broadcast.deadline(t), Some(t + S));
        broadcast.signalling(FIRST, Signalling::Up, t + S - MS);
        assert_eq!(broadcast.phase(t + S), Phase::Live(t), "it is back, and may be restarting ICE");
        broadcast.signalling(FIRST, Signalling::Lost(t + S), t + S);
        broadcast.signalling(FIRST, Signalling::Up, t + S);
        assert_eq!(broadcast.phase(t + S), Phase::Interrupted(t), "it is back, but no media is");
        broadcast.frame(FIRST, picture(true, true), t + S);
        assert_eq!(broadcast.phase(t + S), Phase::Live(t));

        let mut broadcast = live_with(Signalling::Up, t);
        broadcast.unreachable(FIRST);
        assert_eq!(told(&broadcast, t, S), (Phase::Live(t), Phase::Interrupted(t)));
        broadcast.frame(FIRST, picture(true, true), t + S);
        assert_eq!(told(&broadcast, t + S, 4 * S), (Phase::Live(t), Phase::Interrupted(t)));
    }

    #[test]
    fn viewers_that_nobody_publishes_for_keep_the_broadcast_and_ten_seconds_without_anybody_end_it() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Lost(t), t);
        broadcast.leave(FIRST, false, t + 12 * S);
        assert_eq!(told(&broadcast, t, 20 * S), (Phase::Interrupted(t), Phase::Offline));
        assert!(!broadcast.is_over(t + 3600 * S), "a viewer waits");
        broadcast.leave(VIEWER, true, t + 30 * S);
        assert!(!broadcast.is_over(t + 40 * S - MS) && broadcast.is_over(t + 40 * S));
        broadcast.watch(VIEWER);
        assert!(!broadcast.is_over(t + 40 * S), "somebody came just in time");
    }

    #[test]
    fn half_a_session_is_given_up_after_twenty_minutes() {
        let t = Instant::now();
        let limit = 20 * 60 * S;
        let given_up = |broadcast: &Broadcast, at| broadcast.given_up(at).next();
        let silent = live_with(Signalling::Up, t);
        assert_eq!((given_up(&silent, t + limit - MS), given_up(&silent, t + limit)), (None, Some(FIRST)));
        let mut deaf = live_with(Signalling::Lost(t), t);
        deaf.frame(FIRST, picture(true, true), t + limit - MS);
        assert_eq!((given_up(&deaf, t + limit - MS), given_up(&deaf, t + limit)), (None, Some(FIRST)));
        let mut both = live_with(Signalling::Up, t);
        both.frame(FIRST, picture(true, true), t + limit);
        assert_eq!(given_up(&both, t + 2 * limit - MS), None, "it has all that it takes");
    }

    #[test]
    fn the_figures_of_the_publisher_are_shown_while_it_is_live() {
        let t = Instant::now();
        let mut broadcast = live_with(Signalling::Up, t);
        let figures = Stats { bitrate: Some(7), ..Stats::default() };
        broadcast.tell_figures(SECOND, figures.clone());
        assert_eq!(broadcast.figures(t), None, "of somebody else");
        broadcast.tell_figures(FIRST, figures.clone());
        assert_eq!(broadcast.figures(t), Some(&figures));
        assert_eq!(broadcast.figures(t + 4 * S), None);
        broadcast.leave(FIRST, true, t);
        assert_eq!(broadcast.figures(t), None);
    }
}
