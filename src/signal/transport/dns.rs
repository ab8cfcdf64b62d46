//! Host names -> addresses -> a TCP connection. Asked anew for each try; while DNS is down the last good answer stands in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;
use url::{Host, Url};

use crate::config::clear_text::ClearText;

use super::unencrypted::permitted;

/// Below the 5 s that connecting may take, so that it is said what hangs.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// With an address to fall back on no try is spent on waiting; healthy resolvers need milliseconds, over satellite one second.
const LOOKUP_TIMEOUT_KNOWN: Duration = Duration::from_secs(2);
/// A broadcast needs three or four names; a server that sends us to new ones without end must not fill the memory.
const NAMES_MAX: usize = 64;
/// Connection Attempt Delay (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The name has no address, or the resolver did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
pub(crate) struct NoSuchName;

type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Lookup = Box<dyn Fn(String) -> Answer + Send + Sync>;

/// A resolver with a memory.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    lookup: Lookup,
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    addresses: Vec<IpAddr>,
    /// They are in use although DNS has not confirmed them, which was said.
    stands_in: bool,
}

impl Resolver {
    /// That of this system. One for the whole process: what one session has learned serves the next.
    pub(crate) fn system() -> Self {
        static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| {
            Resolver::new(|name| {
                Box::pin(async move {
                    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                })
            })
        });
        SYSTEM.clone()
    }

    pub(in crate::signal) fn new(lookup: impl Fn(String) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { lookup: Box::new(lookup), known: Mutex::default() }))
    }

    /// The addresses of a host, in the order of the system's preference (RFC 6724).
    ///
    /// # Errors
    /// There is none, now or remembered.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NoSuchName> {
        let limit = match self.known(name) {
            Some(_) => LOOKUP_TIMEOUT_KNOWN,
            None => LOOKUP_TIMEOUT,
        };
        let asking = {
            let (resolver, name) = (self.clone(), name.to_owned());
            // A task of its own: an answer that is late for this try serves the next. So does one that nobody waits for.
            tokio::spawn(async move { resolver.ask(name).await })
        };
        match timeout(limit, asking).await {
            Ok(Ok(Some(addresses))) => Ok(addresses),
            Ok(Ok(None) | Err(_)) | Err(_) => self.stand_in(name).ok_or(NoSuchName),
        }
    }

    /// The addresses that it had when it was last asked for, at once; it is asked for only when there are none.
    pub(crate) async fn remembered(&self, name: &str) -> Vec<IpAddr> {
        match self.known(name) {
            Some(known) => known,
            None => self.resolve(name).await.unwrap_or_default(),
        }
    }

    async fn ask(&self, name: String) -> Option<Vec<IpAddr>> {
        let addresses = (self.0.lookup)(name.clone()).await.ok().filter(|addresses| !addresses.is_empty())?;
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NAMES_MAX && !known.contains_key(&name) {
            known.clear();
        }
        known.insert(name, Known { addresses: addresses.clone(), stands_in: false });
        Some(addresses)
    }

    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|known| known.addresses.clone())
    }

    fn stand_in(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut entry) = known.entry(name.to_owned()) else { return None };
        let known = entry.get_mut();
        if !std::mem::replace(&mut known.stands_in, true) {
            warn!("`{name}` does not resolve just now: the addresses that it had before are used");
        }
        Some(known.addresses.clone())
    }

    /// A TCP connection to the host of `url`: the first that comes up of all its addresses that this rule lets through (Happy
    /// Eyeballs, RFC 8305).
    ///
    /// # Errors
    /// [`NoSuchName`] or [`InTheClear`](super::unencrypted::InTheClear) as an `io::Error`, or that of the address that failed
    /// last.
    pub(in crate::signal) async fn dial(&self, url: &Url, rule: ClearText, limit: Duration) -> io::Result<TcpStream> {
        let connecting = async {
            let addresses = match url.host() {
                Some(Host::Domain(name)) => self.resolve(name).await.map_err(io::Error::other)?,
                Some(Host::Ipv4(ip)) => vec![ip.into()],
                Some(Host::Ipv6(ip)) => vec![ip.into()],
                None => Vec::new(),
            };
            let addresses = permitted(rule, addresses).map_err(io::Error::other)?;
            let port = url.port_or_known_default().unwrap_or(80);
            race(interleaved(addresses).into_iter().map(|ip| SocketAddr::from((ip, port)))).await
        };
        timeout(limit, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Tries the next address when the one before has failed, or is silent for a while.
async fn race(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.map(TcpStream::connect);
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::other(NoSuchName);
    loop {
        running.extend(waiting.next());
        match timeout(ATTEMPT_DELAY, running.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => last = error,
            Ok(None) => return Err(last),
            Err(_silent) => {}
        }
    }
}

/// The families in turn, beginning with the preferred one (RFC 8305, section 4).
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(|ip| ip.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let pairs = std::iter::from_fn(|| {
        let pair = [first.next(), second.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    pairs.flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::signal::transport::guarded::Guarded;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    /// Gives these answers in turn, the last one for ever.
    fn double(answers: Vec<fn() -> Answer>) -> Resolver {
        let asked = AtomicUsize::new(0);
        Resolver::new(move |_| answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)]())
    }

    fn good() -> Answer {
        Box::pin(async { Ok(vec![V6, V4]) })
    }

    fn changed() -> Answer {
        Box::pin(async { Ok(vec![V4]) })
    }

    fn nxdomain() -> Answer {
        Box::pin(async { Err(io::Error::other("failed to lookup address information")) })
    }

    fn empty() -> Answer {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn silent() -> Answer {
        Box::pin(std::future::pending())
    }

    fn late() -> Answer {
        Box::pin(async {
            tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(6)).await;
            Ok(vec![V4])
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_try_asks_anew_and_the_last_good_answer_stands_in() {
        let resolver = double(vec![good, nxdomain, empty, silent, changed, silent]);
        for expected in [vec![V6, V4], vec![V6, V4], vec![V6, V4], vec![V6, V4], vec![V4], vec![V4]] {
            let asked = tokio::time::Instant::now();
            assert_eq!(resolver.resolve("h").await.unwrap(), expected);
            assert!(asked.elapsed() <= LOOKUP_TIMEOUT_KNOWN + Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_memory_a_failure_is_a_failure_within_five_seconds() {
        for answer in [nxdomain, empty, silent] {
            let (resolver, asked) = (double(vec![answer]), tokio::time::Instant::now());
            resolver.resolve("h").await.unwrap_err();
            assert!(asked.elapsed() < Duration::from_secs(5));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_late_for_one_try_serves_the_next() {
        let resolver = double(vec![late, silent]);
        resolver.resolve("h").await.unwrap_err();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(resolver.resolve("h").await.unwrap(), [V4]);
    }

    #[tokio::test]
    async fn names_without_end_do_not_fill_the_memory() {
        let resolver = double(vec![good]);
        for number in 0..1000 {
            resolver.resolve(&format!("h{number}")).await.unwrap();
        }
        assert!(resolver.0.known.lock().unwrap().len() <= NAMES_MAX);
    }

    #[test]
    fn families_take_turns_and_the_preferred_one_begins() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let given = ["::1", "::2", "::3", "1.1.1.1"].map(ip);
        assert_eq!(interleaved(given.to_vec()), ["::1", "1.1.1.1", "::2", "::3"].map(ip));
        assert_eq!(interleaved(vec![V4, V6]), [V4, V6]);
        assert!(interleaved(Vec::new()).is_empty());
    }

    /// A port where IPv6 is a black hole (its queue is full, so SYNs are dropped) and IPv4 answers.
    async fn half_dead_port() -> Option<(TcpListener, impl Sized)> {
        let alive = TcpListener::bind((V4, 0)).await.unwrap();
        let port = alive.local_addr().unwrap().port();
        let socket = TcpSocket::new_v6().ok()?;
        socket.bind((V6, port).into()).ok()?;
        let dead = socket.listen(1).ok()?;
        let mut filling = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(500), TcpStream::connect((V6, port))).await {
            filling.push(connected.ok()?);
        }
        Some((alive, (dead, filling)))
    }

    #[tokio::test]
    async fn a_dead_ipv6_does_not_hold_up_a_living_ipv4() {
        let Some((alive, _dead)) = half_dead_port().await else {
            println!("SKIPPED: this machine has no IPv6 loopback");
            return;
        };
        let port = alive.local_addr().unwrap().port();
        let url: Url = format!("http://studio.example:{port}/").parse().unwrap();
        let dialled = double(vec![good]).dial(&url, ClearText::Anywhere, Duration::from_secs(5)).await.unwrap();
        assert_eq!(dialled.peer_addr().unwrap().ip(), V4);
        drop(dialled);

        // The same through the HTTP client.
        let uplink = crate::config::load("", "", std::iter::empty()).unwrap().uplink;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls_without_roots())
            .dns_resolver(Guarded::new(double(vec![good]), &url, &uplink))
            .connect_timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut socket, _) = alive.accept().await.unwrap();
                // The connection from above says nothing.
                if socket.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                    socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
            }
        });
        let request = reqwest::Request::new(reqwest::Method::GET, url);
        assert_eq!(client.execute(request).await.unwrap().status().as_u16(), 204);
        serving.abort();
    }

    fn rustls_without_roots() -> rustls::ClientConfig {
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    }

    #[tokio::test]
    async fn where_nothing_answers_the_reason_is_told() {
        let port = TcpListener::bind((V4, 0)).await.unwrap().local_addr().unwrap().port();
        let url: Url = format!("http://studio.example:{port}/").parse().unwrap();
        let refused = double(vec![changed]).dial(&url, ClearText::Anywhere, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let unknown = double(vec![nxdomain]).dial(&url, ClearText::Anywhere, Duration::from_secs(5)).await.unwrap_err();
        assert!(unknown.get_ref().is_some_and(|error| error.is::<NoSuchName>()));
    }
}
