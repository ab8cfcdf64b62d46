//! Pure: the words of the brain - all it can hear ([`Event`]) and all it can order ([`Action`]).
//!
//! Every room that reports to the brain speaks these words and no others.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::status::path::PathChange;
use crate::status::{ErrorCode, LinkStats, StopReason, StreamWarning};

use super::policy::Policy;

/// The number of one try at opening something (a session, or the studio).
///
/// A voice that carries another number than the one the brain is living with is stale and is ignored (law 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attempt(pub u64);

impl Attempt {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Where in the life of a session something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Opening camera, microphone or encoder.
    Capture,
    /// DNS, TCP, TLS: the server was not reached.
    Dial,
    /// The server was reached and answered with a refusal or a fault.
    Request,
    /// Offer, answer or candidates did not fit.
    Negotiate,
    /// ICE or DTLS never came up.
    Connect,
    /// It was up, and was lost.
    Established,
    /// Closing did not come back.
    Teardown,
}

/// The answer to "may we try again?" that every error carries (law 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Yes, after the brain's own backoff.
    Backoff,
    /// Yes, but not before this long from now (the server's `Retry-After`, already clamped).
    After(Duration),
    /// Yes, once, and at once: the provider gives another token by now. A second failure of this kind in a row is final
    /// (401, 4002: the token may just have expired).
    Once,
    /// Yes: somebody has our slot, perhaps a session of ours that the server has not yet seen to be gone. It is then tried
    /// soon; else not within the time that a server takes to notice.
    Busy {
        /// Not before this long from now either (the server's `Retry-After`, already clamped).
        after: Option<Duration>,
    },
    /// Yes where this server has acknowledged media of ours before: then something in between refuses us, or the server is
    /// being restarted (404 of a reverse proxy). As `After` where it named a time, else as `Backoff`. `Never` where it has
    /// not: the address or the token may be wrong.
    IfProven {
        /// The server's `Retry-After`, already clamped.
        after: Option<Duration>,
    },
    /// No: trying again cannot help until a person changes something.
    Never,
}

/// One error, as the brain and the operator need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it happened.
    pub phase: Phase,
    /// May we try again?
    pub retry: Retry,
    /// The name the outside knows it by.
    pub code: ErrorCode,
    /// One clear sentence for people: what, where, what would be right. Holds no secret.
    pub words: String,
}

impl Failure {
    /// A failure from its parts.
    pub fn new(phase: Phase, retry: Retry, code: ErrorCode, words: impl Into<String>) -> Self {
        Self { phase, retry, code, words: words.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}

/// All that the brain can hear.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The deadline that the brain asked for has come. Carries nothing: the brain knows what was due.
    Deadline,
    /// This process stood still for a while (SIGSTOP, a sleeping machine) and goes on now. Comes before anything else that
    /// is heard after it, so that our own silence is not held against the far end.
    Woke,
    /// A person or a signal wants something.
    Command(Command),
    /// The lookout saw the network change.
    Network(PathEvent),
    /// The studio opened under this number speaks.
    Media(Attempt, MediaEvent),
    /// The session opened under this number speaks.
    Session(Attempt, SessionEvent),
    /// The provider of tokens speaks.
    Token(TokenEvent),
    /// A probe was answered. Silence is not reported.
    Answered(ProbeTarget),
}

/// Where a reachability probe goes. Whatever the probe is (a TCP connect, a DNS query, a STUN binding), any answer counts: it
/// tells how far our packets get, and nothing of how its sender fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeTarget {
    /// The default gateways, any of them. They are on our own link: a modem answers though its uplink is dead.
    Gateway,
    /// Something beyond the gateway that is not the server (a resolver, a STUN server, another origin), by its number from 0.
    Witness(usize),
    /// The server of this number; numbers as in [`Action::Open`].
    Server(usize),
}

impl Event {
    /// The words in it that may quote others (a server, a driver).
    pub fn foreign_words(&mut self) -> Vec<&mut String> {
        match self {
            Self::Media(_, MediaEvent::Failed(failure)) | Self::Token(TokenEvent::Failed(failure)) => {
                vec![&mut failure.words]
            }
            Self::Session(_, SessionEvent::Accepted { session_id }) => vec![session_id],
            Self::Session(_, SessionEvent::SignallingResumed { session_id, recovered_from }) => {
                std::iter::once(session_id).chain(recovered_from).collect()
            }
            Self::Session(_, event) => event.failure_mut().map(|failure| &mut failure.words).into_iter().collect(),
            Self::Media(
                _,
                MediaEvent::Flowing
                | MediaEvent::Stalled
                | MediaEvent::Warnings(_)
                | MediaEvent::Ended
                | MediaEvent::Stopped,
            )
            | Self::Token(TokenEvent::Recovered)
            | Self::Answered(_)
            | Self::Deadline
            | Self::Woke
            | Self::Command(_)
            | Self::Network(_) => Vec::new(),
        }
    }
}

/// What the provider of tokens reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenEvent {
    /// It was asked and gave none. Live media goes on; what needs a token waits for one.
    Failed(Failure),
    /// It gave one again.
    Recovered,
}

/// What an operator can ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Go on air (also after `Stop` or a halt).
    Start,
    /// Leave the air with a goodbye; the process stays. Never reconnects.
    Stop,
    /// Leave the air with a goodbye and end the process with this reason. Never reconnects.
    Shutdown(StopReason),
    /// Try again now: skips our own backoff, never a server's Retry-After; replaces a live session.
    Reconnect,
    /// New numbers to live by, from now on.
    Policy(Box<Policy>),
}

/// An address of this machine that media can leave from. Lists of them begin with the preferred one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAddress {
    /// Name of its interface.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
}

/// What the lookout reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathEvent {
    /// There was no usable network, now there is one; or a new default route or address appeared.
    RouteAppeared,
    /// No usable network is left.
    AllRoutesLost,
}

/// What the studio reports.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaEvent {
    /// Encoded frames come out (sent once after the start and after each stall).
    Flowing,
    /// No encoded video frame came for `fallback.captureTimeout`.
    Stalled,
    /// The capture side broke; the studio of this number is of no more use.
    Failed(Failure),
    /// A source that is not looped has played to its end.
    Ended,
    /// The studio has let go of its devices.
    Stopped,
    /// What the operator should know of the stream, all of it; sent when it changes.
    Warnings(BTreeSet<StreamWarning>),
}

/// Our number among all encoders of a server, as it has told us: 0, 1, 2, ..., the lowest free one first. So the encoders of
/// one server do not come back in one instant when it was lost in one (product.md, item 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetrySlot(pub u16);

/// What a session reports, first to last.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// The server accepted the offer and its answer was understood.
    Accepted {
        /// The session as the server names it (for WHIP: the path of the resource).
        session_id: String,
    },
    /// The server gave us a number, for the time when it is lost.
    RetrySlot(RetrySlot),
    /// ICE and DTLS are up.
    Connected,
    /// ICE says that the path is silent; it may come back by itself.
    Disconnected,
    /// ICE was up, and says that it will not come back without new credentials.
    IceFailed,
    /// The server answered a [`Action::RestartIce`], and ICE looks for a path anew.
    IceRestarted,
    /// The server will not restart ICE in this session, or has become somebody else: only a new session helps.
    IceRestartRefused(Failure),
    /// The ICE restart did not come about; another one may. A failure to reach the server (`Phase::Dial`) says that
    /// signalling is lost, too.
    IceRestartFailed(Failure),
    /// The far end reports that new media of ours arrived (an RTCP report block of our SSRC moved on, or the like).
    Acknowledged,
    /// RTCP of the far end names our media and is no report (PLI, FIR, NACK, REMB): it gets something, and nothing follows
    /// from that for when it will speak again.
    Named,
    /// Fresh figures of the link (coalesced: only the newest counts).
    Link(LinkStats),
    /// Media has moved to another path within the session.
    Moved(PathChange),
    /// The signalling connection broke (WebSocket); media may go on.
    SignallingLost(Failure),
    /// The signalling connection is back, and speaks for the same media as before.
    SignallingResumed {
        /// The session as the server names it now.
        session_id: String,
        /// How it was named before, when that has changed.
        recovered_from: Option<String>,
    },
    /// The signalling connection could not be reopened; whether and when it may be tried again is in the failure.
    ResumeFailed(Failure),
    /// The server is back but knows the session no more: a new one is needed, while the old one feeds as long as it can.
    ResumeRefused(Failure),
    /// The server will go away soon (deploy); the next try not before this long from now.
    GoingAway {
        /// From now, clamped.
        retry_after: Duration,
    },
    /// The server's own onward leg (RTMP and the like) broke or is mended.
    Output {
        /// True while it is reconnecting.
        reconnecting: bool,
    },
    /// It could not be opened, or it was up and is lost. Nothing but `Closed` comes after this.
    Failed(Failure),
    /// Teardown is done.
    Closed,
    /// Teardown did not come back within its deadline; the thread is left behind.
    TeardownStuck,
}

impl SessionEvent {
    /// The failure that is reported, if it is one.
    pub const fn failure_mut(&mut self) -> Option<&mut Failure> {
        match self {
            Self::IceRestartRefused(failure)
            | Self::IceRestartFailed(failure)
            | Self::SignallingLost(failure)
            | Self::ResumeFailed(failure)
            | Self::ResumeRefused(failure)
            | Self::Failed(failure) => Some(failure),
            Self::Accepted { .. }
            | Self::RetrySlot(_)
            | Self::Connected
            | Self::Disconnected
            | Self::IceFailed
            | Self::IceRestarted
            | Self::Acknowledged
            | Self::Named
            | Self::Link(_)
            | Self::Moved(_)
            | Self::SignallingResumed { .. }
            | Self::GoingAway { .. }
            | Self::Output { .. }
            | Self::Closed
            | Self::TeardownStuck => None,
        }
    }
}

/// All that the brain can order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Open the studio under this number.
    StartCapture(Attempt),
    /// Close the studio of this number.
    StopCapture(Attempt),
    /// Open a session under this number.
    Open {
        /// Its number.
        attempt: Attempt,
        /// Which server: 0 is `uplink.url`, 1 the first of `uplink.fallbackUrls`.
        endpoint: usize,
    },
    /// Reopen the signalling connection of this session and re-attach to it.
    Resume(Attempt),
    /// Give the media of this session new ICE credentials, through the server. Nothing else changes.
    RestartIce(Attempt),
    /// Close the session of this number, with or without telling the server. It may have failed or closed already.
    Close {
        /// Which one.
        attempt: Attempt,
        /// Tell the server (WHIP: DELETE).
        goodbye: bool,
    },
    /// Write down that this server has acknowledged media of ours, for the process that follows a crash.
    RememberProof {
        /// Which server, as in `Open`.
        endpoint: usize,
    },
    /// Send one probe there, and report an answer if it comes soon.
    Probe {
        /// Where to.
        target: ProbeTarget,
        /// The server that the next session is for: what has an address of this server is no witness.
        endpoint: usize,
    },
    /// End the process. Comes last, when everything is closed or has had its time.
    Exit(StopReason),
}
