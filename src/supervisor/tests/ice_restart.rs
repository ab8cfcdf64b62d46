//! Pure: golden traces of the ICE restart ladder in the whole brain.

use super::{Run, policy};
use crate::status::{ErrorCode, Layer, Message, Reason, StopReason, WaitingFor};
use crate::supervisor::event::{Action, Attempt, Event, Failure, PathEvent, Phase, Retry, SessionEvent};
use crate::supervisor::policy::{Policy, Retries};

fn unreachable() -> Failure {
    Failure::new(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed, "no answer")
}

fn failure(phase: Phase) -> Failure {
    Failure::new(phase, Retry::Never, ErrorCode::NotFound, "405")
}

fn is_open(orders: &[Action]) -> bool {
    orders.iter().any(|order| matches!(order, Action::Open { .. }))
}

/// Waits for the next rung of the session `attempt`; how long that took.
fn rung(run: &mut Run, attempt: u64) -> f64 {
    let mut waited = 0.0;
    loop {
        let (time, orders) = run.due();
        waited += time;
        if !orders.is_empty() {
            assert_eq!(orders, [Action::RestartIce(Attempt(attempt))]);
            return waited;
        }
        assert!(waited < 60.0, "no rung");
    }
}

#[test]
fn the_path_goes_silent_and_the_first_rung_heals_the_same_session() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.story();
    run.session(0.0, SessionEvent::Disconnected);
    assert_eq!(rung(&mut run, 1), 4.0, "disconnectedTimeout");
    let status = run.brain.status().broadcast.clone().unwrap();
    assert_eq!((status.message, status.ice_restart), (Message::ReconnectingBroadcast, Some(1)));
    assert_eq!((status.attempt, status.max_retries), (0, Some(10)), "those of full reconnects");
    assert_eq!((status.layer, status.reason), (Some(Layer::Media), Some(Reason::IceFailed)));
    assert_eq!(run.session(0.1, SessionEvent::IceRestarted), []);
    assert_eq!(run.session(0.1, SessionEvent::Connected), []);
    assert_eq!(run.session(0.3, SessionEvent::Acknowledged), []);
    assert_eq!(run.story().last().map(String::as_str), Some("gap 4.5"));
    assert!(run.brain.status().broadcast.as_ref().is_some_and(|on_air| on_air.ice_restart.is_none()));
    run.stays_on_air(30);
}

#[test]
fn ice_that_has_failed_is_restarted_at_once_and_within_the_grace_nobody_is_told() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.story();
    run.session(0.0, SessionEvent::IceFailed);
    assert_eq!(rung(&mut run, 1), 0.0);
    run.session(0.0, SessionEvent::IceFailed);
    run.session(0.1, SessionEvent::IceRestarted);
    run.session(0.1, SessionEvent::Connected);
    run.session(0.3, SessionEvent::Acknowledged);
    assert_eq!(run.story(), Vec::<String>::new());
}

#[test]
fn nine_rungs_and_then_a_session_beside_the_old_one() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::IceFailed);
    let mut span = 0.0;
    for _number in 1..=9 {
        span += rung(&mut run, 1);
        run.session(0.0, SessionEvent::IceRestarted);
    }
    assert!((109.0..=134.0).contains(&span), "{span}");
    let (_, orders) = run.due();
    assert_eq!(orders, [Action::Open { attempt: Attempt(2), endpoint: 0 }], "the old one is not closed yet");
    run.session(0.1, SessionEvent::Accepted { session_id: "/whip/2".into() });
    run.session(0.1, SessionEvent::Connected);
    let orders = run.session(0.1, SessionEvent::Acknowledged);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
    assert_eq!(run.brain.status().broadcast.as_ref().unwrap().message, Message::Broadcasting);
}

#[test]
fn a_server_that_refuses_the_restart_gets_a_new_session_at_once_and_no_further_rung() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::IceFailed);
    rung(&mut run, 1);
    let orders = run.session(0.1, SessionEvent::IceRestartRefused(failure(Phase::Request)));
    assert_eq!(orders, [Action::Open { attempt: Attempt(2), endpoint: 0 }]);
    // The old one heals before the new one is proven.
    let orders = run.hear(0.5, Event::Session(Attempt(1), SessionEvent::Connected));
    assert_eq!(orders, []);
    let orders = run.hear(0.5, Event::Session(Attempt(1), SessionEvent::Acknowledged));
    assert_eq!(orders, [Action::Close { attempt: Attempt(2), goodbye: true }]);
    assert_eq!(run.brain.status().broadcast.as_ref().unwrap().message, Message::Broadcasting);
}

#[test]
fn both_planes_lost_is_a_full_reconnect_without_another_rung() {
    let lost = |phase| Failure::new(phase, Retry::Backoff, ErrorCode::SignallingFailed, "lost");
    for event in
        [SessionEvent::SignallingLost(lost(Phase::Established)), SessionEvent::IceRestartFailed(lost(Phase::Dial))]
    {
        let mut run = Run::on_air(policy());
        run.stays_on_air(3);
        run.session(0.0, SessionEvent::IceFailed);
        rung(&mut run, 1);
        assert_eq!(run.session(0.1, event), [Action::Close { attempt: Attempt(1), goodbye: true }]);
    }
    // Signalling was lost first.
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::SignallingLost(lost(Phase::Established)));
    let orders = run.session(0.1, SessionEvent::IceFailed);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
}

/// The network is gone, whatever it says: other sessions are tried, and when it heals the one that was on air goes on.
#[test]
fn when_nothing_answers_another_session_is_tried_and_the_old_one_may_heal() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::IceFailed);
    rung(&mut run, 1);
    assert_eq!(run.due(), (1.0, vec![]), "statusGrace");
    assert_eq!(run.due(), (4.0, vec![Action::Open { attempt: Attempt(2), endpoint: 0 }]));
    let shown = |run: &Run| run.brain.status().broadcast.clone().unwrap();
    assert_eq!((shown(&run).message, shown(&run).attempt), (Message::ReconnectingBroadcast, 1));
    let orders = run.session(1.0, SessionEvent::Failed(unreachable()));
    assert_eq!(orders, [Action::Close { attempt: Attempt(2), goodbye: true }]);
    run.session(0.0, SessionEvent::Closed);
    assert_eq!((shown(&run).attempt, shown(&run).waiting_for), (2, Some(WaitingFor::Backoff)));
    assert!(shown(&run).retry_in.is_some_and(|seconds| seconds >= 2.0));
    // It heals first.
    run.hear(0.5, Event::Session(Attempt(1), SessionEvent::Connected));
    run.hear(0.1, Event::Session(Attempt(1), SessionEvent::Acknowledged));
    assert_eq!((shown(&run).message, shown(&run).attempt), (Message::Broadcasting, 0));
    let next = run.due();
    assert!(!is_open(&next.1), "nothing is left to wait for: {next:?}");
}

/// Neither heals nor answers: the tries are used up as ever.
#[test]
fn when_nothing_answers_ever_the_retries_are_used_up() {
    let mut run = Run::on_air(Policy { max_retries: Retries::AtMost(2), ..policy() });
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::IceFailed);
    rung(&mut run, 1);
    run.due();
    assert!(is_open(&run.due().1));
    for retry in 2..=3 {
        run.session(1.0, SessionEvent::Failed(unreachable()));
        run.session(0.0, SessionEvent::Closed);
        if retry == 2 {
            while !is_open(&run.due().1) {}
        }
    }
    assert_eq!(run.brain.status().stopped, Some(StopReason::ReconnectionExhausted));
}

#[test]
fn a_busy_server_is_asked_again_by_the_next_rung() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::Disconnected);
    rung(&mut run, 1);
    assert_eq!(run.session(0.1, SessionEvent::IceRestartFailed(failure(Phase::Request))), []);
    let waited = rung(&mut run, 1);
    assert!((0.8..=1.1).contains(&waited), "{waited}");
}

#[test]
fn without_a_network_no_rung_is_made_and_a_route_brings_one_at_once() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(3);
    run.hear(0.0, Event::Network(PathEvent::AllRoutesLost));
    run.session(0.0, SessionEvent::Disconnected);
    assert_eq!(run.due(), (1.0, vec![]), "statusGrace");
    assert_eq!(run.due(), (3.0, vec![]), "disconnectedTimeout");
    let status = run.brain.status().broadcast.clone().unwrap();
    assert_eq!((status.waiting_for, status.reason), (Some(WaitingFor::Network), Some(Reason::NetworkChange)));
    run.hear(10.0, Event::Network(PathEvent::RouteAppeared));
    assert_eq!(rung(&mut run, 1), 0.0);
}

#[test]
fn what_ice_cannot_mend_is_replaced() {
    let mut run = Run::on_air(policy());
    run.stays_on_air(9);
    assert_eq!(rung(&mut run, 1), 10.0, "a stall");
    run.session(0.1, SessionEvent::IceRestarted);
    run.session(0.1, SessionEvent::Connected);
    let (waited, orders) = run.due();
    assert_eq!((waited, orders), (14.9, vec![Action::Open { attempt: Attempt(2), endpoint: 0 }]));
}

#[test]
fn force_reconnect_after_drop_replaces_what_has_healed_and_what_has_not() {
    let force = Policy { force_reconnect_after_drop: true, ..policy() };
    let mut run = Run::on_air(force.clone());
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::Disconnected);
    assert!(is_open(&run.session(0.5, SessionEvent::Connected)));
    let mut run = Run::on_air(force);
    run.stays_on_air(3);
    run.session(0.0, SessionEvent::Disconnected);
    run.due();
    assert!(is_open(&run.due().1));
    // The old one heals before the new one is proven, which goes on all the same.
    assert_eq!(run.hear(0.5, Event::Session(Attempt(1), SessionEvent::Connected)), []);
    assert_eq!(run.hear(0.5, Event::Session(Attempt(1), SessionEvent::Acknowledged)), []);
    run.session(0.1, SessionEvent::Accepted { session_id: "/whip/2".into() });
    run.session(0.1, SessionEvent::Connected);
    let orders = run.session(0.1, SessionEvent::Acknowledged);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
}

#[test]
fn without_rungs_media_lost_is_a_session_lost() {
    let mut run = Run::on_air(Policy { ice_restart_attempts: 0, ..policy() });
    run.stays_on_air(3);
    let orders = run.session(0.0, SessionEvent::IceFailed);
    assert_eq!(orders, [Action::Close { attempt: Attempt(1), goodbye: true }]);
}
