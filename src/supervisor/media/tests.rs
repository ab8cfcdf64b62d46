use super::*;
use crate::supervisor::tests::{at, policy};

fn connected(seconds: f64) -> Media {
    let mut media = Media::new(true);
    media.accepted(at(0.0));
    media.connected(at(seconds));
    media
}

fn acknowledged_every(interval: f64, times: u32) -> (Media, f64) {
    let mut media = connected(0.0);
    (1..=times).for_each(|n| media.acknowledged(at(f64::from(n) * interval)));
    (media, f64::from(times) * interval)
}

#[test]
fn a_silence_is_held_against_the_pauses_of_this_far_end() {
    let blind = Policy { watches_consent: false, ..policy() };
    for (interval, with_consent, without) in
        [(0.2, 10.0, 3.0), (1.0, 10.0, 3.0), (2.5, 12.5, 7.5), (5.0, 25.0, 15.0), (8.0, 40.0, 24.0), (30.0, 40.0, 24.0)]
    {
        let (media, last) = acknowledged_every(interval, 120);
        assert_eq!(media.deadline(&policy()), Some(at(last + with_consent)), "interval {interval} s");
        assert_eq!(media.deadline(&blind), Some(at(last + without)), "interval {interval} s, without consent");
    }
    let (media, last) = acknowledged_every(1.0, 4);
    assert_eq!(media.deadline(&blind), Some(at(last + 10.0)), "it may yet become slow");
}

#[test]
fn only_recent_pauses_count() {
    let (mut media, last) = acknowledged_every(5.0, 5);
    (1..=9).for_each(|n| media.acknowledged(at(last + f64::from(n))));
    assert!(media.deadline(&policy()).is_some_and(|deadline| deadline > at(last + 9.0 + 20.0)));
    (10..=300).for_each(|n| media.acknowledged(at(last + f64::from(n))));
    assert_eq!(media.deadline(&policy()), Some(at(last + 300.0 + 10.0)));
}

#[test]
fn a_still_camera_is_not_a_stall_and_the_clock_starts_afresh_when_it_is_back() {
    let (mut media, last) = acknowledged_every(1.0, 4);
    media.frames(at(last + 1.0), false);
    assert_eq!(media.deadline(&policy()), None);
    media.frames(at(last + 100.0), true);
    assert_eq!(media.deadline(&policy()), Some(at(last + 110.0)));
    media.acknowledged(at(last + 101.0));
    assert_eq!(media.deadline(&policy()), Some(at(last + 111.0)), "the gap was no interval of the receiver");
}

#[test]
fn a_short_disturbance_is_not_shown_a_longer_one_is_and_then_needs_new_proof() {
    let (mut media, last) = acknowledged_every(1.0, 4);
    media.disconnected(at(last + 0.5));
    assert!(media.due(at(last + 1.0), &policy()).is_none());
    assert!(!media.is_disturbed() && media.is_connected());
    media.connected(at(last + 1.2));
    assert!(media.is_connected() && media.is_believed());

    media.disconnected(at(last + 2.0));
    assert_eq!(media.deadline(&policy()), Some(at(last + 3.0)), "statusGrace");
    assert!(media.due(at(last + 3.0), &policy()).is_none());
    assert!(media.is_disturbed());
    media.connected(at(last + 4.0));
    assert!(media.is_connected() && !media.is_believed());
    media.acknowledged(at(last + 4.5));
    assert!(media.is_believed());
}

#[test]
fn a_disturbance_that_does_not_heal_is_a_loss() {
    let (mut media, last) = acknowledged_every(1.0, 4);
    media.disconnected(at(last));
    assert!(media.due(at(last + 1.0), &policy()).is_none());
    media.disconnected(at(last + 3.0));
    assert_eq!(media.deadline(&policy()), Some(at(last + 4.0)), "hearing it twice does not lengthen it");
    let failure = media.due(at(last + 4.0), &policy()).expect("lost");
    assert_eq!(failure.code, ErrorCode::IceConnectionDisconnected);
}

#[test]
fn an_acknowledgement_heals_whatever_ice_says() {
    let (mut media, last) = acknowledged_every(1.0, 4);
    media.disconnected(at(last));
    media.due(at(last + 1.0), &policy());
    media.acknowledged(at(last + 2.0));
    assert!(media.is_connected() && media.is_believed());
}

#[test]
fn a_process_that_was_suspended_does_not_blame_the_far_end_for_its_own_silence() {
    let (mut media, last) = acknowledged_every(1.0, 4);
    media.woke_up(at(last + 60.0));
    assert!(media.due(at(last + 60.0), &policy()).is_none());
    assert_eq!(media.deadline(&policy()), Some(at(last + 70.0)));
    assert_eq!(media.due(at(last + 70.0), &policy()).expect("lost").code, ErrorCode::MediaStalled);
    media.acknowledged(at(last + 60.9));
    assert_eq!(media.deadline(&policy()), Some(at(last + 70.9)), "a minute of ours is no habit of the far end");

    let (mut media, last) = acknowledged_every(1.0, 4);
    media.disconnected(at(last));
    media.woke_up(at(last + 60.0));
    assert!(media.due(at(last + 60.0), &policy()).is_none());
    assert_eq!(media.deadline(&policy()), Some(at(last + 61.0)), "statusGrace begins anew");

    let mut media = Media::new(true);
    media.accepted(at(0.0));
    media.woke_up(at(60.0));
    assert!(media.due(at(60.0), &policy()).is_none());
    assert_eq!(media.deadline(&policy()), Some(at(75.0)));
}

#[test]
fn an_ice_that_flaps_without_any_acknowledgement_is_lost_in_the_end() {
    let (mut media, last) = acknowledged_every(1.0, 4);
    let mut lost = None;
    for second in 1..60 {
        let now = at(last + f64::from(second));
        if second % 2 == 1 {
            media.disconnected(now)
        } else {
            media.connected(now)
        }
        lost = lost.or_else(|| media.due(now, &policy()).map(|failure| (second, failure.code)));
    }
    let (second, code) = lost.expect("lost");
    assert_eq!(code, ErrorCode::MediaStalled);
    assert!(second <= 15, "disconnectedTimeout + 10 s: {second}");
}

#[test]
fn who_never_reports_is_believed_by_its_consent_after_five_seconds_of_media() {
    let mut media = connected(2.0);
    assert_eq!(media.deadline(&policy()), Some(at(7.0)));
    media.frames(at(5.0), false);
    assert_eq!(media.deadline(&policy()), None, "nothing is sent that could arrive");
    media.frames(at(8.0), true);
    assert_eq!(media.deadline(&policy()), Some(at(13.0)));
    assert!(!media.is_believed());
    assert!(media.due(at(13.0), &policy()).is_none());
    assert!(media.is_believed() && media.is_unproven());
    assert_eq!((media.deadline(&policy()), media.last_acknowledged()), (None, Some(at(13.0))));
    media.attended(at(60.0));
    assert_eq!(media.last_acknowledged(), Some(at(60.0)));
    // Its consent goes.
    media.disconnected(at(61.0));
    media.attended(at(62.0));
    assert_eq!(media.last_acknowledged(), Some(at(60.0)));
    media.due(at(62.0), &policy());
    assert!(media.is_disturbed());
    assert_eq!(media.due(at(65.0), &policy()).expect("lost").code, ErrorCode::IceConnectionDisconnected);
    media.lost(at(65.0), false);
    media.connected(at(70.0));
    assert!(media.is_believed() && media.is_by_consent() && !media.is_disturbed());
    // It reports after all.
    media.acknowledged(at(80.0));
    assert!(media.is_believed() && !media.is_unproven() && !media.is_by_consent());
    assert_eq!(media.deadline(&policy()), Some(at(90.0)));
}

#[test]
fn a_wish_proves_media_and_promises_no_other() {
    let mut media = connected(0.0);
    media.named(at(0.4));
    assert!(media.is_believed() && !media.is_unproven());
    assert_eq!(media.deadline(&policy()), None);
    // Who reports is judged by its reports.
    media.acknowledged(at(1.0));
    media.named(at(10.0));
    assert_eq!(media.due(at(11.0), &policy()).expect("lost").code, ErrorCode::MediaStalled);
}

#[test]
fn a_wish_after_consent_was_believed_takes_the_condition_away() {
    let mut media = connected(0.0);
    media.due(at(5.0), &policy());
    assert!(media.is_unproven());
    media.named(at(30.0));
    assert!(media.is_believed() && !media.is_unproven());
}

#[test]
fn an_ice_that_flaps_before_any_report_is_lost_in_the_end() {
    let mut media = connected(0.0);
    let lost = (1..60).find_map(|second| {
        let now = at(f64::from(second));
        if second % 2 == 1 {
            media.disconnected(now)
        } else {
            media.connected(now)
        }
        media.due(now, &policy()).map(|failure| (second, failure.code))
    });
    assert_eq!(lost, Some((20, ErrorCode::MediaStalled)), "disconnectedTimeout + 15 s");
}

#[test]
fn what_was_taken_for_a_stall_is_learned_unless_ice_was_down() {
    for ice_was_down in [false, true] {
        let (mut media, last) = acknowledged_every(0.5, 100);
        assert_eq!(media.due(at(last + 10.0), &policy()).expect("lost").code, ErrorCode::MediaStalled);
        media.lost(at(last + 10.0), true);
        if ice_was_down {
            media.disconnected(at(last + 11.0));
        }
        media.acknowledged(at(last + 14.0));
        let patience = if ice_was_down { 10.0 } else { 40.0 };
        assert_eq!(media.deadline(&policy()), Some(at(last + 14.0 + patience)), "ICE was down: {ice_was_down}");
    }
}

#[test]
fn an_answered_restart_is_up_at_once_where_ice_never_was_down() {
    for ice_was_down in [false, true] {
        let (mut media, last) = acknowledged_every(1.0, 40);
        media.lost(at(last + 10.0), true);
        if ice_was_down {
            media.disconnected(at(last + 10.5));
        }
        assert_eq!(media.restarted(at(last + 11.0)), !ice_was_down);
        assert_eq!(media.is_disturbed(), ice_was_down);
        let due = (!ice_was_down).then_some(at(last + 26.0));
        assert_eq!(media.deadline(&policy()), due, "as long as a new session has");
    }
}

#[test]
fn late_reports_are_nothing_missed_and_a_long_silence_is() {
    let (media, last) = acknowledged_every(1.0, 4);
    assert_eq!(media.missed(at(last + 10.0), &policy()), None);
    assert_eq!(media.missed(at(last + 12.0), &policy()), Some(Duration::from_secs(12)));
    assert_eq!(connected(0.0).missed(at(99.0), &policy()), None, "nobody has seen anything yet");
}

#[test]
fn ice_that_never_comes_up_fails() {
    let mut media = Media::new(true);
    assert_eq!(media.deadline(&policy()), None);
    media.accepted(at(1.0));
    assert_eq!(media.due(at(16.0), &policy()).expect("lost").code, ErrorCode::IceConnectionFailed);
}
