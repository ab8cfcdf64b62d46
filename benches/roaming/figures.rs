//! Samples -> percentiles beside goal and limit: a table for people, one JSON document a figure for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::contender::Who;
use crate::scenario::{Sample, Scenario, Value};

/// One sample, of whom and of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) scenario: Scenario,
    pub(crate) who: Who,
    pub(crate) sample: Sample,
}

/// What product.md asks for.
#[derive(Debug, Clone, Copy)]
struct Goal {
    p50: Option<f64>,
    p95: Option<f64>,
    max: Option<f64>,
}

const NONE: Goal = Goal { p50: None, p95: None, max: Some(0.0) };

/// One row of the goals.
pub(crate) struct Figure {
    id: &'static str,
    /// Of product.md.
    pub(crate) item: u8,
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    /// What no program can beat here, and why.
    limit: &'static str,
    /// Whom the goal is for.
    judged: fn(Who) -> bool,
    of: fn(&Record) -> Option<Value>,
}

fn only(record: &Record, scenario: Scenario, value: Option<Value>) -> Option<Value> {
    value.filter(|_| record.scenario == scenario)
}

/// All of them, in the order of product.md.
pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        id: "1a",
        item: 1,
        name: "metrics of two good links exchanged: frames lost at the receiver",
        unit: "frames",
        goal: NONE,
        limit: "0: both links work. libnice never moves, so it has nothing to lose",
        judged: Who::roams,
        of: |record| only(record, Scenario::Swap, record.sample.lost),
    },
    Figure {
        id: "1b",
        item: 1,
        name: "link in use goes down, the other is up: longest time between two decodable frames",
        unit: "ms",
        goal: Goal { p50: Some(200.0), p95: Some(400.0), max: None },
        limit: "33: one frame interval, where what was on its way arrives",
        judged: Who::roams,
        of: |record| only(record, Scenario::Cut, record.sample.gap),
    },
    Figure {
        id: "2a",
        item: 2,
        name: "link in use goes silent, the other is up: until the sender says that it has noticed",
        unit: "ms",
        goal: Goal { p50: None, p95: Some(500.0), max: None },
        limit: "50 + the interval of the far end's feedback: the last answer is still on its way for a round trip",
        judged: Who::roams,
        of: |record| only(record, Scenario::Silence, record.sample.noticed),
    },
    Figure {
        id: "2b",
        item: 2,
        name: "the same: longest time between two decodable frames",
        unit: "ms",
        goal: Goal { p50: None, p95: Some(1000.0), max: None },
        limit: "33 with copies on both links; else 2a + one frame interval + 25 for a keyframe",
        judged: Who::roams,
        of: |record| only(record, Scenario::Silence, record.sample.gap),
    },
    healed("3a", "3 s", SAME_SESSION, |record| only(record, Scenario::Outage(3), record.sample.healed)),
    healed("3b", "10 s", SAME_SESSION, |record| only(record, Scenario::Outage(10), record.sample.healed)),
    healed("3c", "25 s (the ingest ends a silent session after 12 s: a new one is needed)", NEW_SESSION, |record| {
        only(record, Scenario::Outage(25), record.sample.healed)
    }),
    Figure {
        id: "4",
        item: 4,
        name: "one of two links cut, by turns down and silent (the events of 1b and 2): frames lost at the receiver",
        unit: "frames",
        goal: NONE,
        limit: "0 with copies on both links",
        judged: |who| who == Who::Always,
        of: |record| {
            let is_one = matches!(record.scenario, Scenario::Cut | Scenario::Silence);
            record.sample.lost.filter(|_| is_one)
        },
    },
    Figure {
        id: "5",
        item: 5,
        name: "signalling hung up on and TCP blocked for 5 s (ours: roamcast signalling; whipclientsink: WHIP): frames lost",
        unit: "frames",
        goal: NONE,
        limit: "0: media does not need it",
        judged: |who| who != Who::Whipclientsink,
        of: |record| only(record, Scenario::Wordless, record.sample.lost),
    },
];

/// What an outage is judged by: the goal, and what physics allow.
type Judgement = (Goal, &'static str);

const SAME_SESSION: Judgement = (
    Goal { p50: Some(160.0), p95: Some(300.0), max: None },
    "25 - 58 (RTT/2 + frame phase), 75 - 108 if the keyframe must be asked for",
);

const NEW_SESSION: Judgement = (
    Goal { p50: Some(450.0), p95: Some(700.0), max: None },
    "6.5 round trips (TCP, TLS, POST, ICE, 2 of DTLS, half for the frame) + frame phase = 325 - 358 from the first packet of \
        the new session, + one round trip and up to 125 for the probe that says when = 375 - 533",
);

const fn healed(
    id: &'static str,
    name: &'static str,
    (goal, limit): Judgement,
    of: fn(&Record) -> Option<Value>,
) -> Figure {
    Figure { id, item: 3, name, unit: "ms", goal, limit, judged: Who::roams, of }
}

/// Of one contender.
struct Summary {
    who: Who,
    n: usize,
    p50: Value,
    p95: Value,
    max: Value,
}

impl Summary {
    fn of(figure: &Figure, who: Who, records: &[Record]) -> Option<Self> {
        let own = records.iter().filter(|record| record.who == who);
        let mut values: Vec<Value> = own.filter_map(|record| (figure.of)(record)).collect();
        values.sort_by(|one, other| {
            (one.is_more, one.number).partial_cmp(&(other.is_more, other.number)).expect("numbers")
        });
        let max = *values.last()?;
        Some(Self { who, n: values.len(), p50: rank(&values, 0.5), p95: rank(&values, 0.95), max })
    }

    fn meets(&self, goal: Goal) -> bool {
        let reached = |value: Value, most: Option<f64>| most.is_none_or(|most| !value.is_more && value.number <= most);
        reached(self.p50, goal.p50) && reached(self.p95, goal.p95) && reached(self.max, goal.max)
    }
}

/// The nearest rank: a value that was seen.
fn rank(sorted: &[Value], part: f64) -> Value {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

impl Figure {
    fn summaries(&self, records: &[Record]) -> Vec<Summary> {
        Who::ALL.into_iter().filter_map(|who| Summary::of(self, who, records)).collect()
    }

    fn title(&self) -> String {
        if self.item == 3 {
            format!("the only link silent for {}: from its healing to the first decodable frame", self.name)
        } else {
            self.name.to_owned()
        }
    }

    /// Lines of the table.
    fn table(&self, records: &[Record]) -> String {
        let mut text = format!("{}  {}, {}\n", self.id, self.title(), self.unit);
        writeln!(text, "    goal {}; limit {}", self.goal, self.limit).expect("text");
        for summary in self.summaries(records) {
            let [p50, p95, max] = [summary.p50, summary.p95, summary.max].map(|value| value.to_string());
            let met = match ((self.judged)(summary.who), summary.meets(self.goal)) {
                (false, _) => "",
                (true, true) => "met",
                (true, false) => "NOT MET",
            };
            let (who, n) = (summary.who.name(), summary.n);
            writeln!(text, "    {who:<20} n {n:>3}   p50 {p50:>8}   p95 {p95:>8}   max {max:>8}   {met}")
                .expect("text");
        }
        text
    }

    fn json(&self, records: &[Record], run: &Json) -> Json {
        let summaries = self.summaries(records);
        let met = summaries.iter().filter(|summary| (self.judged)(summary.who)).all(|summary| summary.meets(self.goal));
        let results = summaries.iter().map(|summary| {
            let Summary { who, n, p50, p95, max } = summary;
            let capped = records.iter().filter(|record| record.who == *who);
            let capped = capped.filter_map(|record| (self.of)(record)).filter(|value| value.is_more).count();
            json!({ "who": who.name(), "n": n, "p50": p50.number, "p95": p95.number, "max": max.number, "capped": capped })
        });
        json!({ "id": self.id, "name": self.title(), "unit": self.unit, "goal": self.goal.to_string(), "limit": self.limit,
            "met": met, "date": run["date"], "versions": run["versions"], "results": results.collect::<Vec<_>>() })
    }
}

/// All figures of these items; `run`: what to tell of the run. Written to this folder, too.
pub(crate) fn report(items: &[u8], records: &[Record], run: &Json, folder: &Path) -> String {
    std::fs::create_dir_all(folder).expect("the folder of the benchmarks");
    let figures = FIGURES.iter().filter(|figure| items.contains(&figure.item));
    let mut text = String::new();
    for figure in figures {
        let json = format!("{:#}\n", figure.json(records, run));
        std::fs::write(folder.join(format!("{}.json", figure.id)), json).expect("the folder can be written");
        text += &figure.table(records);
    }
    text
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [("p50", self.p50), ("p95", self.p95), ("max", self.max)];
        let parts = parts.iter().filter_map(|(name, most)| most.map(|most| format!("{name} <= {most}")));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:.0}", if self.is_more { ">" } else { "" }, self.number)
    }
}
