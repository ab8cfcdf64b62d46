//! The leases of the agent: for each socket of ours one task that keeps an address lent by a TURN server, moves on to the
//! next server of the list when one dies or refuses, and gives the address back at the end.
//!
//! When. With `iceTransport = "relay"` and with a TURN server in the config (the operator has asked for it, and pays for
//! it): with every socket, so that a relay is a warm standby like any other path. With TURN servers that only signalling
//! has named: once nothing else has worked for [`HELP_AFTER`], as an idle lease costs them a port and us a packet now and
//! then. A direct path is preferred in any case.
//!
//! Time-limited credentials. A server checks them when it lends (coturn: never again for that lease), and what was lent
//! before a renewed list came stays; whatever is borrowed afterwards goes by the new list.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::config::Uplink;
use crate::signal::failure::tls;
use crate::supervisor::event::LocalAddress;

use super::allocation::{End, Event, Lease};
use super::connection::{self, Link, NoWay};
use super::servers::{Server, Servers, Transport};
use crate::ice::clock::now;
use crate::ice::types::SocketId;
use crate::ice::wire::{Outbox, Packet};

/// Without a way for media for so long the relays of signalling are asked for, too.
pub(in crate::ice) const HELP_AFTER: Duration = Duration::from_secs(1);
/// TCP and TLS have to be up by then.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A server that has failed is left alone for so long, then twice that and so on, up to the longest.
const REST_FIRST: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(30);
/// One that does not take our password.
const REST_REFUSED: Duration = Duration::from_secs(60);
/// Giving an address back may take so long.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Packets of ours that wait for the task of a relay.
const OUTGOING_MAX: usize = 512;
/// Ids of relays begin here; those of sockets never get there.
const FIRST_ID: u32 = 1 << 31;

/// What the tasks tell.
pub(in crate::ice) enum News {
    /// A server lends us this address.
    Lent { relay: SocketId, base: SocketId, address: SocketAddr, outbox: Outbox },
    /// It does not any more.
    Lost(SocketId),
    /// No server takes our password: one sentence.
    Hopeless(String),
}

/// Why a lease came to nothing.
enum Trouble {
    NoWay(NoWay),
    Ended(End),
    /// The connection broke.
    Broken(io::Error),
}

/// What all tasks share.
struct Shared {
    servers: watch::Sender<Arc<[Server]>>,
    uplink: Uplink,
    tls: OnceCell<Option<Arc<rustls::ClientConfig>>>,
    next: AtomicU32,
    book: Mutex<Book>,
    news: mpsc::UnboundedSender<News>,
    incoming: mpsc::Sender<Packet>,
}

/// Which server failed where.
#[derive(Default)]
struct Book {
    rests: Vec<Rest>,
    said: BTreeSet<String>,
    unauthorized: Vec<Server>,
}

/// A server that is left alone, by this address of ours.
struct Rest {
    address: LocalAddress,
    server: Server,
    until: Instant,
    failures: u32,
}

impl Rest {
    fn is_of(&self, address: &LocalAddress, server: &Server) -> bool {
        self.address == *address && self.server == *server
    }
}

/// The relays of a session. Dropping them gives everything back.
pub(in crate::ice) struct Relays {
    shared: Arc<Shared>,
    /// By the socket that they belong to.
    held: BTreeMap<SocketId, oneshot::Sender<()>>,
    waiting: BTreeMap<SocketId, LocalAddress>,
    /// Sockets get their relays at once.
    active: bool,
}

impl Relays {
    pub(in crate::ice) fn new(
        servers: Servers,
        uplink: Uplink,
        news: mpsc::UnboundedSender<News>,
        incoming: mpsc::Sender<Packet>,
    ) -> Self {
        let active = uplink.relay_only || servers.is_turn_configured();
        let shared = Shared {
            servers: watch::Sender::new(servers.turn.into()),
            uplink,
            tls: OnceCell::new(),
            next: AtomicU32::new(FIRST_ID),
            book: Mutex::default(),
            news,
            incoming,
        };
        Self { shared: Arc::new(shared), held: BTreeMap::new(), waiting: BTreeMap::new(), active }
    }

    /// A socket was opened: it is to have a relay.
    pub(in crate::ice) fn opened(&mut self, base: SocketId, address: LocalAddress) {
        if !self.active || self.shared.servers.borrow().is_empty() {
            self.waiting.insert(base, address);
            return;
        }
        let (hold, held) = oneshot::channel();
        self.held.insert(base, hold);
        tokio::spawn(keep(Arc::clone(&self.shared), base, address, held, self.shared.servers.subscribe()));
    }

    /// Other servers, or other credentials, from now on; who has been refused tries again at once. None at all changes
    /// nothing.
    pub(in crate::ice) fn renew(&mut self, servers: Vec<Server>) {
        if servers.is_empty() || **self.shared.servers.borrow() == *servers {
            return;
        }
        let mut book = self.shared.book();
        book.unauthorized.retain(|one| servers.contains(one));
        book.rests.retain(|rest| servers.contains(&rest.server));
        drop(book);
        self.shared.servers.send_replace(servers.into());
        for (base, address) in std::mem::take(&mut self.waiting) {
            self.opened(base, address);
        }
    }

    /// It was closed: what was lent for it goes back.
    pub(in crate::ice) fn closed(&mut self, base: SocketId) {
        self.held.remove(&base);
        self.waiting.remove(&base);
    }

    /// Nothing else works.
    pub(in crate::ice) fn help(&mut self) {
        if !std::mem::replace(&mut self.active, true) {
            for (base, address) in std::mem::take(&mut self.waiting) {
                self.opened(base, address);
            }
        }
    }
}

/// Keeps an address lent for this socket, until `held` ends.
async fn keep(
    shared: Arc<Shared>,
    base: SocketId,
    address: LocalAddress,
    mut held: oneshot::Receiver<()>,
    mut renewed: watch::Receiver<Arc<[Server]>>,
) {
    loop {
        renewed.mark_unchanged();
        if let Some((server, at)) = shared.choose(&address) {
            tokio::select! {
                biased;
                _ = &mut held => return,
                Ok(()) = renewed.changed() => continue,
                () = at_last(at) => {}
            }
            let Some(trouble) = lease(&shared, base, &address, &server, &mut held).await else { return };
            if shared.note(&address, &server, &trouble) == Verdict::Again {
                continue;
            }
        }
        tokio::select! {
            _ = &mut held => return,
            Ok(()) = renewed.changed() => {}
        }
    }
}

/// One lease from beginning to end. `None`: it was given back.
async fn lease(
    shared: &Arc<Shared>,
    base: SocketId,
    address: &LocalAddress,
    server: &Server,
    held: &mut oneshot::Receiver<()>,
) -> Option<Trouble> {
    let connecting = async {
        let at = connection::resolve(server, address.ip).await?;
        let tls = shared.tls(server).await;
        let opening = timeout(CONNECT_MAX, Link::open(address, server, at, tls));
        let (link, local) = opening.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok::<_, NoWay>((Lease::new(now(), local, at, server, link.is_stream()), link))
    };
    let (lease, link) = tokio::select! {
        opened = connecting => match opened {
            Ok(opened) => opened,
            Err(no_way) => return Some(Trouble::NoWay(no_way)),
        },
        _ = &mut *held => return None,
    };
    let (outbox, outgoing) = mpsc::channel(OUTGOING_MAX);
    let mut tenant = Tenant { shared, base, lease, link, outbox, outgoing, lent: BTreeMap::new() };
    let trouble = tenant.live(held).await;
    for relay in tenant.lent.values() {
        let _session_over = shared.news.send(News::Lost(*relay));
    }
    if trouble.is_none() {
        tenant.leave().await;
    } else if !tenant.lent.is_empty() {
        shared.proved(address, server);
        info!("the TURN server `{}` has taken back, or lost, what it lent us", server.name());
    }
    trouble
}

/// A lease with its connection.
struct Tenant<'a> {
    shared: &'a Shared,
    base: SocketId,
    lease: Lease,
    link: Link,
    outbox: Outbox,
    outgoing: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    /// What is lent; IPv4 and IPv6 at most.
    lent: BTreeMap<SocketAddr, SocketId>,
}

impl Tenant<'_> {
    async fn live(&mut self, held: &mut oneshot::Receiver<()>) -> Option<Trouble> {
        loop {
            if let Err(error) = self.pass_on() {
                return Some(Trouble::Broken(error));
            }
            if let Some(end) = self.lease.ended() {
                return Some(Trouble::Ended(end));
            }
            let deadline = self.lease.deadline(now());
            tokio::select! {
                _ = &mut *held => return None,
                piece = self.link.receive() => match piece {
                    Ok(piece) => self.lease.receive(now(), &piece),
                    Err(error) => return Some(Trouble::Broken(error)),
                },
                Some((to, packet)) = self.outgoing.recv() => self.lease.send(now(), to, &packet),
                () = at_last(Some(deadline)) => self.lease.timeout(now()),
            }
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        while let Some(packet) = self.lease.next_packet() {
            self.link.send(packet)?;
        }
        while let Some(event) = self.lease.next_event() {
            match event {
                Event::Lent(address) => self.lent(address),
                Event::Packet { to, from, bytes } => {
                    if let Some(relay) = self.lent.get(&to) {
                        let _flood = self.shared.incoming.try_send(Packet { socket: *relay, from, bytes });
                    }
                }
            }
        }
        Ok(())
    }

    fn lent(&mut self, address: SocketAddr) {
        let relay = SocketId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        debug!("a TURN server lends us {address}");
        self.lent.insert(address, relay);
        let news = News::Lent { relay, base: self.base, address, outbox: self.outbox.clone() };
        let _session_over = self.shared.news.send(news);
    }

    async fn leave(mut self) {
        self.lease.give_back(now());
        let _gone_anyway = self.pass_on();
        let _at_most = timeout(GOODBYE_MAX, self.link.finish()).await;
    }
}

/// What a failure means for the task.
#[derive(PartialEq, Eq)]
enum Verdict {
    Again,
    /// Not by these servers.
    Never,
}

impl Shared {
    /// TLS as the signalling has it, `uplink.caFile` included.
    async fn tls(&self, server: &Server) -> Option<Arc<rustls::ClientConfig>> {
        if server.transport != Transport::Tls {
            return None;
        }
        let build = || async {
            let uplink = self.uplink.clone();
            // Reading the roots of the system takes milliseconds.
            let built = tokio::task::spawn_blocking(move || crate::signal::tls(&uplink, true)).await;
            built.ok()?.map(Arc::new).inspect_err(|failure| warn!("no TLS to TURN servers: {failure}")).ok()
        };
        self.tls.get_or_init(build).await.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first server of the list that is not at rest, or the one that is at rest for the shortest time, and until when.
    fn choose(&self, address: &LocalAddress) -> Option<(Server, Option<Instant>)> {
        let (book, now, servers) = (self.book(), now(), Arc::clone(&self.servers.borrow()));
        let rest = |server: &Server| book.rests.iter().find(|rest| rest.is_of(address, server));
        let until = |server: &Server| rest(server).map(|rest| rest.until).filter(|at| *at > now);
        servers
            .iter()
            .map(|server| (server, until(server)))
            .min_by_key(|(_, until)| *until)
            .map(|(s, at)| (s.clone(), at))
    }

    /// It has lent us something: its failures before are forgiven.
    fn proved(&self, address: &LocalAddress, server: &Server) {
        self.book().rests.retain(|rest| !rest.is_of(address, server));
    }

    /// Says what is wrong, once for each cause, and lets the server rest.
    fn note(&self, address: &LocalAddress, server: &Server, trouble: &Trouble) -> Verdict {
        let mut book = self.book();
        let words = sentence(server, trouble);
        let at = book.rests.iter().position(|rest| rest.is_of(address, server));
        let failures = at.map_or(0, |at| book.rests.swap_remove(at).failures);
        let is_final = matches!(
            trouble,
            Trouble::Ended(End::Unauthorized) | Trouble::NoWay(NoWay::Forbidden | NoWay::OtherFamily)
        );
        let rest = if is_final { REST_REFUSED } else { (REST_FIRST * 2_u32.saturating_pow(failures)).min(REST_MAX) };
        let (until, failures) = (now() + rest, failures.saturating_add(1));
        book.rests.push(Rest { address: address.clone(), server: server.clone(), until, failures });
        if matches!(trouble, Trouble::NoWay(NoWay::OtherFamily)) {
            debug!("{words}");
        } else if book.said.insert(words.clone()) {
            warn!("{words}");
        }
        if matches!(trouble, Trouble::Ended(End::Unauthorized)) {
            if !book.unauthorized.contains(server) {
                book.unauthorized.push(server.clone());
            }
            if self.servers.borrow().iter().all(|server| book.unauthorized.contains(server)) {
                let _session_over = self.news.send(News::Hopeless(words));
                return Verdict::Never;
            }
        }
        Verdict::Again
    }
}

fn sentence(server: &Server, trouble: &Trouble) -> String {
    let name = server.name();
    if let Trouble::NoWay(NoWay::Io(error)) | Trouble::Broken(error) = trouble
        && let Some(why) = crate::signal::tls_trouble(error)
    {
        return format!("the TURN server `{name}` is of no use: {}", tls(&name, &why));
    }
    match trouble {
        Trouble::NoWay(why) => format!("the TURN server `{name}` is of no use: {why}"),
        Trouble::Broken(error) => format!("the TURN server `{name}` is of no use: {error}"),
        Trouble::Ended(End::Unauthorized) if server.ends().is_some_and(is_past) => {
            format!("the TURN server `{name}` refuses our credentials (401): their time is over")
        }
        Trouble::Ended(End::Unauthorized) => {
            format!("the TURN server `{name}` refuses our user name or password (401)")
        }
        Trouble::Ended(End::Refused(code)) => format!("the TURN server `{name}` lends us nothing: STUN error {code}"),
        Trouble::Ended(End::Silent) => format!("the TURN server `{name}` does not answer"),
        Trouble::Ended(End::Expired) => format!("the TURN server `{name}` has ended what it lent us"),
    }
}

fn is_past(seconds: u64) -> bool {
    #[allow(clippy::disallowed_methods, reason = "for the words of a complaint only")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|now| now.as_secs() > seconds)
}

async fn at_last(at: Option<Instant>) {
    if let Some(at) = at {
        #[allow(clippy::disallowed_methods, reason = "the deadline of a lease, or the rest of a server")]
        sleep_until(at.into()).await;
    }
}
