//! What happens to the contenders, and what is counted of it.

use std::time::{Duration, Instant};

use crate::contender::{Sender, Who};
use crate::rig::{Mark, Rig, Seen, UPLINKS, Words};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// Both links are up; the metrics of their routes are exchanged.
    Swap,
    /// `ip link set down` for the link in use; the other works.
    Cut,
    /// The link in use passes nothing any more; the other works.
    Silence,
    /// The only link passes nothing for so many seconds.
    ///
    /// After 25 s the ingest has dropped the session (`resumeWindow`), and a new one has to find the healed path. Whoever waits
    /// for its backoff then needs seconds: a try that hears nobody dials for 5 s, then the backoff waits 2 to 10 s, so what is
    /// measured is where in that cycle second 25 falls. Ours knows by then that nothing answers (in this lab: the gateway and
    /// the server), probes four times a second, and opens the session when something does.
    Outage(u64),
    /// Every TCP connection ends, and none can be made for [`WORDLESS`]; media passes.
    Wordless,
}

/// What came of it once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sample {
    /// `None` where nothing of the kind is counted.
    pub(crate) gap: Option<Value>,
    pub(crate) lost: Option<Value>,
    /// From the fault to the contender's first word of it.
    pub(crate) noticed: Option<Value>,
    /// From the end of the fault to the first decodable frame.
    pub(crate) healed: Option<Value>,
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [("gap", self.gap), ("lost", self.lost), ("noticed", self.noticed), ("healed", self.healed)];
        let parts = parts.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}")));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// Milliseconds or frames.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Value {
    pub(crate) number: f64,
    /// It was not over when we stopped to look.
    pub(crate) is_more: bool,
}

/// How long we wait for media to come back where another path works.
pub(crate) const CAP: Duration = Duration::from_secs(30);
/// How long we wait after the only path has healed.
pub(crate) const CAP_HEALED: Duration = Duration::from_secs(20);
/// How long signalling is away.
pub(crate) const WORDLESS: Duration = Duration::from_secs(5);
/// Nothing that has begun to break shows later than this; and it must look well again by then.
const LOOK: Duration = Duration::from_millis(1500);

impl Scenario {
    pub(crate) const ALL: [Self; 7] =
        [Self::Outage(25), Self::Outage(10), Self::Outage(3), Self::Cut, Self::Silence, Self::Wordless, Self::Swap];

    /// Is this wanted for these items of product.md?
    pub(crate) fn is_of(self, items: &[u8]) -> bool {
        let own: &[u8] = match self {
            Self::Swap => &[1],
            Self::Cut => &[1, 4],
            Self::Silence => &[2, 4],
            Self::Outage(_) => &[3],
            Self::Wordless => &[5],
        };
        own.iter().any(|item| items.contains(item))
    }

    /// With one path, copies by a second one make no difference.
    pub(crate) fn contenders(self) -> impl Iterator<Item = Who> {
        let one = matches!(self, Self::Outage(_));
        Who::ALL.into_iter().filter(move |who| !(one && matches!(who, Who::Handover | Who::Always)))
    }

    pub(crate) fn rig(self, who: Who) -> Rig {
        let uplinks = if matches!(self, Self::Outage(_)) { 1 } else { 2 };
        let words = if self == Self::Wordless { Words::Socket } else { Words::Whip };
        Rig::on_air(who, uplinks, words)
    }

    /// Once; the rig is left as it was found.
    pub(crate) fn run(self, rig: &mut Rig) -> Sample {
        rig.is_well();
        match self {
            Self::Swap => swap(rig),
            Self::Cut => cut(rig),
            Self::Silence => silence(rig),
            Self::Outage(seconds) => outage(rig, Duration::from_secs(seconds)),
            Self::Wordless => wordless(rig),
        }
    }
}

fn swap(rig: &mut Rig) -> Sample {
    let mark = rig.mark();
    rig.lab.swap_metrics(UPLINKS[0], UPLINKS[1]);
    if let (true, Sender::Ours(program)) = (rig.who.roams(), &mut rig.sender) {
        // A path must have been good for a while before it is preferred.
        program.wait_for("move", |event| event["event"] == "PathChanged");
    }
    of(rig.seen(&mark, mark.at.elapsed() + LOOK, CAP))
}

fn cut(rig: &mut Rig) -> Sample {
    let used = rig.in_use();
    let mark = rig.mark();
    rig.lab.link_down(used);
    let sample = lose(rig, &mark);
    rig.lab.link_up(used);
    sample
}

fn silence(rig: &mut Rig) -> Sample {
    let used = rig.in_use();
    let mark = rig.mark();
    rig.silence(used);
    let sample = lose(rig, &mark);
    rig.heal(used);
    sample
}

/// What comes of the loss of the link in use.
fn lose(rig: &mut Rig, mark: &Mark) -> Sample {
    let seen = rig.seen(mark, LOOK, CAP);
    let noticed = rig.sender.noticed(mark.at);
    Sample { noticed: Some(within(noticed, mark.at, CAP)), ..of(seen) }
}

fn outage(rig: &mut Rig, time: Duration) -> Sample {
    let mark = rig.mark();
    rig.silence(UPLINKS[0]);
    std::thread::sleep(time.saturating_sub(mark.at.elapsed()));
    let healed = Instant::now();
    rig.heal(UPLINKS[0]);
    let seen = rig.seen(&mark, time + LOOK, time + CAP_HEALED);
    let first = rig.first_frame_after(healed);
    let noticed = rig.sender.noticed(mark.at);
    Sample {
        noticed: Some(within(noticed, mark.at, time)),
        healed: Some(within(first, healed, CAP_HEALED)),
        ..of(seen)
    }
}

fn wordless(rig: &mut Rig) -> Sample {
    let mark = rig.mark();
    rig.ingest.hang_up();
    if let Sender::Ours(program) = &mut rig.sender {
        // Before TCP is blocked, or it would not hear of it.
        program.wait_for("lost signalling", |event| {
            let data = &event["data"];
            event["event"] == "ConnectionState" && data["plane"] == "signalling" && data["state"] != "connected"
        });
    }
    UPLINKS.into_iter().for_each(|name| rig.lab.block_tcp(name));
    std::thread::sleep(WORDLESS);
    UPLINKS.into_iter().for_each(|name| rig.lab.heal(name));
    of(rig.seen(&mark, mark.at.elapsed() + LOOK, WORDLESS + CAP))
}

fn of(seen: Seen) -> Sample {
    let lost = Value { number: seen.lost as f64, is_more: !seen.is_back };
    Sample { gap: Some(ms(seen.gap, !seen.is_back)), lost: Some(lost), ..Sample::default() }
}

fn ms(time: Duration, is_more: bool) -> Value {
    Value { number: time.as_secs_f64() * 1e3, is_more }
}

/// From then until it came, or more than the most that was waited for.
fn within(came: Option<Instant>, since: Instant, most: Duration) -> Value {
    came.map_or(ms(most, true), |at| ms(at - since, false))
}
