//! `make bench`: items 1 to 5 of the goals, roamcast and its peers side by side, each in a lab of its own, RTT 50 ms.
//! `QUICK=1`: 3 repeats instead of 20; `ONLY=1,2`: these items; `WHO=always`: those with this in their name; `JOBS=6`: labs at
//! once.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that cannot go on panics, and says what it saw"
)]
#![allow(clippy::disallowed_methods, reason = "benchmarks measure real time; the length of a fault is waited for")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a benchmark looks at what it is about")]

mod contender;
mod figures;
mod rig;
mod scenario;
mod secrets_kept;

#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../../tests/support/ingest.rs"]
mod ingest;
#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../../tests/support/needs.rs"]
mod needs;
#[allow(unused_imports, reason = "its own tests are not built here, though `cfg(test)` is set")]
#[path = "../../tests/support/netlab/mod.rs"]
mod netlab;
#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../../tests/support/place.rs"]
mod place;
#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../../tests/support/program.rs"]
mod program;
#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../../tests/support/publisher.rs"]
mod publisher;
#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../../tests/support/viewer.rs"]
mod viewer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use contender::Who;
use figures::Record;
use scenario::Scenario;

/// Repeats of one contender in one lab; the rest goes to another lab, so that no job is much longer than the others.
const CHUNK: usize = 10;
/// After so many broken repeats a job is given up.
const BROKEN_MAX: usize = 3;

/// Some repeats of one event with one contender.
#[derive(Debug, Clone, Copy)]
struct Job {
    scenario: Scenario,
    who: Who,
    repeats: usize,
}

/// What came of all jobs.
#[derive(Debug, Default)]
struct Outcome {
    records: Vec<Record>,
    /// What went wrong, in words.
    broken: Vec<String>,
    /// The worst of all labs.
    lateness: Duration,
}

fn main() {
    let items = items(&std::env::var("ONLY").unwrap_or_default());
    let is_quick = std::env::var("QUICK").is_ok_and(|value| !value.is_empty() && value != "0");
    let repeats = if is_quick { 3 } else { 20 };
    let labs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(6);
    if let Some(reason) = netlab::missing() {
        eprintln!("bench: {reason}");
        std::process::exit(1);
    }
    assert!(contender::peer().is_file(), "`scripts/peers bench` has not brought {}", contender::peer().display());
    let began = Instant::now();
    let outcome = all(jobs(&items, repeats), labs);
    let text = words(&items, &outcome, began.elapsed(), labs);
    println!("{text}");
    if !outcome.broken.is_empty() {
        std::process::exit(1);
    }
}

/// The items of `ONLY`; all of ours where nothing is said.
fn items(only: &str) -> Vec<u8> {
    let parse = |item: &str| item.trim().parse().unwrap_or_else(|_| panic!("ONLY={only}: `{item}` is not a number"));
    let named: Vec<u8> = only.split(',').filter(|item| !item.trim().is_empty()).map(parse).collect();
    if named.is_empty() { (1..=5).collect() } else { named }
}

/// The longest first.
fn jobs(items: &[u8], repeats: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    let part = std::env::var("WHO").unwrap_or_default();
    for scenario in Scenario::ALL.into_iter().filter(|scenario| scenario.is_of(items)) {
        for who in scenario.contenders().filter(|who| who.name().contains(&part)) {
            let mut left = repeats;
            while left > 0 {
                jobs.push(Job { scenario, who, repeats: left.min(CHUNK) });
                left -= left.min(CHUNK);
            }
        }
    }
    jobs
}

/// Does all jobs, so many at once.
fn all(mut jobs: Vec<Job>, labs: usize) -> Outcome {
    jobs.reverse();
    let (jobs, outcome) = (Mutex::new(jobs), Mutex::new(Outcome::default()));
    std::thread::scope(|scope| {
        for _ in 0..labs {
            scope.spawn(|| {
                loop {
                    // Not in the condition: the lock would be held while the job is done.
                    let job = jobs.lock().unwrap().pop();
                    let Some(job) = job else { return };
                    job.run(&outcome);
                    let left = jobs.lock().unwrap().len();
                    eprintln!("bench: {:?} with {} done; {left} jobs wait", job.scenario, job.who.name());
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}

impl Job {
    fn run(self, outcome: &Mutex<Outcome>) {
        let Self { scenario, who, repeats } = self;
        let (mut rig, mut broken, mut done) = (None, 0, 0);
        while done < repeats && broken < BROKEN_MAX {
            let once = catch_unwind(AssertUnwindSafe(|| {
                let rig = rig.get_or_insert_with(|| scenario.rig(who));
                (scenario.run(rig), rig.lateness())
            }));
            match once {
                Ok((sample, lateness)) => {
                    done += 1;
                    eprintln!("bench: {scenario:?} with {}: {sample:?}", who.name());
                    // What never came back is dead: waiting longer for it measures nothing.
                    if sample.lost.is_some_and(|lost| lost.is_more) {
                        rig = None;
                    }
                    let mut outcome = outcome.lock().unwrap();
                    outcome.records.push(Record { scenario, who, sample });
                    outcome.lateness = outcome.lateness.max(lateness);
                }
                Err(panic) => {
                    broken += 1;
                    let words = panic.downcast_ref::<String>().map(String::as_str);
                    let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                    let words = words.lines().next().unwrap_or_default();
                    outcome.lock().unwrap().broken.push(format!("{scenario:?} with {}: {words}", who.name()));
                    // Another lab, and another process.
                    rig = None;
                }
            }
        }
    }
}

/// The report; written to `target/bench`, too.
fn words(items: &[u8], outcome: &Outcome, took: Duration, labs: usize) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    gst::init().expect("GStreamer");
    let peer = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/whipserversrc/Cargo.lock");
    let versions = json!({ "roamcast": env!("CARGO_PKG_VERSION"), "gstreamer": gst::version_string().to_string(),
        "gst-plugin-webrtc": locked(&peer, "gst-plugin-webrtc") });
    let run = json!({ "date": date, "versions": versions });
    let figures = figures::report(items, &outcome.records, &run, &folder);
    let mut text = format!(
        "roamcast bench, {date}, {versions}\n\
         RTT 50 ms, 320x180 at 30 frames/s, 400 kb/s. The receiver is the same for all: `roamcast ingest`; a viewer beside it counts \
         the frames that a decoder could show, after decryption. Times in ms; > means: stopped to look then. Frames lost by RTP time.\n\
         whipclientsink: started again 100 ms after it has ended (error, end of stream, or connection-state failed); HTTP \
         where ours uses HTTPS.\n\
         {labs} labs at once; took {} s; load at the end {load} on {cores} cores; links late by at most {:.1} ms (p99 of the worst lab).\n\n",
        took.as_secs(),
        outcome.lateness.as_secs_f64() * 1e3,
    );
    text += &figures;
    if items.contains(&2) {
        text += "2c  false switches in 1 h of 5 % loss + 30 ms jitter, in virtual time: goal 0; asserted and printed by\n    \
            cargo test --lib an_hour_of_loss_and_jitter_moves_nothing -- --nocapture\n";
    }
    for broken in &outcome.broken {
        text += &format!("broken: {broken}\n");
    }
    std::fs::write(folder.join("table.txt"), &text).expect("the folder can be written");
    text
}

/// The version of a crate in a lock file.
fn locked(file: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let after = text.split(&format!("name = \"{name}\"\nversion = \"")).nth(1).unwrap_or_default();
    after.split('"').next().unwrap_or_default().to_owned()
}
