//! Pure: is the server at the other end of an open connection still there? Pings of the WebSocket tell within 10 s that a
//! connection is dead; a server that hangs may answer those for ever. So it is asked in its own protocol, too.

use std::time::{Duration, Instant};

/// The server is asked this often: often enough to keep a Janus session alive, which lives from our last request on.
const ASK_EVERY_MAX: Duration = Duration::from_secs(5);
/// Not more often than this, however short the patience.
const ASK_EVERY_MIN: Duration = Duration::from_millis(250);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::signal) enum Look {
    /// Nothing.
    Wait,
    /// Ask the server for a word.
    Ask,
    /// It has said nothing for this long, though it was asked.
    Silent(Duration),
}

/// Watches one connection.
#[derive(Debug, Clone)]
pub(in crate::signal) struct Watchdog {
    /// `signalling.inactivityTimeout`.
    patience: Duration,
    /// When the server last said something.
    heard: Instant,
    /// When it is to be asked next.
    ask_at: Instant,
}

impl Watchdog {
    /// From the opening of the connection on.
    pub(in crate::signal) fn new(patience: Duration, now: Instant) -> Self {
        let mut watchdog = Self { patience, heard: now, ask_at: now };
        watchdog.asked(now);
        watchdog
    }

    /// Another patience holds from now on.
    pub(in crate::signal) fn set_patience(&mut self, patience: Duration, now: Instant) {
        self.patience = patience;
        self.ask_at = self.ask_at.min(now + self.ask_every());
    }

    /// The server said something.
    pub(in crate::signal) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The server was asked for something.
    pub(in crate::signal) fn asked(&mut self, now: Instant) {
        self.ask_at = now + self.ask_every();
    }

    /// When to look next.
    pub(in crate::signal) fn due(&self) -> Instant {
        self.ask_at.min(self.heard + self.patience)
    }

    /// Looks.
    pub(in crate::signal) fn look(&mut self, now: Instant) -> Look {
        if now < self.due() {
            return Look::Wait;
        }
        let is_late = now >= self.due() + self.ask_every();
        if is_late {
            // The process was suspended: it was us who said nothing, and what the server said may wait to be read.
            self.heard = now;
        }
        if now >= self.heard + self.patience {
            return Look::Silent(self.patience);
        }
        Look::Ask
    }

    fn ask_every(&self) -> Duration {
        (self.patience / 3).clamp(ASK_EVERY_MIN, ASK_EVERY_MAX)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Looks whenever it is due, and asks; gives when it was asked, and when it was given up.
    fn watch(
        watchdog: &mut Watchdog,
        from: Instant,
        mut answers: impl FnMut(Duration) -> bool,
    ) -> (Vec<u64>, Duration) {
        let mut asked = Vec::new();
        loop {
            let now = watchdog.due();
            match watchdog.look(now) {
                Look::Wait => panic!("it was due"),
                Look::Silent(_) => return (asked, now - from),
                Look::Ask => {
                    asked.push((now - from).as_secs());
                    watchdog.asked(now);
                    if answers(now - from) {
                        watchdog.heard(now);
                    }
                }
            }
        }
    }

    #[test]
    fn a_server_that_hangs_is_given_up_after_the_timeout_and_not_before() {
        let t = Instant::now();
        for seconds in [1, 7, 60, 3600] {
            let (asked, given_up) = watch(&mut Watchdog::new(seconds * S, t), t, |_| false);
            assert_eq!(given_up, seconds * S);
            assert!(asked.len() >= 2, "{seconds} s: it was asked at {asked:?}");
        }
        let (asked, _) = watch(&mut Watchdog::new(20 * S, t), t, |_| false);
        assert_eq!(asked, [5, 10, 15]);
    }

    #[test]
    fn a_server_that_answers_is_kept_and_missed_from_its_last_word_on() {
        let t = Instant::now();
        let (_, given_up) = watch(&mut Watchdog::new(60 * S, t), t, |since| since <= 600 * S);
        assert_eq!(given_up, 660 * S);
    }

    #[test]
    fn a_suspended_process_asks_before_it_judges() {
        let t = Instant::now();
        let mut watchdog = Watchdog::new(60 * S, t);
        assert_eq!(watchdog.look(t + 4 * S), Look::Wait);
        let back = t + 500 * S;
        assert_eq!(watchdog.look(back), Look::Ask);
        watchdog.asked(back);
        assert_eq!(watch(&mut watchdog, back, |_| false).1, 60 * S);
    }

    #[test]
    fn another_patience_holds_for_the_silence_under_way() {
        let t = Instant::now();
        let mut watchdog = Watchdog::new(3600 * S, t);
        watchdog.set_patience(6 * S, t + S);
        let (asked, given_up) = watch(&mut watchdog, t, |_| false);
        assert_eq!((asked, given_up), (vec![3, 5], 6 * S));
    }
}
