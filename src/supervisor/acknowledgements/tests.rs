//! The whole brain against far ends that report in their own rhythm, in virtual time.

use std::time::Duration;

use proptest::prelude::*;

use super::super::event::{Action, SessionEvent};
use super::super::tests::{Run, policy};
use super::{CONSENTED, Patience};
use crate::status::Message;

/// The slowest and the quickest far end that is known, ms between two reports.
const PAUSES_MS: std::ops::Range<u64> = 200..8_001;
/// How long each far end is watched.
const WATCHED: Duration = Duration::from_secs(600);

/// How a far end reports.
#[derive(Debug, Clone)]
enum Rhythm {
    /// Every so many ms, give or take half of it, as RFC 3550, 6.2, has it.
    Regular { pause: u64 },
    /// Some quick reports, and slow ones for ever.
    QuickThenSlow { quick: u64, times: usize, slow: u64 },
    /// Some at once, then a pause.
    Bursty { times: usize, pause: u64 },
    /// In answer to our sender reports alone: GStreamer's come after 0.3 s and 0.5 s, then every 2 to 7 s.
    OnOurs,
    /// A keyframe is asked for now and then; never a report.
    Wishes { pause: u64 },
    /// Nothing at all.
    None,
}

fn rhythms() -> impl Strategy<Value = Rhythm> {
    prop_oneof![
        (PAUSES_MS.start..5_334).prop_map(|pause| Rhythm::Regular { pause }),
        (PAUSES_MS.start..1_000, 1..400_usize, 1_000..PAUSES_MS.end)
            .prop_map(|(quick, times, slow)| Rhythm::QuickThenSlow { quick, times, slow }),
        (2..40_usize, PAUSES_MS).prop_map(|(times, pause)| Rhythm::Bursty { times, pause }),
        Just(Rhythm::OnOurs),
        (PAUSES_MS.start..120_000).prop_map(|pause| Rhythm::Wishes { pause }),
        Just(Rhythm::None),
    ]
}

impl Rhythm {
    /// The pause before report number `n` (from 0), ms; `None`: it never comes.
    fn pause(&self, n: usize, dice: &mut fastrand::Rng) -> Option<u64> {
        match *self {
            Self::Regular { pause } => Some(dice.u64(pause / 2..=pause * 3 / 2)),
            Self::QuickThenSlow { quick, times, .. } if n < times => Some(quick),
            Self::QuickThenSlow { slow, .. } => Some(slow),
            Self::Bursty { times, .. } if !n.is_multiple_of(times) => Some(dice.u64(..30)),
            Self::Bursty { pause, .. } | Self::Wishes { pause } => Some(pause),
            Self::OnOurs if n < 2 => Some([300, 200][n]),
            Self::OnOurs => Some(dice.u64(2_000..7_001)),
            Self::None => None,
        }
    }

    const fn event(&self) -> SessionEvent {
        match self {
            Self::Wishes { .. } => SessionEvent::Named,
            Self::Regular { .. } | Self::QuickThenSlow { .. } | Self::Bursty { .. } | Self::OnOurs | Self::None => {
                SessionEvent::Acknowledged
            }
        }
    }

    const fn reports(&self) -> bool {
        !matches!(self, Self::Wishes { .. } | Self::None)
    }
}

/// A session that is connected, and the far end of it.
struct Air {
    run: Run,
    rhythm: Rhythm,
    dice: fastrand::Rng,
    /// Reports so far, and the time until the next, ms.
    reports: usize,
    next: Option<u64>,
    /// The share of reports that are lost on the way, percent.
    loss: u8,
    /// Until the figures of the session, ms.
    figures: u64,
}

impl Air {
    fn new(rhythm: Rhythm, seed: u64, loss: u8) -> Self {
        let mut run = Run::started(policy());
        run.session(0.1, SessionEvent::Accepted { session_id: "/whip/1".into() });
        run.session(0.2, SessionEvent::Connected);
        let mut dice = fastrand::Rng::with_seed(seed);
        let next = rhythm.pause(0, &mut dice);
        Self { run, rhythm, dice, reports: 0, next, loss, figures: 1_000 }
    }

    /// Plays for so long; `silent`: no report comes any more. The orders, and how long it took until the first, ms.
    fn play(&mut self, time: Duration, silent: bool) -> Option<(u64, Vec<Action>)> {
        let whole = u64::try_from(time.as_millis()).expect("short");
        let mut left = whole;
        while left > 0 {
            let due = self.run.until_due_ms();
            let next = self.next.filter(|_| !silent);
            let step = [Some(left), Some(self.figures), due, next].into_iter().flatten().min().expect("some");
            left -= step;
            self.figures -= step;
            self.next = self.next.map(|next| next.saturating_sub(step));
            let seconds = Duration::from_millis(step).as_secs_f64();
            let mut orders = if next == Some(step) {
                let is_lost = self.dice.u8(..100) < self.loss;
                self.reports += 1;
                self.next = self.rhythm.pause(self.reports, &mut self.dice);
                if is_lost { self.run.hear_nothing(seconds) } else { self.run.session(seconds, self.rhythm.event()) }
            } else if due == Some(step) {
                self.run.due().1
            } else if self.figures == 0 {
                self.figures = 1_000;
                self.run.session(seconds, SessionEvent::Link(crate::status::LinkStats::default()))
            } else {
                self.run.hear_nothing(seconds)
            };
            orders.retain(|order| !matches!(order, Action::RememberProof { .. }));
            if !orders.is_empty() {
                return Some((whole - left, orders));
            }
        }
        None
    }

    fn told(&mut self) -> Vec<String> {
        let told = self.run.story();
        told.into_iter().filter(|line| line != "signalling" && line != "connected").collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_rhythm_is_taken_for_a_stall_and_a_stall_is_noticed(rhythm in rhythms(), seed: u64) {
        let mut air = Air::new(rhythm.clone(), seed, 0);
        prop_assert_eq!(air.play(WATCHED, false), None, "a false stall");
        prop_assert_eq!(air.told(), ["broadcasting"], "neither flaps nor gaps");
        let broadcast = air.run.brain.status().broadcast.clone().expect("on air");
        prop_assert_eq!(broadcast.unproven, matches!(rhythm, Rhythm::None));
        // The far end falls silent, and ICE says nothing.
        let noticed = air.play(WATCHED, true);
        if rhythm.reports() {
            let Patience { min, max, .. } = CONSENTED;
            let (after, orders) = noticed.expect("a stall");
            let is_restart = matches!(&orders[..], [Action::RestartIce(_)]);
            prop_assert!(is_restart, "{:?}", orders);
            let bounds = (min - Duration::from_millis(PAUSES_MS.end))..=max;
            prop_assert!(bounds.contains(&Duration::from_millis(after)), "noticed after {after} ms");
        } else {
            prop_assert_eq!(noticed, None, "consent alone decides");
            air.run.session(0.0, SessionEvent::Disconnected);
            let (after, _) = air.play(WATCHED, true).expect("consent is gone");
            prop_assert_eq!(after, 4_000, "disconnectedTimeout");
        }
    }

}

proptest! {
    // Each is an hour.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_hour_of_5_percent_loss_is_no_stall(pause in PAUSES_MS.start..2_000, seed: u64) {
        let mut air = Air::new(Rhythm::Regular { pause }, seed, 5);
        prop_assert_eq!(air.play(Duration::from_secs(3_600), false), None, "a false stall");
        prop_assert_eq!(air.told(), ["broadcasting"]);
    }
}

#[test]
fn consent_is_believed_after_five_seconds_and_a_report_sooner() {
    for (rhythm, seconds) in [(Rhythm::None, 5.0), (Rhythm::Wishes { pause: 700 }, 0.7), (Rhythm::OnOurs, 0.3)] {
        let mut air = Air::new(rhythm.clone(), 1, 0);
        let message = |air: &Air| air.run.brain.status().broadcast.as_ref().map(|broadcast| broadcast.message);
        air.play(Duration::from_secs_f64(seconds - 0.01), false);
        assert_eq!(message(&air), Some(Message::Connected), "{rhythm:?}");
        air.play(Duration::from_millis(20), false);
        assert_eq!(message(&air), Some(Message::Broadcasting), "{rhythm:?}");
    }
}

/// As werift does it: media and checks go on, and RTCP stays behind.
#[test]
fn rtcp_that_does_not_follow_ice_restarts_costs_two_of_them_at_most() {
    // ICE never said that it was down, or it did and comes up with each restart for a while.
    for goes_down in [None, Some(6.0), Some(20.0)] {
        let mut air = Air::new(Rhythm::Regular { pause: 1_000 }, 1, 0);
        air.play(Duration::from_secs(60), false);
        let mut restarts = 0;
        if goes_down.is_some() {
            air.run.session(0.0, SessionEvent::Disconnected);
        }
        loop {
            let (_, orders) = air.play(WATCHED, true).expect("it goes on");
            if matches!(orders[..], [Action::Open { .. }]) {
                break;
            }
            assert!(matches!(orders[..], [Action::RestartIce(_)]), "{orders:?}");
            restarts += 1;
            air.run.session(0.1, SessionEvent::IceRestarted);
            if let Some(seconds) = goes_down {
                air.run.session(0.1, SessionEvent::Connected);
                if air.play(Duration::from_secs_f64(seconds), true).is_some() {
                    break;
                }
                air.run.session(0.0, SessionEvent::Disconnected);
            }
        }
        assert!((1..=2).contains(&restarts), "{restarts} restarts, goes down after {goes_down:?}");
    }
}

/// A far end that is judged by its consent needs no proof after an ICE restart.
#[test]
fn who_never_reports_is_on_air_again_as_soon_as_ice_is() {
    let mut air = Air::new(Rhythm::None, 1, 0);
    air.play(Duration::from_secs(60), false);
    air.told();
    air.run.session(0.0, SessionEvent::Disconnected);
    let (_, orders) = air.play(WATCHED, true).expect("a restart");
    assert!(matches!(orders[..], [Action::RestartIce(_)]), "{orders:?}");
    air.run.session(0.1, SessionEvent::IceRestarted);
    air.run.session(0.1, SessionEvent::Connected);
    assert_eq!(air.play(WATCHED, true), None);
    let mut told = air.told();
    told.dedup();
    assert_eq!(told, ["reconnecting_broadcast", "broadcasting", "gap 4.2"]);
}
