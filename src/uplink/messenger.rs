//! A task that owns the [`Signaller`] of one session and carries out orders one after the other. So a session may be
//! ended at any moment without cutting a request in two: a goodbye queues up behind the publish it belongs to, and no
//! resource is left on the server that nobody knows of.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::config::Protocol;
use crate::sdp::LocalCandidate;
use crate::signal::state::StateFile;
use crate::signal::{Accepted, Ghost, Memory, RestartError, ResumeError, Resumed, Signaller, Word};
use crate::status::{ErrorCode, LinkStats};
use crate::supervisor::event::{Failure, Phase, Retry};

use super::{Line, Parting};
use crate::signal::failure::SLOT_BUSY_WAIT_MIN;

/// Removing a file takes a millisecond; a disk that hangs must not keep us from the goodbye.
const FORGET_DEADLINE: Duration = Duration::from_millis(300);

/// Between a close of DTLS and the reason for it on the signalling connection: the same round trip, or one retransmission.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Newest candidates wait here while a PATCH is under way; there are never more than a few dozen.
const ORDERS_WAITING_MAX: usize = 64;

/// What the messenger tells its session without being asked, or when it is done.
#[derive(Debug)]
pub(crate) enum Said {
    /// The server spoke.
    Word(Word),
    /// What became of an order to resume.
    Resumed(Result<Resumed, ResumeError>),
    /// The answer to a restart of ICE with this offer.
    Restarted { offer: String, answer: Result<Accepted, RestartError> },
}

enum Order {
    Resume,
    Publish { offer: String, reply: oneshot::Sender<Result<Accepted, Failure>> },
    Restart { offer: String },
    Candidates { batch: Vec<LocalCandidate>, end: bool },
    Stats(LinkStats),
    Inactivity(Duration),
    Part { how: Parting, reply: oneshot::Sender<Option<Ghost>> },
}

/// Handle of the task; dropping it ends the task without a goodbye.
pub(crate) struct Messenger {
    orders: mpsc::Sender<Order>,
}

impl Messenger {
    /// Starts the task. The ghost of the line (an earlier session that could not be told goodbye) is buried beside the
    /// publish, which is made once more when it came too soon for that.
    pub(crate) fn start(signaller: Signaller, line: Arc<Line>, tell: mpsc::UnboundedSender<Said>) -> Self {
        let (orders, heard) = mpsc::channel(ORDERS_WAITING_MAX);
        tokio::spawn(serve(signaller, line, heard, tell));
        Self { orders }
    }

    /// Offer out, answer back.
    pub(crate) async fn publish(&self, offer: String) -> Result<Accepted, Failure> {
        let (reply, answer) = oneshot::channel();
        let _task_gone = self.orders.send(Order::Publish { offer, reply }).await;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Sends candidates as soon as the line is free. Never waits.
    pub(crate) fn candidates(&self, batch: Vec<LocalCandidate>, end: bool) {
        if self.orders.try_send(Order::Candidates { batch, end }).is_err() {
            warn!("the server answers too slowly: local ICE candidates are not sent");
        }
    }

    /// Reopens the signalling connection; the answer comes as [`Said::Resumed`]. Never waits.
    pub(crate) fn resume(&self) {
        if self.orders.try_send(Order::Resume).is_err() {
            warn!("the messenger is too busy to resume");
        }
    }

    /// Offers new ICE credentials; the answer comes as [`Said::Restarted`]. Never waits.
    pub(crate) fn restart(&self, offer: String) {
        if self.orders.try_send(Order::Restart { offer }).is_err() {
            warn!("the messenger is too busy to restart ICE");
        }
    }

    /// Tells the server our figures; dropped while the line is busy. Never waits.
    pub(crate) fn stats(&self, link: &LinkStats) {
        let _next_second = self.orders.try_send(Order::Stats(link.clone()));
    }

    /// `signalling.inactivityTimeout` is another one from now on. Never waits.
    pub(crate) fn inactivity(&self, patience: Duration) {
        if self.orders.try_send(Order::Inactivity(patience)).is_err() {
            warn!("the messenger is too busy to hear of `signalling.inactivityTimeout`");
        }
    }

    /// Ends the session at the server. What comes back is a ghost: a session that the server may still believe in.
    pub(crate) async fn part(self, how: Parting) -> Option<Ghost> {
        let (reply, answer) = oneshot::channel();
        let _task_gone = self.orders.send(Order::Part { how, reply }).await;
        answer.await.ok().flatten()
    }
}

async fn serve(
    mut signaller: Signaller,
    line: Arc<Line>,
    mut orders: mpsc::Receiver<Order>,
    tell: mpsc::UnboundedSender<Said>,
) {
    let mut keepsake = None;
    // Is there a connection that may speak?
    let mut attached = false;
    let mut waiting = VecDeque::new();
    loop {
        let order = if waiting.is_empty() {
            tokio::select! {
                word = signaller.next(), if attached => {
                    attached = !matches!(word, Word::Lost(_) | Word::Ended(_));
                    let _session_over = tell.send(Said::Word(word));
                    continue;
                }
                order = orders.recv() => order,
            }
        } else {
            waiting.pop_front()
        };
        match order {
            None => return,
            Some(Order::Publish { offer, reply }) => {
                withdraw(&mut signaller, &line, keepsake.take()).await;
                let result = publish(&mut signaller, &line, &offer, || reply.is_closed()).await;
                attached = result.is_ok();
                keepsake = attached.then(|| Keepsake::new(&signaller, &line)).flatten();
                let _asker_gone = reply.send(result);
            }
            Some(Order::Restart { offer }) => {
                let answer = signaller.restart(&offer).await;
                let _session_over = tell.send(Said::Restarted { offer, answer });
            }
            Some(Order::Candidates { batch, end }) => {
                if let Err(failure) = signaller.candidates(&batch, end).await {
                    debug!("trickle: {failure}");
                }
            }
            Some(Order::Stats(link)) if attached => signaller.stats(&link).await,
            Some(Order::Stats(_)) => {}
            Some(Order::Inactivity(patience)) => signaller.set_inactivity(patience),
            Some(Order::Resume) => {
                let Some(resumed) = resume(&mut signaller, &mut orders, &mut waiting).await else { continue };
                attached = resumed.is_ok();
                match &resumed {
                    Ok(_) => keepsake = Keepsake::new(&signaller, &line),
                    Err(ResumeError::Refused(_)) => {
                        let _nothing_to_carry = leave_behind(&signaller, &line);
                    }
                    Err(ResumeError::Failed(_)) => {}
                }
                let _session_over = tell.send(Said::Resumed(resumed));
            }
            Some(Order::Part { how: Parting::Replaced, reply }) if leave_behind(&signaller, &line) => {
                let _asker_gone = reply.send(None);
                return;
            }
            Some(Order::Part { how: _, reply }) => return part(&mut signaller, keepsake, reply).await,
        }
    }
}

/// Resumes, as long as somebody waits for it: on a network that swallows everything that takes 10 s, and the session that
/// follows must not begin without what is to be carried over into it. `None`: it is the turn of the orders that wait.
async fn resume(
    signaller: &mut Signaller,
    orders: &mut mpsc::Receiver<Order>,
    waiting: &mut VecDeque<Order>,
) -> Option<Result<Resumed, ResumeError>> {
    if carried(signaller).is_none() {
        return Some(signaller.resume().await);
    }
    let mut resuming = pin!(signaller.resume());
    loop {
        tokio::select! {
            resumed = &mut resuming => return Some(resumed),
            order = orders.recv() => {
                // Without an order the handle is gone, and nobody needs the outcome.
                let is_last = matches!(order, None | Some(Order::Part { how: Parting::Replaced, .. }));
                waiting.extend(order);
                if is_last {
                    return None;
                }
            }
        }
    }
}

/// Lets the next session take up what the server can carry over; true when there is such a thing. (A WHIP resource or a
/// Janus handle belongs to its media connection and goes with it.)
fn leave_behind(signaller: &Signaller, line: &Line) -> bool {
    let carried = carried(signaller);
    let any = carried.is_some();
    if any {
        *line.remembered.lock().unwrap_or_else(PoisonError::into_inner) = carried;
    }
    any
}

fn carried(signaller: &Signaller) -> Option<Memory> {
    signaller.memory().filter(|memory| matches!(memory, Memory::Roamcast { .. }))
}

/// Begins to end the ghost of the line, if there is one. The outcome of the task: is it ended?
fn bury(signaller: &Signaller, line: &Arc<Line>) -> Option<JoinHandle<bool>> {
    let ghost = line.ghost.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let (burying, line) = (signaller.bury(ghost.clone()), Arc::clone(line));
    Some(tokio::spawn(async move {
        let Err(failure) = burying.await else { return true };
        if failure.retry == Retry::Never {
            debug!("the session before is left to the server's own timeout: {failure}");
        } else {
            // Not reached, as at boot before the network is up, or busy: the next session tries again.
            debug!("the session before is not ended yet: {failure}");
            line.ghost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ghost);
        }
        false
    }))
}

/// Ends what an earlier offer of this session has led to and its answer has spoilt: it would be in the way of the next one.
async fn withdraw(signaller: &mut Signaller, line: &Line, keepsake: Option<Keepsake>) {
    if let Some(keepsake) = keepsake {
        let _disk_hangs = timeout(FORGET_DEADLINE, keepsake.forget()).await;
    }
    let session = signaller.ghost();
    if let Err(failure) = signaller.withdraw().await {
        debug!("the session of the offer before is not ended yet: {failure}");
        *line.ghost.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

/// The offer goes out while the ghost is buried. Where that held our slot still, the offer goes out once more as soon as it
/// holds it no longer: that is the rest of one try and not another one, which would be the brain's to make.
async fn publish(
    signaller: &mut Signaller,
    line: &Arc<Line>,
    offer: &str,
    is_over: impl Fn() -> bool,
) -> Result<Accepted, Failure> {
    let burial = bury(signaller, line);
    // On air first: a ghost at another server, which may be gone for good, is waited for only where we are not. (The next
    // session looks for what is not ended.)
    let failure = match signaller.publish(offer).await {
        Err(failure) => failure,
        accepted => return accepted,
    };
    let is_buried = match burial {
        Some(burial) => burial.await.unwrap_or(false),
        None => false,
    };
    if !is_buried || !may_be_ours(&failure) || is_over() {
        return Err(failure);
    }
    debug!("{failure}; it was a session of ours that had it, and that is ended now");
    signaller.publish(offer).await
}

/// May it be a session of ours that has the slot? Not every server has a word for that: some say only that they do not take
/// the offer (400 "already has a host"). Not when the server wants us to stay away for longer than for a slot.
fn may_be_ours(failure: &Failure) -> bool {
    match failure.retry {
        Retry::After(wait) | Retry::Busy { after: Some(wait) } | Retry::IfProven { after: Some(wait) } => {
            failure.code == ErrorCode::ConcurrentLimit && wait <= SLOT_BUSY_WAIT_MIN
        }
        Retry::Backoff | Retry::Busy { after: None } => failure.code == ErrorCode::ConcurrentLimit,
        Retry::IfProven { after: None } => failure.phase == Phase::Request || failure.code == ErrorCode::BadAnswer,
        Retry::Once | Retry::Never => false,
    }
}

/// What ends a session, given what its media says of that: a server that hangs up may say why over its signalling connection,
/// a moment later, and a kick is final.
pub(crate) async fn last_words(
    failure: Failure,
    protocol: Protocol,
    said: &mut mpsc::UnboundedReceiver<Said>,
) -> Failure {
    if failure.code != ErrorCode::NetworkDisconnect || protocol == Protocol::Whip {
        return failure;
    }
    let reason = async {
        loop {
            match said.recv().await {
                Some(Said::Word(Word::Ended(reason))) => return reason,
                Some(Said::Word(Word::Lost(reason))) if reason.retry != Retry::Backoff => return reason,
                Some(Said::Word(_) | Said::Resumed(_) | Said::Restarted { .. }) => {}
                None => std::future::pending().await,
            }
        }
    };
    timeout(LAST_WORDS, reason).await.unwrap_or(failure)
}

async fn part(signaller: &mut Signaller, keepsake: Option<Keepsake>, reply: oneshot::Sender<Option<Ghost>>) {
    if let Some(keepsake) = keepsake {
        let _disk_hangs = timeout(FORGET_DEADLINE, keepsake.forget()).await;
    }
    // Taken first: a messenger may forget its session with the goodbye, whatever becomes of that.
    let session = signaller.ghost();
    let ghost = match signaller.goodbye().await {
        Ok(()) => None,
        Err(failure) => {
            debug!("goodbye: {failure}");
            session
        }
    };
    let _asker_gone = reply.send(ghost);
}

/// What the state file knows of a session, from its publish to its goodbye.
struct Keepsake {
    state: Arc<StateFile>,
    memory: Memory,
    saving: JoinHandle<()>,
}

impl Keepsake {
    /// Begins to write; media does not wait for the disk.
    fn new(signaller: &Signaller, line: &Arc<Line>) -> Option<Self> {
        let (state, memory) = (Arc::clone(line.state.as_ref()?), signaller.memory()?);
        let (saver, saved, line) = (Arc::clone(&state), memory.clone(), Arc::clone(line));
        let saving = spawn_blocking(move || saver.save(&saved, &line.uplink));
        Some(Self { state, memory, saving })
    }

    /// Before the goodbye: what is stopped must not be taken up again by the next process.
    async fn forget(self) {
        let _panicked = self.saving.await;
        let _panicked = spawn_blocking(move || self.state.forget(&self.memory)).await;
    }
}

fn gone() -> Failure {
    Failure::new(Phase::Request, Retry::Backoff, ErrorCode::Internal, "the messenger of this session has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::failure;

    async fn heard(protocol: Protocol, words: Vec<Word>) -> Failure {
        let (tell, mut said) = mpsc::unbounded_channel();
        words.into_iter().for_each(|word| tell.send(Said::Word(word)).unwrap());
        last_words(failure::hung_up(), protocol, &mut said).await
    }

    fn closed(retry: Retry) -> Failure {
        Failure::new(Phase::Request, retry, ErrorCode::AdminDisconnect, "so there")
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_on_the_signalling_connection_is_better_than_a_close_of_dtls() {
        let kicked = closed(Retry::Never);
        let broke = Word::Lost(closed(Retry::Backoff));
        for protocol in [Protocol::Janus, Protocol::Roamcast] {
            assert_eq!(heard(protocol, vec![broke.clone(), Word::Ended(kicked.clone())]).await, kicked);
            assert_eq!(heard(protocol, vec![Word::Lost(kicked.clone())]).await, kicked);
            assert_eq!(heard(protocol, vec![broke.clone()]).await, failure::hung_up());
        }
        assert_eq!(
            heard(Protocol::Whip, vec![Word::Ended(kicked)]).await,
            failure::hung_up(),
            "has no such connection"
        );
    }
}
