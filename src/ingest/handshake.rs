//! Pure: has a DTLS handshake send again what was lost.
//!
//! A flight that is not answered is sent again (RFC 6347, section 4.2.4). OpenSSL keeps the time for it, but looks at its
//! clock only when it is asked to read, and str0m's binding to it asks only when a datagram has come. Of a ClientHello that
//! was lost, nothing ever comes. So it is asked again and again, from when ICE has a path until the handshake is done.

use std::time::{Duration, Instant};

/// What makes OpenSSL read: less than the header of a DTLS record, which it drops without a word (RFC 6347, section 4.1.2.7).
/// The byte is what tells DTLS from STUN and RTP (RFC 7983).
pub(super) const NUDGE: &[u8] = &[22];

/// OpenSSL sends again after 1 s, then 2 s, and so on: this adds little to that.
const EVERY: Duration = Duration::from_millis(100);

/// Where the handshake of one connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Handshake {
    /// Nothing can be sent yet, or any more: ICE has no path.
    #[default]
    Waiting,
    /// OpenSSL is to be asked then.
    Running(Instant),
    Done,
}

impl Handshake {
    /// Whether ICE has a path has changed.
    pub(super) fn path(&mut self, is_there: bool, now: Instant) {
        *self = match (*self, is_there) {
            (Self::Waiting, true) => Self::Running(now + EVERY),
            (Self::Running(_), false) => Self::Waiting,
            (same, _) => same,
        };
    }

    /// Keys are agreed on. What the other end repeats from now on comes as a datagram, and is answered as such.
    pub(super) const fn done(&mut self) {
        *self = Self::Done;
    }

    /// When [`Self::take_due`] has something to say.
    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running(at) => Some(at),
            Self::Waiting | Self::Done => None,
        }
    }

    /// Is OpenSSL to be given a [`NUDGE`] now? Says so once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|at| at <= now);
        if due {
            *self = Self::Running(now + EVERY);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
    fn openssl_is_asked_while_there_is_a_path_and_no_key() {
        let (t, mut handshake) = (Instant::now(), Handshake::default());
        assert!(!handshake.take_due(t + EVERY), "no path");
        handshake.path(true, t);
        assert!(!handshake.take_due(t));
        assert!(handshake.take_due(t + EVERY) && !handshake.take_due(t + EVERY), "once");
        handshake.path(true, t + EVERY);
        assert_eq!(handshake.deadline(), Some(t + 2 * EVERY), "the path is the same");
        handshake.path(false, t);
        assert_eq!(handshake.deadline(), None);
        handshake.path(true, t);
        handshake.done();
        handshake.path(false, t);
        handshake.path(true, t);
        assert!(!handshake.take_due(t + 2 * EVERY) && handshake.deadline().is_none());
    }
}
