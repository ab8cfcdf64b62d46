//! Pure: from a [`Failure`] to what the outside is told of it.

use std::time::Duration;

use crate::status::{BroadcastError, ErrorCode, Layer, Plane, PlaneState, Reason, RetryAdvice, StopReason};

use super::event::{Failure, Phase, Retry};

/// Something went wrong; with `halt` it was the last thing.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) error: BroadcastError,
    pub(super) halt: Option<StopReason>,
}

/// Why the broadcast is not on air.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    /// `None` when no plane is to blame.
    pub(super) layer: Option<Layer>,
    words: Option<String>,
}

impl Trouble {
    /// A session was lost. `cut_off`: there is no network, which explains everything else.
    pub(super) fn new(failure: &Failure, cut_off: bool) -> Self {
        let reason = if cut_off { Reason::NetworkChange } else { reason(failure) };
        Self { reason, layer: Some(layer(failure.phase)), words: Some(failure.words.clone()) }
    }

    /// The signalling connection was lost, and the session with it.
    pub(super) fn in_signalling(self) -> Self {
        Self { layer: Some(Layer::Signalling), ..self }
    }

    /// The path is silent, the session may heal.
    pub(super) const fn disturbed(cut_off: bool) -> Self {
        let reason = if cut_off { Reason::NetworkChange } else { Reason::IceFailed };
        Self { reason, layer: Some(Layer::Media), words: None }
    }

    /// A person asked for a new session.
    pub(super) const fn operator() -> Self {
        Self { reason: Reason::Operator, layer: None, words: None }
    }
}

/// Why, for the outside.
pub(super) fn reason(failure: &Failure) -> Reason {
    let may_help_later = matches!(failure.retry, Retry::After(_) | Retry::Busy { .. } | Retry::Once);
    match failure.phase {
        Phase::Request if may_help_later || failure.code == ErrorCode::ConcurrentLimit => Reason::ServerRefused,
        Phase::Capture | Phase::Dial | Phase::Request | Phase::Negotiate | Phase::Teardown => Reason::ConnectFailed,
        Phase::Connect => Reason::IceFailed,
        Phase::Established if failure.code == ErrorCode::MediaStalled => Reason::MediaStalled,
        Phase::Established
            if matches!(failure.code, ErrorCode::IceConnectionFailed | ErrorCode::IceConnectionDisconnected) =>
        {
            Reason::IceFailed
        }
        Phase::Established => Reason::ServerClosed,
    }
}

const fn layer(phase: Phase) -> Layer {
    match phase {
        Phase::Capture | Phase::Dial | Phase::Request | Phase::Negotiate | Phase::Teardown => Layer::Signalling,
        Phase::Connect | Phase::Established => Layer::Media,
    }
}

/// The planes while no session is there.
pub(super) fn failed_planes(trouble: Option<&Trouble>) -> (Plane, Plane) {
    let plane = |layer| match trouble {
        Some(trouble) if trouble.layer == Some(layer) => {
            Plane { state: PlaneState::Failed, reason: Some(trouble.reason) }
        }
        Some(_) | None => Plane::default(),
    };
    (plane(Layer::Signalling), plane(Layer::Media))
}

/// It will be tried again.
pub(super) fn passing(failure: &Failure) -> Verdict {
    Verdict { error: told(failure), halt: None }
}

/// The failure as the outside knows it.
pub(super) fn told(failure: &Failure) -> BroadcastError {
    let retry = match failure.retry {
        Retry::Backoff => RetryAdvice::Backoff,
        Retry::After(_) | Retry::Busy { .. } => RetryAdvice::After,
        Retry::Once => RetryAdvice::Once,
        Retry::IfProven { .. } | Retry::Never => RetryAdvice::Never,
    };
    BroadcastError { code: failure.code, retry, words: failure.words.clone() }
}

/// It will not be tried again.
pub(super) fn terminal(failure: &Failure) -> Verdict {
    let error = BroadcastError { retry: RetryAdvice::Never, ..told(failure) };
    Verdict { error, halt: Some(stop_reason(failure.code)) }
}

const fn stop_reason(code: ErrorCode) -> StopReason {
    match code {
        ErrorCode::Internal => StopReason::Internal,
        ErrorCode::CaptureLost | ErrorCode::BadConfig | ErrorCode::EncoderFailed => StopReason::BadConfig,
        ErrorCode::ReconnectionExhausted => StopReason::ReconnectionExhausted,
        ErrorCode::InvalidToken
        | ErrorCode::TokenExpired
        | ErrorCode::ChannelNotAuthorized
        | ErrorCode::ConcurrentLimit
        | ErrorCode::AccountSuspended
        | ErrorCode::AdminDisconnect
        | ErrorCode::AuthFailed
        | ErrorCode::NotFound
        | ErrorCode::NetworkDisconnect
        | ErrorCode::SignallingFailed
        | ErrorCode::IceConnectionFailed
        | ErrorCode::IceConnectionDisconnected
        | ErrorCode::MediaStalled
        | ErrorCode::TlsUntrusted
        | ErrorCode::BadAnswer
        | ErrorCode::UntrustedRedirect
        | ErrorCode::TokenProviderFailed => StopReason::Refused,
    }
}

/// `maxRetries` retries have failed.
pub(super) fn retries_used_up(max: u32, last: Option<&Trouble>) -> Verdict {
    let what = match max {
        0 => "reconnecting is off (`reconnect.maxRetries`: 0)".to_owned(),
        1 => "the one retry of `reconnect.maxRetries` has failed".to_owned(),
        _ => format!("all {max} retries of `reconnect.maxRetries` have failed"),
    };
    exhausted(&what, last)
}

/// The outage has lasted for `giveUpAfter`.
pub(super) fn time_used_up(limit: Duration, last: Option<&Trouble>) -> Verdict {
    exhausted(&format!("not on air for {:.0} s (`reconnect.giveUpAfter`)", limit.as_secs_f64()), last)
}

fn exhausted(what: &str, last: Option<&Trouble>) -> Verdict {
    let words = match last.and_then(|trouble| trouble.words.as_ref()) {
        Some(last) => format!("{what}; the last failure: {last}"),
        None => what.to_owned(),
    };
    let error = BroadcastError { code: ErrorCode::ReconnectionExhausted, retry: RetryAdvice::Never, words };
    Verdict { error, halt: Some(StopReason::ReconnectionExhausted) }
}

/// Teardowns that never came back have left too many threads behind.
pub(super) fn hopeless_teardowns() -> Verdict {
    let words = "closing a session has hung too often; the process must start afresh".to_owned();
    let error = BroadcastError { code: ErrorCode::Internal, retry: RetryAdvice::Never, words };
    Verdict { error, halt: Some(StopReason::Internal) }
}
