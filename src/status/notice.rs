//! Pure: what the outside is told. Every event is derived by comparing two [`Status`] values, and by nothing else (law 7).

use std::time::Duration;

use serde::Serialize;

use super::conditions::{self, TOKEN_FAILURES_TOLD};
use super::path::PathChange;
use super::{
    Broadcast, BroadcastError, CaptureState, Layer, LinkStats, Message, Plane, PlaneState, Reason, Source, Status,
    StopReason, StreamWarning, WaitingFor,
};

/// One event for the outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Notice {
    /// Something went wrong.
    BroadcastError(BroadcastError),
    /// A plane came up or broke.
    ConnectionState(ConnectionState),
    /// The broadcast is somewhere else than before.
    BroadcastStatus(Broadcast),
    /// The camera, or what else brings the pictures, began or ceased to deliver.
    CaptureStatus(CaptureStatus),
    /// Something is odd about the stream that is sent. Told once as long as it stays so.
    StreamWarning(StreamNotice),
    /// The outage has lasted longer than `reconnect.stuckAfter`.
    ReconnectStuck(ReconnectStuck),
    /// An interruption that viewers have seen is over.
    Gap(Gap),
    /// Media has moved to another path within its session.
    PathChanged(PathChange),
    /// The server will go away (deploy).
    GoingAway(GoingAway),
    /// The provider of tokens has given none, three times in a row or more. Live media goes on.
    TokenProviderError(TokenProviderError),
    /// The broadcast has ended.
    BroadcastStopped(BroadcastStopped),
    /// Fresh figures.
    Stats(LinkStats),
}

/// `data` of a ConnectionState event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionState {
    /// Which plane.
    pub plane: Layer,
    /// Where it is.
    pub state: PlaneState,
    /// Why.
    pub reason: Option<Reason>,
}

/// `data` of a CaptureStatus event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureStatus {
    /// What the source does.
    pub state: CaptureState,
    /// What it is.
    pub source: Source,
}

/// `data` of a StreamWarning event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamNotice {
    /// Its name.
    pub code: StreamWarning,
    /// One clear sentence.
    pub words: &'static str,
}

/// `data` of a ReconnectStuck event.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconnectStuck {
    /// Seconds since the outage began.
    pub since: f64,
}

/// `data` of a Gap event: what the viewers missed, at most. Not told of what a new process missed of the one before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// When the far end last acknowledged media: RFC 3339 in UTC; `None` until [`Notice::dated`].
    pub from: Option<String>,
    /// When it did so again.
    pub to: Option<String>,
    /// Seconds from one to the other.
    pub seconds: f64,
}

/// `data` of a GoingAway event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GoingAway {
    /// How long the server wants to be left alone, ms.
    pub retry_after_ms: u64,
}

/// `data` of a TokenProviderError event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenProviderError {
    /// How often in a row.
    pub consecutive_failures: u32,
}

/// `data` of a BroadcastStopped event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastStopped {
    /// Why.
    pub reason: StopReason,
}

/// All that has to be told when `before` became `after`: first what went wrong, then what follows from it.
#[must_use]
pub fn notices(before: &Status, after: &Status) -> Vec<Notice> {
    let error = after.error.clone().filter(|_| after.errors != before.errors).map(Notice::BroadcastError);
    let planes = [(Layer::Signalling, before.signalling, after.signalling), (Layer::Media, before.media, after.media)];
    let planes = planes.into_iter().filter(|(_, before, after)| before.state != after.state).map(connection_state);
    let broadcast = after.broadcast.clone().filter(|now| before.broadcast.as_ref().map(essence) != Some(essence(now)));
    let capture = Some(after.capture).filter(|state| *state != before.capture);
    let warnings = after
        .warnings
        .difference(&before.warnings)
        .map(|code| Notice::StreamWarning(StreamNotice { code: *code, words: conditions::of_stream(*code).words }));
    let stuck = after.stuck.filter(|_| before.stuck.is_none());
    let gap = after.gap.filter(|_| after.gaps != before.gaps);
    let path = after.path_change.clone().filter(|_| after.path_changes != before.path_changes);
    let going_away = after.going_away.filter(|_| after.going_away != before.going_away);
    let token = Some(after.token_failures).filter(|now| *now != before.token_failures && *now >= TOKEN_FAILURES_TOLD);
    let stopped = after.stopped.filter(|_| before.stopped.is_none());
    let link = after.link.clone().filter(|_| after.link != before.link);
    error
        .into_iter()
        .chain(planes)
        .chain(broadcast.map(Notice::BroadcastStatus))
        .chain(capture.map(|state| Notice::CaptureStatus(CaptureStatus { state, source: after.source })))
        .chain(warnings)
        .chain(stuck.map(|since| Notice::ReconnectStuck(ReconnectStuck { since })))
        .chain(gap.map(|seconds| Notice::Gap(Gap { from: None, to: None, seconds })))
        .chain(path.map(Notice::PathChanged))
        .chain(going_away.map(|retry_after_ms| Notice::GoingAway(GoingAway { retry_after_ms })))
        .chain(
            token.map(|consecutive_failures| Notice::TokenProviderError(TokenProviderError { consecutive_failures })),
        )
        .chain(stopped.map(|reason| Notice::BroadcastStopped(BroadcastStopped { reason })))
        .chain(link.map(Notice::Stats))
        .collect()
}

/// What of a broadcast is worth an event when it changes; the rest rides along. On air another session is news too.
type Essence<'a> = (
    Message,
    Option<Reason>,
    u32,
    Option<f64>,
    Option<WaitingFor>,
    Option<u32>,
    Option<&'a String>,
    Option<&'a String>,
);

fn essence(of: &Broadcast) -> Essence<'_> {
    let is_on_air = matches!(of.message, Message::Broadcasting | Message::Reconnecting);
    let session = of.session_id.as_ref().filter(|_| is_on_air);
    (
        of.message,
        of.reason,
        of.attempt,
        of.retry_in,
        of.waiting_for,
        of.ice_restart,
        session,
        of.recovered_session_id.as_ref(),
    )
}

fn connection_state((plane, _, now): (Layer, Plane, Plane)) -> Notice {
    Notice::ConnectionState(ConnectionState { plane, state: now.state, reason: now.reason })
}

impl Notice {
    /// Its name, as in the `event` key.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BroadcastError(_) => "BroadcastError",
            Self::ConnectionState(_) => "ConnectionState",
            Self::BroadcastStatus(_) => "BroadcastStatus",
            Self::CaptureStatus(_) => "CaptureStatus",
            Self::StreamWarning(_) => "StreamWarning",
            Self::ReconnectStuck(_) => "ReconnectStuck",
            Self::Gap(_) => "Gap",
            Self::PathChanged(_) => "PathChanged",
            Self::GoingAway(_) => "GoingAway",
            Self::TokenProviderError(_) => "TokenProviderError",
            Self::BroadcastStopped(_) => "BroadcastStopped",
            Self::Stats(_) => "Stats",
        }
    }

    /// The same with the dates that the brain, which knows no wall clock, cannot give. `ago`: the wall clock so long ago,
    /// as RFC 3339 in UTC.
    #[must_use]
    pub fn dated(mut self, ago: impl Fn(Duration) -> String) -> Self {
        if let Self::Gap(gap) = &mut self {
            let length = Duration::try_from_secs_f64(gap.seconds).unwrap_or_default();
            (gap.from, gap.to) = (Some(ago(length)), Some(ago(Duration::ZERO)));
        }
        self
    }

    /// The event as one line of JSON, without the newline. `time`: RFC 3339 in UTC; `seq`: counts the events of this
    /// process.
    #[must_use]
    pub fn to_json(&self, time: &str, seq: u64) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            event: &'static str,
            time: &'a str,
            seq: u64,
            data: &'a Notice,
        }
        let line = Line { event: self.name(), time, seq, data: self };
        // Cannot fail: no map with odd keys, no serializer of our own.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ErrorCode, RetryAdvice};

    fn lost() -> Status {
        let broadcast = Broadcast {
            message: Message::ReconnectingBroadcast,
            reason: Some(Reason::NetworkChange),
            attempt: 1,
            retry_in: Some(2.0),
            waiting_for: Some(WaitingFor::Backoff),
            layer: Some(Layer::Media),
            path: Some("wwan0".into()),
            ..Broadcast::on_air()
        };
        Status { broadcast: Some(broadcast), ..Status::default() }
    }

    #[test]
    fn the_json_is_what_product_md_shows() {
        let told = notices(&Status::default(), &lost());
        let json = told.first().expect("one notice").to_json("2026-11-22T10:00:00.000Z", 12);
        assert_eq!(
            json,
            r#"{"event":"BroadcastStatus","time":"2026-11-22T10:00:00.000Z","seq":12,"data":{"message":"reconnecting_broadcast","reason":"networkChange","attempt":1,"maxRetries":10,"retryIn":2.0,"waitingFor":"backoff","layer":"media","path":"wwan0","sessionId":"/whip/1","recoveredSessionId":null}}"#
        );
    }

    #[test]
    fn every_event_has_its_data_under_its_name() {
        let events = [
            (
                Notice::BroadcastError(BroadcastError {
                    code: ErrorCode::MediaStalled,
                    retry: RetryAdvice::Backoff,
                    words: "w".into(),
                }),
                r#"{"event":"BroadcastError","time":"t","seq":1,"data":{"code":"MEDIA_STALLED","retry":"backoff","words":"w"}}"#,
            ),
            (
                Notice::ConnectionState(ConnectionState {
                    plane: Layer::Media,
                    state: PlaneState::Failed,
                    reason: Some(Reason::IceFailed),
                }),
                r#"{"event":"ConnectionState","time":"t","seq":1,"data":{"plane":"media","state":"failed","reason":"iceFailed"}}"#,
            ),
            (
                Notice::CaptureStatus(CaptureStatus { state: CaptureState::Stalled, source: Source::TestPicture }),
                r#"{"event":"CaptureStatus","time":"t","seq":1,"data":{"state":"stalled","source":"testPicture"}}"#,
            ),
            (
                Notice::StreamWarning(StreamNotice { code: StreamWarning::BFrames, words: "w" }),
                r#"{"event":"StreamWarning","time":"t","seq":1,"data":{"code":"B_FRAMES","words":"w"}}"#,
            ),
            (
                Notice::ReconnectStuck(ReconnectStuck { since: 30.0 }),
                r#"{"event":"ReconnectStuck","time":"t","seq":1,"data":{"since":30.0}}"#,
            ),
            (
                Notice::Gap(Gap { from: None, to: None, seconds: 2.5 })
                    .dated(|ago| format!("{} ms ago", ago.as_millis())),
                r#"{"event":"Gap","time":"t","seq":1,"data":{"from":"2500 ms ago","to":"0 ms ago","seconds":2.5}}"#,
            ),
            (
                Notice::GoingAway(GoingAway { retry_after_ms: 3000 }),
                r#"{"event":"GoingAway","time":"t","seq":1,"data":{"retryAfterMs":3000}}"#,
            ),
            (
                Notice::TokenProviderError(TokenProviderError { consecutive_failures: 3 }),
                r#"{"event":"TokenProviderError","time":"t","seq":1,"data":{"consecutiveFailures":3}}"#,
            ),
            (
                Notice::BroadcastStopped(BroadcastStopped { reason: StopReason::EndOfMedia }),
                r#"{"event":"BroadcastStopped","time":"t","seq":1,"data":{"reason":"endOfMedia"}}"#,
            ),
        ];
        for (notice, json) in events {
            assert_eq!(notice.to_json("t", 1), json);
        }
    }

    #[test]
    fn nothing_new_is_nothing_told_and_details_alone_are_not_news() {
        assert_eq!(notices(&lost(), &lost()), []);
        let mut elsewhere = lost();
        if let Some(broadcast) = &mut elsewhere.broadcast {
            broadcast.path = Some("eth0".into());
            broadcast.session_id = None;
        }
        assert_eq!(notices(&lost(), &elsewhere), []);
    }

    #[test]
    fn on_air_another_session_is_news() {
        let before = Status { broadcast: Some(Broadcast::on_air()), ..Status::default() };
        let resumed = Broadcast {
            session_id: Some("/whip/2".into()),
            recovered_session_id: Some("/whip/1".into()),
            ..Broadcast::on_air()
        };
        let after = Status { broadcast: Some(resumed.clone()), ..Status::default() };
        assert_eq!(notices(&before, &after), [Notice::BroadcastStatus(resumed)]);
    }

    #[test]
    fn the_provider_of_tokens_is_told_from_the_third_failure_on() {
        let failures = |token_failures| Status { token_failures, ..Status::default() };
        let told = |before, after| !notices(&failures(before), &failures(after)).is_empty();
        assert_eq!([told(0, 1), told(1, 2), told(2, 3), told(3, 4), told(4, 0)], [false, false, true, true, false]);
    }

    #[test]
    fn a_warning_of_the_stream_is_told_once_while_it_holds() {
        let status =
            |warnings: &[StreamWarning]| Status { warnings: warnings.iter().copied().collect(), ..Status::default() };
        let told = |before: &[StreamWarning], after: &[StreamWarning]| {
            notices(&status(before), &status(after)).iter().map(Notice::line).collect::<Vec<_>>()
        };
        use StreamWarning::{BFrames, Profile};
        let help = conditions::of_stream(BFrames).help;
        let line = format!("{}. {help}", conditions::of_stream(BFrames).words);
        assert_eq!(told(&[Profile], &[Profile, BFrames]), [line.replacen("the", "The", 1)]);
        assert_eq!(told(&[Profile, BFrames], &[Profile, BFrames]), [""; 0]);
        assert_eq!(told(&[Profile, BFrames], &[]), [""; 0]);
    }

    #[test]
    fn the_same_error_twice_in_a_row_is_told_twice() {
        let error =
            BroadcastError { code: ErrorCode::SignallingFailed, retry: RetryAdvice::Backoff, words: "w".into() };
        let first = Status { error: Some(error), errors: 1, ..Status::default() };
        let second = Status { errors: 2, ..first.clone() };
        assert_eq!(notices(&first, &second).len(), 1);
    }

    #[test]
    fn the_error_is_told_before_what_follows_from_it() {
        let error = BroadcastError { code: ErrorCode::AuthFailed, retry: RetryAdvice::Never, words: "w".into() };
        let before = Status { broadcast: Some(Broadcast::on_air()), ..Status::default() };
        let after = Status { error: Some(error), errors: 1, stopped: Some(StopReason::Refused), ..Status::default() };
        let names: Vec<_> = notices(&before, &after).iter().map(Notice::name).collect();
        assert_eq!(names, ["BroadcastError", "BroadcastStopped"]);
    }
}
