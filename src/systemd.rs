//! The landlord - READY, STATUS, WATCHDOG, STOPPING (sd_notify(3)). Does nothing where systemd did not start us.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The house is open: tasks run, whether or not a network is there.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`; line breaks in it become blanks.
pub fn status(line: &str) {
    // A line break would begin another assignment.
    let line = line.replace(|c: char| c.is_control(), " ");
    tell(&[NotifyState::Status(&line)]);
}

/// We are well. The driver decides that: only while frames move, or capture is knowingly in fallback.
pub fn feed_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// The house is closing.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often to call [`feed_watchdog`]: half of `WatchdogSec`, as sd_watchdog_enabled(3) advises. `None` when nobody
/// watches.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        warn!("systemd could not be told {states:?}: {why}");
    }
}
