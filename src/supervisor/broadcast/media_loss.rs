//! Pure: media is lost while the server still hears us - ICE restarts, then another session in the place of this one.

use super::super::event::{Action, Failure, Phase, Retry, SessionEvent};
use super::super::ice_restart::Step;
use super::successor::Cause;
use super::{Around, Broadcast, State, Trouble, trouble};
use crate::status::ErrorCode;
use crate::supervisor::trouble::Verdict;

impl Broadcast {
    /// Sees to the media of the live session.
    pub(super) fn media_due(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        match session.media_due(around.now, around.policy) {
            Some(failure) => self.media_lost(around, &failure, orders),
            None => self.climb(around, orders),
        }
    }

    /// The network is there (`true`), or gone.
    pub(super) fn ladder_hears(&mut self, around: Around<'_>, there: bool) {
        let State::Live(session) = &mut self.state else { return };
        match &mut session.ladder {
            Some(ladder) if there => ladder.route_appeared(around.now),
            Some(ladder) => ladder.routes_lost(around.now),
            None => {}
        }
    }

    /// Media of the live session is lost. The ladder where the server can be asked; else as any loss.
    fn media_lost(&mut self, around: Around<'_>, failure: &Failure, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        let has_rungs = around.policy.ice_restart_attempts > 0;
        if !has_rungs || failure.phase != Phase::Established || !session.signalling.is_open() {
            return Some(self.lose(around, failure, orders));
        }
        // ICE was restarted and is up, so the path is not what is broken. What breaks again before anything was acknowledged
        // may be; but not twice.
        let is_beyond_ice =
            session.is_unproved_again() && (failure.code == ErrorCode::MediaStalled || session.was_unproved_before());
        if is_beyond_ice || around.policy.force_reconnect_after_drop && !around.is_cut_off() {
            return Some(self.replace(around, failure, orders));
        }
        session.climb(around.now, around.is_cut_off(), failure);
        if session.is_disturbed() {
            self.begin_outage(around.now);
            self.trouble = Some(Trouble::new(failure, around.is_cut_off()));
        }
        None
    }

    /// ICE says that it has failed.
    pub(super) fn ice_failed(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        if !session.was_connected() {
            return None;
        }
        if session.ladder.as_ref().is_some_and(|ladder| !ladder.is_resting()) {
            session.ice_is_down(around.now); // Something is done about it already, perhaps for missing reports alone.
            return None;
        }
        let words = "the network path to the server is dead: ICE got no answer for too long";
        let failure = Failure::new(Phase::Established, Retry::Backoff, ErrorCode::IceConnectionDisconnected, words);
        self.media_lost(around, &failure, orders)
    }

    /// Sees to the rung that is due.
    fn climb(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        let rungs = around.policy.ice_restart_attempts;
        let ladder = session.ladder.as_mut()?;
        let step = ladder.due(around.now, around.is_cut_off(), rungs, &mut self.dice)?;
        let lost = ladder.lost().clone();
        match step {
            Step::Rung => {
                orders.push(Action::RestartIce(session.attempt));
                None
            }
            // Nobody hears us for now. What is tried is another session, and if the path heals first, the old one goes on.
            Step::UsedUp | Step::NoAnswer => Some(self.replace(around, &lost, orders)),
            Step::CutOff => Some(self.lose(around, &lost, orders)),
        }
    }

    /// What became of a rung.
    pub(super) fn rung_answered(
        &mut self,
        around: Around<'_>,
        event: &SessionEvent,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        let ladder = session.ladder.as_mut().filter(|ladder| ladder.is_asked())?;
        let lost = ladder.lost().clone();
        if let SessionEvent::IceRestartRefused(why) = event {
            let words = format!("{}; an ICE restart is refused: {}", lost.words, why.words);
            return Some(self.replace(around, &Failure { words, ..lost }, orders));
        }
        if let SessionEvent::IceRestartFailed(why) = event
            && why.phase == Phase::Dial
            && !around.is_cut_off()
        {
            // Neither plane is left.
            return Some(self.lose(around, &lost, orders));
        }
        ladder.answered(around.now, around.is_cut_off());
        if matches!(event, SessionEvent::IceRestarted) {
            session.ice_restarted(around.now);
        }
        None
    }

    /// Another session is to take the place of the live one, whose media is lost: make before break. The live one stays
    /// until the other is proven, for its path may heal.
    fn replace(&mut self, around: Around<'_>, failure: &Failure, orders: &mut Vec<Action>) -> Verdict {
        let State::Live(session) = &mut self.state else { return trouble::passing(failure) };
        session.give_up_media(around.now, failure);
        if session.is_disturbed() {
            self.begin_outage(around.now);
            self.trouble = Some(Trouble::new(failure, around.is_cut_off()));
        }
        self.begin_heir(around, Cause::MediaLost, failure, orders).unwrap_or_else(|| trouble::passing(failure))
    }

    /// What the live session's voice means for the one that was to take its place: `was_down` tells whether its media was
    /// interrupted before.
    pub(super) fn after_voice(&mut self, around: Around<'_>, was_down: bool, orders: &mut Vec<Action>) {
        let State::Live(session) = &self.state else { return };
        let has_healed = was_down && !session.is_down();
        let is_back = session.is_healthy() && session.ladder.is_none() && self.is_heir_for_lost_media();
        if !around.policy.force_reconnect_after_drop {
            if is_back {
                self.close_heir(around.now, orders);
            }
        } else if is_back {
            self.renew_by_heir(around, orders);
        } else if has_healed {
            self.renew(around, orders);
        }
    }
}
