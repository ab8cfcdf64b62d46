//! All connections of one server, and what the log is told of them: each holds a seat, which is free again when it is dropped.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tracing::warn;

use super::seats::{Limits, Seats};
use super::seldom::Seldom;

/// Ends a connection when it is dropped.
type End = oneshot::Sender<()>;

pub(super) struct Crowd {
    name: &'static str,
    limits: Limits,
    seats: Mutex<Seats<End>>,
    told: Mutex<[Seldom; 4]>,
}

/// What the log is told of, each seldom.
#[derive(Clone, Copy)]
enum Trouble {
    Full,
    MadeWay,
    Silent,
    Accept,
}

impl Crowd {
    pub(super) fn new(name: &'static str, limits: Limits) -> Self {
        Self { name, limits, seats: Mutex::new(Seats::new(limits)), told: Mutex::default() }
    }

    /// A seat, and what tells its connection that it has to end. `None`: there is no room.
    pub(super) fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<(Arc<Seat>, oneshot::Receiver<()>)> {
        let (end, ended) = oneshot::channel();
        let admitted = lock(&self.seats).admit(peer, now(), end);
        let Limits { total, per_address } = self.limits;
        let Some((number, out)) = admitted else {
            self.tell(Trouble::Full, |times| {
                let name = self.name;
                warn!("{name}: no room for another connection, all of {total} (of one address: {per_address}) are at work; {times} refused");
            });
            return None;
        };
        if out.is_some() {
            self.tell(Trouble::MadeWay, |times| {
                let name = self.name;
                warn!("{name}: {total} connections (of one address: {per_address}); {times} that did nothing made way for new ones");
            });
        }
        Some((Arc::new(Seat { number, crowd: Arc::clone(self), was_used: AtomicBool::new(false) }), ended))
    }

    pub(super) fn accept_failed(&self, error: &io::Error) {
        self.tell(Trouble::Accept, |times| {
            warn!("{}: no connection can be accepted: {error} ({times} times)", self.name)
        });
    }

    fn tell(&self, what: Trouble, tell: impl FnOnce(u64)) {
        let times = lock(&self.told)[what as usize].again(now());
        if let Some(times) = times {
            tell(times);
        }
    }
}

/// The place of one connection.
pub(super) struct Seat {
    number: u64,
    crowd: Arc<Crowd>,
    /// A request has come on it.
    was_used: AtomicBool,
}

impl Seat {
    /// A request is under way, as long as what comes back lives.
    pub(super) fn occupy(self: &Arc<Self>) -> Busy {
        self.was_used.store(true, Ordering::Relaxed);
        lock(&self.crowd.seats).occupy(self.number);
        Busy { seat: Arc::clone(self), stays: false }
    }

    /// It was closed because nothing was said on it. Between two requests that is nothing to tell.
    pub(super) fn was_silent(&self) {
        if self.was_used.load(Ordering::Relaxed) {
            return;
        }
        let name = self.crowd.name;
        self.crowd.tell(Trouble::Silent, |times| {
            warn!("{name}: {times} connections are closed that said nothing, or too slowly")
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(lock(&self.crowd.seats).leave(self.number));
    }
}

/// A request under way.
pub(super) struct Busy {
    seat: Arc<Seat>,
    stays: bool,
}

impl Busy {
    /// The connection is not HTTP any more: it is at work until its end.
    pub(super) const fn stays(&mut self) {
        self.stays = true;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.stays {
            lock(&self.seat.crowd.seats).idle(self.seat.number, now());
        }
    }
}

/// The body of a response: until its end the request is under way.
pub(super) struct Occupied {
    body: Body,
    _busy: Busy,
}

impl Occupied {
    pub(super) const fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl hyper::body::Body for Occupied {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::disallowed_methods, reason = "who has been silent the longest is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}
