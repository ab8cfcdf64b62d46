//! `roamcast status [--json]`: what the running encoder does.

use std::time::Duration;

use reqwest::Method;

use super::args::Socket;
use super::{Exit, client, print};
use crate::control::Report;
use crate::status::conditions;
use crate::status::notice::{CaptureStatus, Notice};

/// Prints the status.
#[must_use]
pub fn run(args: &Socket) -> Exit {
    client::talk(args, async |client| {
        let answer = client.ask(Method::GET, "status", None).await?;
        let text = if args.json {
            serde_json::to_string_pretty(&answer).unwrap_or_default()
        } else {
            for_people(&serde_json::from_value(answer).map_err(|_| client.strange())?)
        };
        let _nobody_reads = print::out(&text);
        Ok(())
    })
}

/// What is true, since when, then one line a fact.
fn for_people(report: &Report) -> String {
    let status = &report.status;
    let mut lines = vec![
        format!("{}: {}", report.name, status.line()),
        row("since", &format!("{} ({})", report.since, rough(report.lasted))),
    ];
    let link = status.link.as_ref().filter(|_| status.broadcast.is_some());
    if let Some(link) = link {
        let rtt = link.rtt_ms.map_or("not known yet".to_owned(), |rtt| format!("{rtt:.0} ms"));
        let loss = link.loss.map_or("not known yet".to_owned(), |loss| format!("{:.1} %", loss * 100.0));
        let bitrate = format!("{} kb/s of {} kb/s, {:.0} fps", link.bitrate / 1000, link.target / 1000, link.fps);
        lines.extend([row("bitrate", &bitrate), row("round trip", &rtt), row("loss", &loss)]);
    }
    if let Some(broadcast) = &status.broadcast {
        let path = broadcast.path.as_ref().or(link.and_then(|link| link.path.as_ref()));
        lines.extend(path.map(|path| row("path", path)));
        lines.extend(broadcast.session_id.as_ref().map(|session| row("session", session)));
    }
    let capture = CaptureStatus { state: status.capture, source: status.source };
    lines.push(row("source", &Notice::CaptureStatus(capture).line()));
    if let Some(error) = &status.error {
        let count = if status.errors > 1 { format!(" (the last of {})", status.errors) } else { String::new() };
        lines.push(row("last error", &format!("{} [{}]{count}", error.words, conditions::of(error.code).id)));
    }
    lines.push(row("encoder", &format!("roamcast {}, up {}, {}", report.version, rough(report.uptime), report.config)));
    lines.join("\n")
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<11} {value}")
}

/// To the second: `1h 2m 3s`.
fn rough(seconds: f64) -> String {
    // Whatever an encoder says, this takes it: no negative, no endless time.
    let time = Duration::try_from_secs_f64(seconds.floor()).unwrap_or_default();
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Broadcast, BroadcastError, CaptureState, ErrorCode, LinkStats, RetryAdvice, Status};

    fn report(status: Status) -> Report {
        Report {
            name: "street".into(),
            version: "0.1.0".into(),
            config: "/etc/roamcast/street.toml".into(),
            uptime: 7_265.9,
            since: "2026-11-22T10:00:00Z".into(),
            lasted: 61.0,
            status,
        }
    }

    #[test]
    fn on_air_everything_is_there() {
        let broadcast = Broadcast { path: Some("192.168.1.4".into()), ..Broadcast::on_air() };
        let link = LinkStats {
            bitrate: 2_480_700,
            target: 2_596_000,
            rtt_ms: Some(48.4),
            loss: Some(0.002),
            fps: 29.97,
            ..LinkStats::default()
        };
        let words = "the server closed the session".into();
        let error = BroadcastError { code: ErrorCode::NetworkDisconnect, retry: RetryAdvice::Backoff, words };
        let status = Status {
            broadcast: Some(broadcast),
            link: Some(link),
            capture: CaptureState::Flowing,
            error: Some(error),
            errors: 3,
            ..Status::default()
        };
        assert_eq!(
            for_people(&report(status)),
            "\
street: On air
  since       2026-11-22T10:00:00Z (1m 1s)
  bitrate     2480 kb/s of 2596 kb/s, 30 fps
  round trip  48 ms
  loss        0.2 %
  path        192.168.1.4
  session     /whip/1
  source      The camera delivers
  last error  the server closed the session [NETWORK_DISCONNECT] (the last of 3)
  encoder     roamcast 0.1.0, up 2h 1m 5s, /etc/roamcast/street.toml"
        );
    }

    #[test]
    fn off_air_there_is_little_to_say() {
        assert_eq!(
            for_people(&report(Status::default())),
            "\
street: Off air
  since       2026-11-22T10:00:00Z (1m 1s)
  source      The camera is closed
  encoder     roamcast 0.1.0, up 2h 1m 5s, /etc/roamcast/street.toml"
        );
    }

    #[test]
    fn odd_times_do_no_harm() {
        assert_eq!((rough(f64::NAN), rough(-1.0), rough(f64::INFINITY)), ("0s".into(), "0s".into(), "0s".into()));
    }
}
