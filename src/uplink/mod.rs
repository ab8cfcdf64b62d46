//! The line - one session, one webrtcbin, one life.
//!
//! A [`Session`] runs as a task from its opening to its end and reports to the inbox under its number. It never tries
//! anything twice: when it fails it says so, waits to be closed, and is gone. The brain decides what comes next.

pub mod certificate;
pub mod ice_server;
mod messenger;
mod negotiate;
pub mod offered;
mod outlet;
mod peer;
mod picture;
mod restart;
mod stats;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gst_webrtc::{WebRTCICEConnectionState, WebRTCPeerConnectionState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Network, Uplink, Video};
use crate::inbox::Inbox;
use crate::media::tracks::{Hatch, Promise, SharedClock};
use crate::sdp::LocalCandidate;
use crate::signal::state::StateFile;
use crate::signal::token::Tokens;
use crate::signal::{Ghost, Memory, RestartError, ResumeError, Timeouts, Word};
use crate::status::ErrorCode;
use crate::supervisor::event::{Attempt, Event, Failure, LocalAddress, Phase, Retry, SessionEvent};

use crate::ice::types::Told;
use crate::rtp::rtcp::{self, Proof};
use certificate::Certificate;
use messenger::{Messenger, Said};
use peer::{Peer, PeerEvent};

/// A goodbye may hold up the end of the process: Ctrl-C has to be done within 2 s. What is not said in time is a ghost,
/// and buried beside the next publish.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(1200);
/// webrtcbin goes to NULL in 5 - 50 ms (200 sessions on two busy cores: 310 ms at most). What takes this long hangs.
const TEARDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// `Stats` is one event a second (product.md).
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// What all sessions of the broadcast share.
pub struct Line {
    /// Where to, and how.
    pub uplink: Uplink,
    /// Codec and size, for the m-line.
    pub video: Video,
    /// What else is known of the picture before its first frame.
    pub promise: Promise,
    /// Two channels of sound are sent.
    pub stereo: bool,
    /// Sum of the encoders' targets, bits per second.
    pub target: u64,
    /// Where the frames come from.
    pub hatch: Hatch,
    /// Time of all pipelines.
    pub clock: SharedClock,
    /// Which agent finds the paths, and how it is to behave.
    pub network: Network,
    /// Where media can leave from, preferred first; `None` where the network cannot be watched: then nobody can roam.
    pub addresses: Option<watch::Receiver<Vec<LocalAddress>>>,
    /// `None`: webrtcbin makes its own RSA certificate.
    pub certificate: Option<Certificate>,
    /// Where sessions report.
    pub inbox: Inbox,
    /// Where bearer tokens come from.
    pub tokens: Arc<Tokens>,
    /// What has to outlive this process; `None`: nothing does.
    pub state: Option<Arc<StateFile>>,
    /// A session of ours that the server may still believe in.
    pub ghost: Mutex<Option<Ghost>>,
    /// A session of an earlier process that the first one may take up again.
    pub remembered: Mutex<Option<Memory>>,
    /// That a server takes the picture alone has been said.
    pub sound_refused: AtomicBool,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The broadcast ends: the server is told, and nothing is remembered.
    Goodbye,
    /// Another session follows: what the server can carry over into it is remembered, anything else is ended.
    Replaced,
    /// The server is not told.
    Silent,
}

/// One session. Ends with [`Session::close`], by value; a dropped one closes without a goodbye.
pub struct Session {
    order: oneshot::Sender<Parting>,
    wishes: mpsc::UnboundedSender<Wish>,
}

/// What is wanted of a session while it lives.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Resume,
    RestartIce,
    /// `signalling.inactivityTimeout`.
    Inactivity(Duration),
}

impl Session {
    /// Begins to open a session with one of the servers (0 is `uplink.url`). Returns at once; all that happens is told
    /// to the inbox under `attempt`. `inactivity`: `signalling.inactivityTimeout`.
    #[must_use]
    pub fn open(line: &Arc<Line>, attempt: Attempt, endpoint: usize, inactivity: Duration) -> Self {
        let (order, ordered) = oneshot::channel();
        let (wishes, wished) = mpsc::unbounded_channel();
        let timeouts = Timeouts { inactivity, ..Timeouts::default() };
        tokio::spawn(live(Arc::clone(line), attempt, endpoint, timeouts, ordered, wished));
        Self { order, wishes }
    }

    /// `signalling.inactivityTimeout` is another one from now on.
    pub fn set_inactivity(&self, patience: Duration) {
        let _already_gone = self.wishes.send(Wish::Inactivity(patience));
    }

    /// Orders the signalling connection to be reopened. Returns at once; the outcome is told to the inbox.
    pub fn resume(&self) {
        let _already_gone = self.wishes.send(Wish::Resume);
    }

    /// Orders new ICE credentials for the media. Returns at once; the outcome is told to the inbox.
    pub fn restart_ice(&self) {
        let _already_gone = self.wishes.send(Wish::RestartIce);
    }

    /// Orders the end, with or without telling the server. Returns at once; `Closed` or `TeardownStuck` follows.
    pub fn close(self, parting: Parting) {
        let _already_gone = self.order.send(parting);
    }
}

async fn live(
    line: Arc<Line>,
    attempt: Attempt,
    endpoint: usize,
    timeouts: Timeouts,
    mut ordered: oneshot::Receiver<Parting>,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
) {
    let voice = |event| line.inbox.post(Event::Session(attempt, event));
    let uplink = line.uplink.at(endpoint);
    let mut life = Life {
        line: &line,
        attempt,
        uplink,
        timeouts,
        messenger: None,
        peer: None,
        connected: false,
        agreed: None,
        receipts: rtcp::Receipts::default(),
        keyframe_requests: 0,
    };
    let parting = tokio::select! {
        failure = life.run(&mut wishes) => {
            voice(SessionEvent::Failed(failure));
            ordered.await
        }
        order = &mut ordered => order,
    };
    let closed = life.end(parting.unwrap_or(Parting::Silent)).await;
    voice(if closed { SessionEvent::Closed } else { SessionEvent::TeardownStuck });
}

struct Life<'a> {
    line: &'a Arc<Line>,
    attempt: Attempt,
    /// With the address of the server that this session is for.
    uplink: Uplink,
    timeouts: Timeouts,
    messenger: Option<Messenger>,
    peer: Option<Peer>,
    /// ICE and DTLS have been up.
    connected: bool,
    /// The answer that holds, normalised.
    agreed: Option<String>,
    /// What the far end has said of our streams.
    receipts: rtcp::Receipts,
    keyframe_requests: u64,
}

impl Life<'_> {
    /// The whole life up to the failure that ends it. May be dropped at any await.
    async fn run(&mut self, wishes: &mut mpsc::UnboundedReceiver<Wish>) -> Failure {
        let (say, mut said) = mpsc::unbounded_channel();
        match self.establish(say).await {
            Ok((mut heard, mids)) => self.attend(&mut heard, &mut said, wishes, &mids).await,
            Err(failure) => failure,
        }
    }

    fn voice(&self, event: SessionEvent) {
        self.line.inbox.post(Event::Session(self.attempt, event));
    }

    /// From the answer on: passes on what is heard, until something breaks.
    async fn attend(
        &mut self,
        heard: &mut mpsc::UnboundedReceiver<PeerEvent>,
        said: &mut mpsc::UnboundedReceiver<Said>,
        wishes: &mut mpsc::UnboundedReceiver<Wish>,
        mids: &[String],
    ) -> Failure {
        let mut meter = stats::Meter::new(&self.line.hatch);
        let mut tick = interval(STATS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measured = tick.tick().await;
        loop {
            tokio::select! {
                event = heard.recv() => {
                    let Some(event) = event else { return internal("webrtcbin has gone silent") };
                    if let Err(failure) = self.hear(event, heard, mids) {
                        return messenger::last_words(failure, self.uplink.protocol, said).await;
                    }
                }
                Some(said) = said.recv() => {
                    if let Err(failure) = self.pass_on(said).await {
                        return failure;
                    }
                }
                Some(wish) = wishes.recv() => self.grant(wish).await,
                now = tick.tick() => {
                    self.report(&mut meter, now - measured).await;
                    measured = now;
                }
            }
        }
    }

    fn hear(
        &mut self,
        event: PeerEvent,
        heard: &mut mpsc::UnboundedReceiver<PeerEvent>,
        mids: &[String],
    ) -> Result<(), Failure> {
        match event {
            PeerEvent::Candidate { mline, candidate } => {
                let mut batch = vec![local(mline, candidate, mids)];
                let mut then = None;
                while let Ok(next) = heard.try_recv() {
                    match next {
                        PeerEvent::Candidate { mline, candidate } => batch.push(local(mline, candidate, mids)),
                        other @ (PeerEvent::GatheringComplete
                        | PeerEvent::Ice(_)
                        | PeerEvent::Connection(_)
                        | PeerEvent::Feedback(_)
                        | PeerEvent::Path(_)
                        | PeerEvent::HungUp
                        | PeerEvent::Broken(_)) => {
                            then = Some(other);
                            break;
                        }
                    }
                }
                self.trickle(batch, matches!(then, Some(PeerEvent::GatheringComplete)));
                match then {
                    None | Some(PeerEvent::GatheringComplete) => {}
                    Some(other) => return self.hear(other, heard, mids),
                }
            }
            PeerEvent::GatheringComplete => self.trickle(Vec::new(), true),
            PeerEvent::Ice(state) => return self.ice(state),
            PeerEvent::Connection(state) => return self.connection(state),
            PeerEvent::Feedback(feedback) => self.feedback(&feedback),
            PeerEvent::Path(Told::Incomplete) => self.peer.iter().for_each(Peer::request_keyframe),
            PeerEvent::Path(Told::Moved(step)) => {
                let change = crate::ice::path_change(&step);
                change.into_iter().for_each(|change| self.voice(SessionEvent::Moved(change)));
            }
            PeerEvent::HungUp => return Err(crate::signal::failure::hung_up()),
            PeerEvent::Broken(words) => return Err(internal(&words)),
        }
        Ok(())
    }

    /// What the server says, in the brain's words.
    async fn pass_on(&mut self, said: Said) -> Result<(), Failure> {
        let event = match said {
            Said::Word(Word::Ended(failure)) => return Err(failure),
            Said::Word(Word::Candidate { mline, candidate }) => {
                if let Some(peer) = &self.peer {
                    peer.add_candidate(mline, &candidate);
                }
                return Ok(());
            }
            Said::Word(Word::IceServers { servers, near }) => {
                self.rename_servers(&servers, near);
                return Ok(());
            }
            Said::Word(Word::Lost(failure)) => SessionEvent::SignallingLost(failure),
            Said::Word(Word::RetrySlot(slot)) => SessionEvent::RetrySlot(slot),
            Said::Word(Word::GoingAway(retry_after)) => SessionEvent::GoingAway { retry_after },
            Said::Word(Word::Output { reconnecting }) => SessionEvent::Output { reconnecting },
            Said::Restarted { offer, answer: Ok(accepted) } => self.restarted(&offer, accepted).await,
            Said::Restarted { answer: Err(RestartError::Failed(failure)), .. } => {
                SessionEvent::IceRestartFailed(failure)
            }
            // A dial that hears nobody and the ladder wait equally long. That is no server that refuses us, and no answer.
            Said::Restarted { answer: Err(RestartError::Silence), .. } => return Ok(()),
            Said::Restarted { answer: Err(RestartError::Refused(failure)), .. } => {
                SessionEvent::IceRestartRefused(failure)
            }
            Said::Resumed(Ok(resumed)) => SessionEvent::SignallingResumed {
                session_id: resumed.session_id,
                recovered_from: resumed.recovered_from,
            },
            Said::Resumed(Err(ResumeError::Failed(failure))) => SessionEvent::ResumeFailed(failure),
            Said::Resumed(Err(ResumeError::Refused(failure))) => SessionEvent::ResumeRefused(failure),
        };
        self.voice(event);
        Ok(())
    }

    fn trickle(&self, batch: Vec<LocalCandidate>, end: bool) {
        if let Some(messenger) = &self.messenger {
            messenger.candidates(batch, end);
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an open enum of GStreamer; two states matter")]
    fn ice(&self, state: WebRTCICEConnectionState) -> Result<(), Failure> {
        match state {
            // No new ICE credentials help against refused TURN credentials; a new session brings new ones.
            WebRTCICEConnectionState::Failed
                if self.connected && !(self.uplink.relay_only && self.relay_trouble().is_some()) =>
            {
                self.voice(SessionEvent::IceFailed);
                Ok(())
            }
            WebRTCICEConnectionState::Failed => {
                let trouble = self.relay_trouble().unwrap_or_else(|| {
                    "ICE found no pair of addresses that works (is UDP open? would a TURN server in \
                     `uplink.iceServers` help?)"
                        .to_owned()
                });
                let words = format!("no path between us and the server: {trouble}");
                Err(Failure::new(Phase::Connect, Retry::Backoff, ErrorCode::IceConnectionFailed, words))
            }
            WebRTCICEConnectionState::Disconnected => {
                self.voice(SessionEvent::Disconnected);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an open enum of GStreamer; three states matter")]
    fn connection(&mut self, state: WebRTCPeerConnectionState) -> Result<(), Failure> {
        match state {
            WebRTCPeerConnectionState::Connected => {
                match &mut self.peer {
                    Some(peer) if !self.connected => peer.open_outlets(),
                    // What was sent while ICE was down is lost, and viewers wait for a whole picture. The wish for one would
                    // come a round trip later.
                    Some(peer) => peer.request_keyframe(),
                    None => {}
                }
                self.connected = true;
                self.voice(SessionEvent::Connected);
                Ok(())
            }
            // ICE again: DTLS fails no more once it is up.
            WebRTCPeerConnectionState::Failed if self.connected => {
                self.voice(SessionEvent::IceFailed);
                Ok(())
            }
            WebRTCPeerConnectionState::Failed => {
                let words = "the DTLS handshake with the server failed (a server that takes only RSA certificates \
                             needs `uplink.dtlsCertificate = \"rsa\"`)";
                Err(Failure::new(Phase::Connect, Retry::Backoff, ErrorCode::IceConnectionFailed, words))
            }
            WebRTCPeerConnectionState::Closed => Err(crate::signal::failure::hung_up()),
            _ => Ok(()),
        }
    }

    fn feedback(&mut self, feedback: &rtcp::Feedback) {
        let Some(peer) = &self.peer else { return };
        if feedback.keyframe_requests > 0 {
            self.keyframe_requests += u64::from(feedback.keyframe_requests);
            peer.request_keyframe();
        }
        match self.receipts.prove(feedback, &peer.ssrcs()) {
            Some(Proof::Report) => self.voice(SessionEvent::Acknowledged),
            Some(Proof::Named) => self.voice(SessionEvent::Named),
            None => {}
        }
    }

    async fn report(&mut self, meter: &mut stats::Meter, elapsed: Duration) {
        let Some(peer) = &self.peer else { return };
        let reading = peer.reading().await;
        let mut figures = meter.measure(elapsed, reading, &self.line.hatch, self.line.target, self.keyframe_requests);
        figures.paths = peer.paths();
        if let Some(messenger) = &self.messenger {
            messenger.stats(&figures);
        }
        self.voice(SessionEvent::Link(figures));
    }

    /// Goodbye and teardown side by side. False when the teardown hangs: its thread is left behind.
    async fn end(self, how: Parting) -> bool {
        let (messenger, line) = (self.messenger, self.line);
        let parting = async {
            let Some(messenger) = messenger.filter(|_| how != Parting::Silent) else { return };
            // A goodbye that is late goes on in the background and leaves its ghost behind if it fails.
            let line = Arc::clone(line);
            let saying = tokio::spawn(async move {
                let ghost = messenger.part(how).await;
                if ghost.is_some() {
                    *line.ghost.lock().unwrap_or_else(PoisonError::into_inner) = ghost;
                }
            });
            let _late = timeout(GOODBYE_DEADLINE, saying).await;
        };
        let teardown = tokio::task::spawn_blocking(move || drop(self.peer));
        let (torn_down, ()) = tokio::join!(timeout(TEARDOWN_DEADLINE, teardown), parting);
        torn_down.is_ok()
    }
}

fn local(mline: u32, candidate: String, mids: &[String]) -> LocalCandidate {
    let mid = usize::try_from(mline).ok().and_then(|at| mids.get(at)).cloned().unwrap_or_default();
    LocalCandidate { mid, mline, candidate }
}

fn internal(words: &str) -> Failure {
    Failure::new(Phase::Established, Retry::Backoff, ErrorCode::Internal, format!("session pipeline: {words}"))
}
