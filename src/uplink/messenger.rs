//! A task that owns the [`Signaller`] of one session and carries out orders one after the other. So a session may be
//! ended at any moment without cutting a request in two: a goodbye queues up behind the publish it belongs to, and no
//! resource is left on the server that nobody knows of.

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::signal::{Accepted, Ghost, LocalCandidate, ResumeError, Resumed, Signaller, Word};
use crate::supervisor::event::Failure;

/// Newest candidates wait here while a PATCH is under way; there are never more than a few dozen.
const ORDERS_WAITING_MAX: usize = 64;

/// What the messenger tells its session without being asked, or when it is done.
#[derive(Debug)]
pub(crate) enum Said {
    /// The server spoke.
    Word(Word),
    /// What became of an order to resume.
    Resumed(Result<Resumed, ResumeError>),
}

enum Order {
    Resume,
    Publish { offer: String, reply: oneshot::Sender<Result<Accepted, Failure>> },
    Candidates { batch: Vec<LocalCandidate>, end: bool },
    Goodbye { reply: oneshot::Sender<Option<Ghost>> },
}

/// Handle of the task; dropping it ends the task without a goodbye.
pub(crate) struct Messenger {
    orders: mpsc::Sender<Order>,
}

impl Messenger {
    /// Starts the task. A `ghost` (resource of an earlier session that could not be told goodbye) is buried beside the
    /// publish.
    pub(crate) fn start(signaller: Signaller, ghost: Option<Ghost>, tell: mpsc::UnboundedSender<Said>) -> Self {
        let (orders, heard) = mpsc::channel(ORDERS_WAITING_MAX);
        tokio::spawn(serve(signaller, ghost, heard, tell));
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

    /// Ends the session at the server. What comes back is a ghost: a session that the server may still believe in.
    pub(crate) async fn goodbye(self) -> Option<Ghost> {
        let (reply, answer) = oneshot::channel();
        let _task_gone = self.orders.send(Order::Goodbye { reply }).await;
        answer.await.ok().flatten()
    }
}

async fn serve(
    mut signaller: Signaller,
    mut ghost: Option<Ghost>,
    mut orders: mpsc::Receiver<Order>,
    tell: mpsc::UnboundedSender<Said>,
) {
    // Is there a connection that may speak?
    let mut attached = false;
    loop {
        let order = tokio::select! {
            word = signaller.next(), if attached => {
                attached = !matches!(word, Word::Lost(_) | Word::Ended(_));
                let _session_over = tell.send(Said::Word(word));
                continue;
            }
            order = orders.recv() => order,
        };
        match order {
            None => return,
            Some(Order::Publish { offer, reply }) => {
                let result = publish(&mut signaller, ghost.take(), &offer).await;
                attached = result.is_ok();
                let _asker_gone = reply.send(result);
            }
            Some(Order::Candidates { batch, end }) => {
                if let Err(failure) = signaller.candidates(&batch, end).await {
                    debug!("trickle: {failure}");
                }
            }
            Some(Order::Resume) => {
                let resumed = signaller.resume().await;
                attached = resumed.is_ok();
                let _session_over = tell.send(Said::Resumed(resumed));
            }
            Some(Order::Goodbye { reply }) => return part(&mut signaller, reply).await,
        }
    }
}

/// The offer goes out; the ghost of an earlier session is buried meanwhile.
async fn publish(signaller: &mut Signaller, ghost: Option<Ghost>, offer: &str) -> Result<Accepted, Failure> {
    let burial = ghost.map(|ghost| signaller.bury(ghost));
    let publishing = signaller.publish(offer);
    let Some(burial) = burial else { return publishing.await };
    let (result, buried) = tokio::join!(publishing, burial);
    if let Err(failure) = buried {
        debug!("the session before is left to the server's own timeout: {failure}");
    }
    result
}

async fn part(signaller: &mut Signaller, reply: oneshot::Sender<Option<Ghost>>) {
    let ghost = match signaller.goodbye().await {
        Ok(()) => None,
        Err(failure) => {
            debug!("goodbye: {failure}");
            signaller.ghost()
        }
    };
    let _asker_gone = reply.send(ghost);
}

fn gone() -> Failure {
    use crate::status::ErrorCode;
    use crate::supervisor::event::{Phase, Retry};
    Failure::new(Phase::Request, Retry::Backoff, ErrorCode::Internal, "the messenger of this session has ended")
}
