//! Retry storms: 1 000 brains lose one server in one instant, it is away for a minute, all want to come back.
//!
//! The goal (product.md, item 12) is 20 in any 100 ms (2 % of them) with a p95 extra wait of at most 8 s: once with a server
//! that hands out slots (roamcast signalling: `welcome.retrySlot`), once with one that does not.
//!
//! Without slots the two cannot both be had: 950 encoders in 8 s are 11.9 in each 100 ms on average, and they come like
//! raindrops - the fullest of all the windows of 100 ms has about 24. That is the physical limit of encoders that know
//! nothing of each other, reckoned here ([`ideal_peak`]) from encoders that are spread as evenly as dice can. So the wait is
//! kept, and the peak is held to that limit.
//!
//! While the server is away the first tries bunch, with slots too: `minDelay` and a fifth of it is 0.4 s for all of them. A
//! wider first wait lowers that peak and delays the return of every encoder that lost the server for a moment by as much;
//! such a try finds a closed port, which is cheap. Reckoned with 1 000 encoders: first waits of 2..=2.4 s, of 2..=3 s and of
//! 2..=4 s peak at about 275, 123 and 68 in 100 ms.

use std::time::{Duration, Instant};

use roamcast::config;
use roamcast::ingest::slots::slot_of;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{
    Action, Attempt, Command, Event, Failure, MediaEvent, Phase, Retry, RetrySlot, SessionEvent,
};
use roamcast::supervisor::{Policy, Retries, Supervisor};

use crate::world::base;

const BRAINS: u64 = 1_000;
/// Storms that are averaged: what one of them shows is half chance.
const STORMS: u64 = 20;
const AWAY: Duration = Duration::from_secs(60);
/// This many may come in any 100 ms.
const GOAL: f64 = 0.02 * BRAINS as f64;
const WINDOW: Duration = Duration::from_millis(100);
/// The extra wait of 95 % of them may be this long.
const WAIT_P95_MAX: Duration = Duration::from_secs(8);
/// The doubling from `minDelay` on takes so long: few tries, close to each other.
const SETTLED: Duration = Duration::from_secs(17);

/// The defaults of the config, without a limit.
fn policy() -> Policy {
    let config = config::load("", "", std::iter::empty()).expect("an empty config is a good one");
    Policy { max_retries: Retries::Unlimited, ..config.policy }
}

/// When the tries of one brain come, since the loss; the last one is accepted.
fn arrivals(seed: u64, slot: Option<u16>, start: Instant) -> Vec<Duration> {
    let mut brain = Supervisor::new(policy(), seed, start);
    let failure = || Failure::new(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed, "refused");
    brain.step(start, Event::Command(Command::Start));
    brain.step(start, Event::Media(Attempt(1), MediaEvent::Flowing));
    if let Some(slot) = slot {
        brain.step(start, Event::Session(Attempt(1), SessionEvent::RetrySlot(RetrySlot(slot))));
    }
    let accepted = SessionEvent::Accepted { session_id: "/whip/1".into() };
    for event in [accepted, SessionEvent::Connected, SessionEvent::Acknowledged, SessionEvent::Failed(failure())] {
        brain.step(start, Event::Session(Attempt(1), event));
    }
    brain.step(start, Event::Session(Attempt(1), SessionEvent::Closed));
    let mut tries = Vec::new();
    loop {
        let now = brain.deadline().expect("it goes on trying");
        for order in brain.step(now, Event::Deadline) {
            let Action::Open { attempt, .. } = order else { continue };
            tries.push(now - start);
            if now - start >= AWAY {
                return tries;
            }
            brain.step(now, Event::Session(attempt, SessionEvent::Failed(failure())));
            brain.step(now, Event::Session(attempt, SessionEvent::Closed));
        }
    }
}

/// The most arrivals in any window, wherever it begins.
fn peak(arrivals: &mut [Duration]) -> usize {
    arrivals.sort_unstable();
    let mut first = 0;
    let mut peak = 0;
    for last in 0..arrivals.len() {
        while arrivals[last] - arrivals[first] >= WINDOW {
            first += 1;
        }
        peak = peak.max(last + 1 - first);
    }
    peak
}

/// The fullest window of encoders that are spread evenly over time, so that the p95 is exactly [`WAIT_P95_MAX`].
fn ideal_peak(number: u64) -> usize {
    let mut dice = fastrand::Rng::with_seed(number);
    let spread = WAIT_P95_MAX.as_secs_f64() / 0.95;
    let served = (0..BRAINS).map(|brain| {
        let (from, share) = if brain < BRAINS * 95 / 100 { (0.0, 0.95) } else { (0.95, 0.05) };
        Duration::from_secs_f64((from + share * dice.f64()) * spread)
    });
    peak(&mut served.collect::<Vec<_>>())
}

struct Storm {
    peak: usize,
    ideal_peak: usize,
    peak_at_first: usize,
    peak_while_away: usize,
    extra_p95: Duration,
    mean: f64,
}

fn storm(number: u64, with_slots: bool, start: Instant) -> Storm {
    // Sessions have come and gone before this storm: up to a fifth of the places are empty today.
    let absent = if with_slots { number * BRAINS / 100 } else { 0 };
    let mut places: Vec<u64> = (0..BRAINS + absent).collect();
    fastrand::Rng::with_seed(number).shuffle(&mut places);
    let slot = |brain: u64| with_slots.then(|| slot_of(places[brain as usize] as u16));
    let tries: Vec<_> = (0..BRAINS).map(|brain| arrivals(number * BRAINS + brain, slot(brain), start)).collect();
    let mut served: Vec<Duration> = tries.iter().filter_map(|tries| tries.last()).map(|last| *last - AWAY).collect();
    let peak_of = |times: std::ops::Range<Duration>| {
        peak(&mut tries.iter().flatten().copied().filter(|time| times.contains(time)).collect::<Vec<_>>())
    };
    let (peak_at_first, peak_while_away) = (peak_of(Duration::ZERO..SETTLED), peak_of(SETTLED..AWAY));
    let (peak, ideal_peak) = (peak(&mut served), ideal_peak(number));
    let extra_p95 = served[served.len() * 95 / 100];
    let until_p95 = (extra_p95.as_secs_f64() / WINDOW.as_secs_f64()).max(1.0);
    Storm { peak, ideal_peak, peak_at_first, peak_while_away, extra_p95, mean: BRAINS as f64 * 0.95 / until_p95 }
}

/// Means of all storms.
struct Means {
    peak: f64,
    worst: usize,
    ideal: f64,
    at_first: f64,
    away: f64,
    p95: f64,
    rate: f64,
}

fn storms(with_slots: bool) -> Means {
    let start = base();
    let storms: Vec<Storm> = (0..STORMS).map(|number| storm(number, with_slots, start)).collect();
    let mean = |of: fn(&Storm) -> f64| storms.iter().map(of).sum::<f64>() / STORMS as f64;
    let means = Means {
        peak: mean(|storm| storm.peak as f64),
        worst: storms.iter().map(|storm| storm.peak).max().unwrap_or_default(),
        ideal: mean(|storm| storm.ideal_peak as f64),
        at_first: mean(|storm| storm.peak_at_first as f64),
        away: mean(|storm| storm.peak_while_away as f64),
        p95: mean(|storm| storm.extra_p95.as_secs_f64()),
        rate: mean(|storm| storm.mean),
    };
    println!("peaks: {:?}", storms.iter().map(|storm| storm.peak).collect::<Vec<_>>());
    println!(
        "{STORMS} storms of {BRAINS} encoders {} slots: {:.1} come in 100 ms on average, at most {:.1} (worst storm {}) in any \
         100 ms once the server is back (goal {:.0}; physical limit of encoders that know nothing of each other {:.1}); \
         extra wait p95 {:.2} s (goal {WAIT_P95_MAX:?}); while it is away {:.1}, in the first {SETTLED:?} {:.1}",
        if with_slots { "with" } else { "without" },
        means.rate,
        means.peak,
        means.worst,
        GOAL,
        means.ideal,
        means.p95,
        means.away,
        means.at_first,
    );
    means
}

/// Each single storm keeps to the goal, also when some of the sessions that the server knew are not there.
#[test]
fn a_thousand_encoders_with_slots_come_back_evenly_and_soon() {
    let means = storms(true);
    assert!(means.p95 <= WAIT_P95_MAX.as_secs_f64(), "p95 {}", means.p95);
    assert!(means.worst as f64 <= GOAL, "peak {} in the worst storm", means.worst);
    assert!(means.away <= GOAL && means.at_first <= 300.0, "while away {}, at first {}", means.away, means.at_first);
}

#[test]
fn a_thousand_encoders_that_know_nothing_of_each_other_come_back_spread_out_and_soon() {
    let means = storms(false);
    assert!(means.p95 <= WAIT_P95_MAX.as_secs_f64(), "p95 {}", means.p95);
    let (rate, peak, ideal) = (means.rate, means.peak, means.ideal);
    assert!(rate <= 13.0 && peak <= ideal * 1.1, "mean {rate}, peak {peak}, ideal {ideal}");
    // Once the first waits are behind them the encoders are spread, long before the server is back.
    assert!(means.away <= 30.0 && means.at_first <= 300.0, "while away {}, at first {}", means.away, means.at_first);
}
