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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    const CHILD: &str = "ROAMCAST_TEST_NOTIFIES";

    /// Runs [`speaking`] again with this environment and gives what it told `socket`.
    fn told_by_a_child(socket: &str, environment: &[(&str, &str)]) -> std::process::ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "systemd::tests::speaking", "--nocapture"])
            .env_remove("WATCHDOG_PID")
            .env("NOTIFY_SOCKET", socket)
            .env(CHILD, "1")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
            .status
    }

    #[test]
    fn systemd_hears_ready_status_watchdog_and_stopping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(told_by_a_child(path.to_str().unwrap(), &[("WATCHDOG_USEC", "30000000")]).success());
        let mut buffer = [0; 512];
        let mut next = || {
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let heard = [next(), next(), next(), next()];
        assert_eq!(heard, ["READY=1\n", "STATUS=broadcasting  READY=0\n", "WATCHDOG=1\n", "STOPPING=1\n"]);
    }

    #[test]
    fn a_socket_that_is_gone_does_not_stop_the_show() {
        assert!(told_by_a_child("/nowhere/notify", &[("WATCHDOG_USEC", "30000000")]).success());
    }

    #[test]
    fn speaking() {
        if std::env::var_os(CHILD).is_none() {
            eprintln!("skipped: the body of `systemd_hears_ready_status_watchdog_and_stopping`, which runs it");
            return;
        }
        ready();
        status("broadcasting\r\nREADY=0");
        feed_watchdog();
        stopping();
        assert_eq!(watchdog_interval(), Some(Duration::from_secs(15)));
    }
}
