//! A task that owns the [`Signaller`] of one session and carries out orders one after the other. So a session may be
//! ended at any moment without cutting a request in two: a goodbye queues up behind the publish it belongs to, and no
//! resource is left on the server that nobody knows of.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::signal::state::StateFile;
use crate::signal::{Accepted, Ghost, LocalCandidate, Memory, Signaller};
use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

use super::Line;

/// Removing a file takes a millisecond; a disk that hangs must not keep us from the goodbye.
const FORGET_DEADLINE: Duration = Duration::from_millis(300);

/// Newest candidates wait here while a PATCH is under way; there are never more than a few dozen.
const ORDERS_WAITING_MAX: usize = 64;

enum Order {
    Publish { offer: String, reply: oneshot::Sender<Result<Accepted, Failure>> },
    Candidates { batch: Vec<LocalCandidate>, end: bool },
    Goodbye { reply: oneshot::Sender<Option<Ghost>> },
}

/// Handle of the task; dropping it ends the task without a goodbye.
pub(crate) struct Messenger {
    orders: mpsc::Sender<Order>,
}

impl Messenger {
    /// Starts the task. The ghost of the line (an earlier session that could not be told goodbye) is buried beside the
    /// publish.
    pub(crate) fn start(signaller: Signaller, line: Arc<Line>) -> Self {
        let (orders, heard) = mpsc::channel(ORDERS_WAITING_MAX);
        tokio::spawn(serve(signaller, line, heard));
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

    /// Ends the session at the server. What comes back is a ghost: a session that the server may still believe in.
    pub(crate) async fn goodbye(self) -> Option<Ghost> {
        let (reply, answer) = oneshot::channel();
        let _task_gone = self.orders.send(Order::Goodbye { reply }).await;
        answer.await.ok().flatten()
    }
}

async fn serve(mut signaller: Signaller, line: Arc<Line>, mut orders: mpsc::Receiver<Order>) {
    let mut keepsake = None;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Publish { offer, reply } => {
                let ghost = line.ghost.lock().unwrap_or_else(PoisonError::into_inner).take();
                let burial = ghost.clone().map(|ghost| signaller.bury(ghost));
                let publishing = signaller.publish(&offer);
                let result = match burial {
                    None => publishing.await,
                    Some(burial) => {
                        let (result, buried) = tokio::join!(publishing, burial);
                        if buried.as_ref().is_err_and(|failure| failure.retry != Retry::Never) {
                            // Not reached, as at boot before the network is up, or busy: the next session tries again.
                            *line.ghost.lock().unwrap_or_else(PoisonError::into_inner) = ghost;
                        } else if let Err(failure) = buried {
                            debug!("the session before is left to the server's own timeout: {failure}");
                        }
                        result
                    }
                };
                keepsake = result.is_ok().then(|| Keepsake::new(&signaller, &line)).flatten();
                let _asker_gone = reply.send(result);
            }
            Order::Candidates { mut batch, mut end } => {
                while let Ok(more) = orders.try_recv() {
                    match more {
                        Order::Candidates { batch: newer, end: ends } => {
                            batch.extend(newer);
                            end |= ends;
                        }
                        Order::Goodbye { reply } => return part(&mut signaller, keepsake, reply).await,
                        Order::Publish { .. } => {}
                    }
                }
                if let Err(failure) = signaller.candidates(&batch, end).await {
                    debug!("trickle: {failure}");
                }
            }
            Order::Goodbye { reply } => return part(&mut signaller, keepsake, reply).await,
        }
    }
}

async fn part(signaller: &mut Signaller, keepsake: Option<Keepsake>, reply: oneshot::Sender<Option<Ghost>>) {
    if let Some(keepsake) = keepsake {
        let _disk_hangs = timeout(FORGET_DEADLINE, keepsake.forget()).await;
    }
    let ghost = match signaller.goodbye().await {
        Ok(()) => None,
        Err(failure) => {
            debug!("goodbye: {failure}");
            signaller.ghost()
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
