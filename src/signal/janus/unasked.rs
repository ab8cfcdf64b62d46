//! What Janus says without being asked: how a session ends, and why; candidates; how its media are.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::failures::{self, JanusError};
use crate::sdp;
use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Retry};

use super::super::Word;
use super::super::origin::shown;
use super::text::{Message, Room, Said};
use super::{Janus, Session, Unanswered};

/// How long a `hangup` waits for the `detached` that explains it. Janus sends both at once; they may be in two TCP segments.
/// Half of what the session waits for words after a close of DTLS, so that these are heard in time.
const HANGUP_HELD: Duration = Duration::from_millis(250);

/// What the server has said of the end of a session.
pub(super) enum Ending {
    /// Nothing: it goes on.
    Unsaid,
    /// `hangup`, which may be the first half of `detached`: Janus takes the media down before it tells of the handle.
    Hangup { failure: Failure, until: Instant },
    /// Told; its echoes are not.
    Told,
}

impl Session {
    /// When nothing can explain a `hangup` any more.
    pub(super) fn hangup_until(&self) -> Option<Instant> {
        match self.ending {
            Ending::Hangup { until, .. } => Some(until),
            Ending::Unsaid | Ending::Told => None,
        }
    }
}

impl Janus {
    /// A message that answers nothing that we wait for.
    pub(super) fn unasked(&mut self, message: Message) {
        let ours = self.session.as_ref().map(|session| session.id);
        if message.session.is_some() && message.session != ours {
            return self.odd("a message is about a session that is not ours".to_owned());
        }
        let ended = |retry, code, how: &str| failures::janus_ended(&shown(&self.url), self.room.room, retry, code, how);
        let lost = |how: &str| ended(Retry::Backoff, ErrorCode::NetworkDisconnect, how);
        let failure = match message.said {
            Said::Timeout => lost("our session has expired, because the server has not heard from us"),
            Said::Error(error) if error.is_session_gone() => lost("our session is gone"),
            Said::Error(error) if error.is_unauthorized() => return self.shut_out(error),
            Said::Detached => lost("our handle is gone"),
            Said::Hangup(reason) => {
                let how = format!("the peer connection was taken down (it says: {reason})");
                return self.hold(ended(Retry::Backoff, ErrorCode::IceConnectionDisconnected, &how));
            }
            Said::Plugin(Room::Kicked, _) => {
                ended(Retry::Never, ErrorCode::AdminDisconnect, "an administrator has thrown us out")
            }
            Said::Plugin(Room::Destroyed, _) => ended(Retry::Backoff, ErrorCode::NotFound, "the room was destroyed"),
            Said::Candidate { mline, candidate } => return self.candidate(mline, candidate),
            Said::WebRtcUp => return debug!("Janus: ICE and DTLS are up"),
            Said::Media { mid, receiving } => return debug!("Janus: media of `{mid}` come in: {receiving}"),
            Said::SlowLink { lost } => return debug!("Janus: {lost} packets were lost lately"),
            Said::Plugin(Room::Other, _) => return,
            // Of a keepalive, or of something that we have given up waiting for.
            Said::Ack | Said::Success(_) => return,
            Said::Error(error) => return self.odd(format!("error {} answers nothing that we wait for", error.code)),
            Said::Plugin(Room::Joined(_) | Room::Configured | Room::Exists(_) | Room::Created | Room::List(_), _) => {
                return self.odd("an answer comes late or twice".to_owned());
            }
            Said::Unknown(name) => return self.odd(format!("`{name}` is not known")),
        };
        self.ended(failure);
    }

    /// The media were taken down; whether that is all shows in a moment.
    fn hold(&mut self, failure: Failure) {
        if let Some(session) = self.session.as_mut().filter(|session| matches!(session.ending, Ending::Unsaid)) {
            session.ending = Ending::Hangup { failure, until: Instant::now() + HANGUP_HELD };
        }
    }

    /// Nothing more is heard of a `hangup`: it is what has ended the session.
    pub(super) fn unexplained(&mut self) {
        if let Some(Session { ending: Ending::Hangup { failure, .. }, .. }) = &self.session {
            let failure = failure.clone();
            self.ended(failure);
        }
    }

    fn ended(&mut self, failure: Failure) {
        let Some(session) = &mut self.session else { return };
        if !matches!(std::mem::replace(&mut session.ending, Ending::Told), Ending::Told) {
            self.heard.push_back(Word::Ended(failure));
        }
    }

    /// The server takes our token or secret no more: whatever we ask over this connection is for nothing, so it counts as
    /// lost. It stays open until the session is claimed over another one, with a fresh token: a server that keeps no
    /// sessions without a connection would end it.
    fn shut_out(&mut self, error: JanusError) {
        let failure = self.failure(Unanswered::Refused(error));
        self.heard.push_back(Word::Lost(failure));
    }

    fn candidate(&mut self, mline: u32, candidate: String) {
        match sdp::check_candidate(&candidate) {
            Ok(()) if self.heard.len() < sdp::CANDIDATES_MAX => {
                self.heard.push_back(Word::Candidate { mline, candidate })
            }
            Ok(()) => self.odd("there are too many candidates".to_owned()),
            Err(why) => self.odd(format!("a candidate is of no use: {why}")),
        }
    }
}
