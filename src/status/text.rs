//! Pure: the same facts in words, for the terminal, the log and `systemctl status`.

use std::time::Duration;

use super::conditions::{self, Condition, Severity};
use super::notice::{CaptureStatus, ConnectionState, Notice, StreamNotice};
use super::path::{PathChange, PathChangeReason};
use super::{
    Broadcast, BroadcastError, CaptureState, ErrorCode, Layer, LinkStats, Message, PlaneState, Reason, RetryAdvice,
    Source, Status, StopReason, WaitingFor,
};

impl Notice {
    /// One short line for people.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::BroadcastError(error) => error_line(error),
            Self::ConnectionState(connection) => connection_line(connection),
            Self::BroadcastStatus(broadcast) if broadcast.unproven => {
                format!("{}; {}", broadcast.line(), conditions::MEDIA_UNPROVEN.words)
            }
            Self::BroadcastStatus(broadcast) => broadcast.line(),
            Self::CaptureStatus(capture) => capture_line(*capture),
            Self::StreamWarning(StreamNotice { code, words }) => {
                let help = conditions::of_stream(*code).help;
                format!("T{}. {help}", words.trim_start_matches('t'))
            }
            Self::ReconnectStuck(stuck) => {
                let help = conditions::STUCK.help;
                format!("Not on air for {:.0} s, still trying. {help}", stuck.since)
            }
            Self::Gap(gap) => format!("Back on air: viewers missed up to {:.1} s", gap.seconds),
            Self::PathChanged(change) => path_line(change),
            Self::GoingAway(going) => {
                let seconds = Duration::from_millis(going.retry_after_ms).as_secs_f64();
                format!("The server will go away and wants to be left alone for {seconds:.1} s")
            }
            Self::TokenProviderError(error) => {
                let help = conditions::of(ErrorCode::TokenProviderFailed).help;
                format!("There was no token {} times in a row, still trying. {help}", error.consecutive_failures)
            }
            Self::BroadcastStopped(stopped) => format!("Off air: {}", stop_words(stopped.reason)),
            Self::Stats(link) => link_line(link),
        }
    }

    /// How loud it is: `Error` needs a person, `Warning` mends itself, `Info` is good to know, `Detail` is for experts.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::BroadcastError(error) if error.retry == RetryAdvice::Never => Severity::Error,
            Self::BroadcastError(error) => conditions::of(error.code).severity.min(Severity::Warning),
            Self::ReconnectStuck(_) => conditions::STUCK.severity,
            Self::CaptureStatus(capture) => {
                conditions::of_capture(capture.state).map_or(Severity::Info, |condition| condition.severity)
            }
            Self::StreamWarning(warning) => conditions::of_stream(warning.code).severity,
            Self::TokenProviderError(_) => conditions::of(ErrorCode::TokenProviderFailed).severity,
            Self::BroadcastStatus(_)
            | Self::Gap(_)
            | Self::PathChanged(_)
            | Self::GoingAway(_)
            | Self::BroadcastStopped(_) => Severity::Info,
            Self::ConnectionState(_) | Self::Stats(_) => Severity::Detail,
        }
    }
}

fn path_line(change: &PathChange) -> String {
    let PathChange { from, from_address, to, to_address, why, gap_ms } = change;
    let why = match why {
        PathChangeReason::AddressLost => "the address is gone",
        PathChangeReason::Silent => "the path went silent",
        PathChangeReason::Preferred => "a better path has proved good",
    };
    format!("Media moved from {from} ({from_address}) to {to} ({to_address}): {why}; gap {gap_ms} ms")
}

impl Status {
    /// All of it in one line, for systemd's `STATUS=`.
    #[must_use]
    pub fn line(&self) -> String {
        let broadcast = match (&self.broadcast, self.stopped) {
            (Some(broadcast), _) => broadcast.line(),
            (None, Some(reason)) => format!("Off air: {}", stop_words(reason)),
            (None, None) => "Off air".to_owned(),
        };
        let wrong = conditions::active(self).into_iter().map(|condition: &Condition| format!("; {}", condition.words));
        wrong.fold(broadcast, |line, words| line + &words)
    }
}

impl Broadcast {
    /// One short line for people.
    #[must_use]
    pub fn line(&self) -> String {
        match self.message {
            Message::Signalling if self.attempt == 0 => "Connecting to the server".to_owned(),
            Message::Signalling => format!("Connecting to the server ({})", self.retry_words()),
            Message::Connected => "Connected; waiting for the server to acknowledge media".to_owned(),
            Message::Broadcasting => "On air".to_owned(),
            Message::ReconnectingBroadcast => self.reconnecting_line(),
            Message::Reconnecting => "The server is reconnecting its own onward leg".to_owned(),
        }
    }

    fn reconnecting_line(&self) -> String {
        let why = self.reason.map_or("Not connected", reason_words);
        let next = match (self.waiting_for, self.retry_in) {
            (None, _) if self.attempt > 0 => return format!("{why}; {} is under way", self.retry_words()),
            (None, _) => return format!("{why}; it may come back by itself"),
            (Some(WaitingFor::Network), _) => return format!("{why}; waiting for a network"),
            (Some(WaitingFor::Connectivity), _) => return format!("{why}; nothing answers, waiting for connectivity"),
            (Some(_), None) => self.retry_words(),
            (Some(_), Some(seconds)) => format!("{} in {seconds:.1} s", self.retry_words()),
        };
        match self.waiting_for {
            Some(WaitingFor::ServerRetryAfter) => format!("{why}; {next}, as the server asked"),
            Some(WaitingFor::Token) => format!("{why}; {next}, with the token read anew"),
            Some(WaitingFor::Backoff | WaitingFor::Network | WaitingFor::Connectivity) | None => {
                format!("{why}; {next}")
            }
        }
    }

    fn retry_words(&self) -> String {
        match self.max_retries {
            _ if self.attempt == 0 => "first try".to_owned(),
            Some(max) => format!("retry {} of {max}", self.attempt),
            None => format!("retry {}", self.attempt),
        }
    }
}

fn error_line(error: &BroadcastError) -> String {
    format!("{} [{}]", error.words, conditions::of(error.code).id)
}

fn connection_line(connection: &ConnectionState) -> String {
    let plane = match connection.plane {
        Layer::Signalling => "Signalling",
        Layer::Media => "Media",
    };
    let state = match connection.state {
        PlaneState::Closed => "closed",
        PlaneState::Connecting => "connecting",
        PlaneState::Connected => "connected",
        PlaneState::Disconnected => "disconnected",
        PlaneState::Failed => "failed",
    };
    match connection.reason {
        Some(reason) => format!("{plane} plane: {state} ({})", reason_words(reason)),
        None => format!("{plane} plane: {state}"),
    }
}

fn link_line(link: &LinkStats) -> String {
    let rtt = link.rtt_ms.map_or_else(String::new, |rtt| format!(", round trip {rtt:.0} ms"));
    let loss = link.loss.map_or_else(String::new, |loss| format!(", loss {:.1} %", loss * 100.0));
    format!("{} kb/s, {:.0} fps{rtt}{loss}", link.bitrate / 1000, link.fps)
}

const fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::ConnectFailed => "The server was not reached",
        Reason::ServerRefused => "The server refused for now",
        Reason::IceFailed => "The media connection was lost",
        Reason::MediaStalled => "The server stopped acknowledging media",
        Reason::NetworkChange => "The network changed",
        Reason::ServerClosed => "The server closed the session",
        Reason::Operator => "An operator asked for a new connection",
    }
}

const fn stop_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Requested => "stopped on request",
        StopReason::EndOfMedia => "the media has played to its end",
        StopReason::ReconnectionExhausted => "no retry is left",
        StopReason::Refused => "the server refused",
        StopReason::BadConfig => "this machine cannot do what the config asks for",
        StopReason::Internal => "an internal fault",
    }
}

fn capture_line(capture: CaptureStatus) -> String {
    let source = match capture.source {
        Source::Camera => "camera",
        Source::File => "media file",
        Source::Screen => "screen",
        Source::TestPicture => "test picture",
    };
    match capture.state {
        CaptureState::Stopped => format!("The {source} is closed"),
        CaptureState::Starting => format!("Opening the {source}"),
        CaptureState::Flowing => format!("The {source} delivers"),
        CaptureState::Stalled => format!("The {source} delivers nothing; it is opened again"),
        // It may have been the microphone or the encoder: the error before it says which.
        CaptureState::Failed => "Capturing failed; all sources are opened again".to_owned(),
        CaptureState::Ended => format!("The {source} has played to its end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Plane;
    use crate::status::notice::{GoingAway, TokenProviderError};

    fn reconnecting() -> Broadcast {
        Broadcast {
            message: Message::ReconnectingBroadcast,
            reason: Some(Reason::ConnectFailed),
            attempt: 2,
            retry_in: Some(4.25),
            waiting_for: Some(WaitingFor::Backoff),
            layer: Some(Layer::Signalling),
            ..Broadcast::on_air()
        }
    }

    #[test]
    fn a_wait_says_why_which_retry_and_when() {
        let because = |waiting_for| Broadcast { waiting_for, ..reconnecting() }.line();
        assert_eq!(because(Some(WaitingFor::Backoff)), "The server was not reached; retry 2 of 10 in 4.2 s");
        assert_eq!(because(Some(WaitingFor::Network)), "The server was not reached; waiting for a network");
        assert!(because(Some(WaitingFor::Connectivity)).ends_with("nothing answers, waiting for connectivity"));
        assert!(because(Some(WaitingFor::ServerRetryAfter)).ends_with("retry 2 of 10 in 4.2 s, as the server asked"));
        assert!(because(Some(WaitingFor::Token)).ends_with("with the token read anew"));
        assert_eq!(because(None), "The server was not reached; retry 2 of 10 is under way");
        let silent = Broadcast { waiting_for: None, attempt: 0, ..reconnecting() };
        assert_eq!(silent.line(), "The server was not reached; it may come back by itself");
        let endless = Broadcast { max_retries: None, message: Message::Signalling, ..reconnecting() };
        assert_eq!(endless.line(), "Connecting to the server (retry 2)");
    }

    #[test]
    fn an_error_is_told_in_its_own_words_and_by_its_name() {
        let error = |retry| BroadcastError { code: ErrorCode::AuthFailed, retry, words: "401 from `h`.".into() };
        assert_eq!(error_line(&error(RetryAdvice::Once)), "401 from `h`. [AUTH_FAILED]");
        assert_eq!(Notice::BroadcastError(error(RetryAdvice::Never)).severity(), Severity::Error);
        assert_eq!(Notice::BroadcastError(error(RetryAdvice::Once)).severity(), Severity::Warning);
    }

    #[test]
    fn the_systemd_line_names_the_camera_too() {
        let broadcast = Some(Broadcast { message: Message::Broadcasting, ..reconnecting() });
        let status = Status { broadcast, capture: CaptureState::Failed, ..Status::default() };
        assert_eq!(
            status.line(),
            format!("On air; {}", conditions::of_capture(CaptureState::Failed).expect("row").words)
        );
        let stopped = Status { stopped: Some(StopReason::Requested), ..Status::default() };
        assert_eq!(stopped.line(), "Off air: stopped on request");
        assert_eq!(Status::default().line(), "Off air");
    }

    #[test]
    fn on_air_without_signalling_says_so() {
        let broadcast = Some(Broadcast { message: Message::Broadcasting, ..reconnecting() });
        let signalling = Plane { state: PlaneState::Disconnected, reason: Some(Reason::ServerClosed) };
        let status = Status { broadcast, signalling, token_failures: 3, going_away: Some(3000), ..Status::default() };
        assert_eq!(
            status.line(),
            "On air; the token could not be read; media goes on while the signalling connection is reopened; the server \
             will go away soon"
        );
        let going = Notice::GoingAway(GoingAway { retry_after_ms: 3000 });
        assert_eq!(going.line(), "The server will go away and wants to be left alone for 3.0 s");
        let token = Notice::TokenProviderError(TokenProviderError { consecutive_failures: 3 });
        assert!(token.line().starts_with("There was no token 3 times in a row, still trying."));
        assert_eq!((going.severity(), token.severity()), (Severity::Info, Severity::Warning));
    }

    #[test]
    fn each_source_is_called_by_its_name() {
        let line = |state, source| Notice::CaptureStatus(CaptureStatus { state, source }).line();
        let stalled = CaptureState::Stalled;
        assert_eq!(line(stalled, Source::Camera), "The camera delivers nothing; it is opened again");
        assert_eq!(line(CaptureState::Starting, Source::Screen), "Opening the screen");
        assert_eq!(line(CaptureState::Flowing, Source::TestPicture), "The test picture delivers");
        assert_eq!(line(CaptureState::Ended, Source::File), "The media file has played to its end");
        // A dead microphone fails the whole capture: no word of a camera then.
        assert_eq!(line(CaptureState::Failed, Source::Camera), "Capturing failed; all sources are opened again");
    }

    #[test]
    fn a_lost_camera_is_a_warning_a_found_one_is_news() {
        let severity = |state| Notice::CaptureStatus(CaptureStatus { state, source: Source::Camera }).severity();
        assert_eq!(severity(CaptureState::Failed), Severity::Warning);
        assert_eq!(severity(CaptureState::Flowing), Severity::Info);
    }
}
