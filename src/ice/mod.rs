//! The roaming agent - many paths, one connection: an address or interface change moves the media within the same session,
//! with the same DTLS and without a word of signalling.
//!
//! `Roaming` takes the place of webrtcbin's own ICE agent. Why the agent is built on the crate `is`: it is sans-IO, it
//! nominates anew whenever a better pair has proved good (rice-proto follows RFC 8445 to the letter: once nominated, only
//! an ICE restart moves it), and str0m keeps it alive against real browsers.

mod agent;
mod clock;
mod disguise;
pub mod fuzz;
#[allow(unsafe_code, reason = "the one file of the house that may, see its first lines")]
mod gst;
mod io;
mod mdns;
mod names;
mod paths;
mod turn;
pub(crate) mod types;
mod wire;

#[cfg(test)]
#[path = "silence/tests.rs"]
mod silence;
#[cfg(test)]
#[path = "sleep/tests.rs"]
mod sleep;
#[cfg(test)]
#[path = "storm/tests.rs"]
mod storm;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "unrest/tests.rs"]
mod unrest;
#[cfg(test)]
#[path = "world/tests.rs"]
mod world;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use url::{Host, Url};

use crate::config::{Network, Uplink};
use crate::status::path::{PathChange, PathChangeReason, PathStats};
use crate::supervisor::event::LocalAddress;

pub(crate) use disguise::disguised;
pub(crate) use turn::servers::Servers;

use gst::Face;
use io::{Ear, Engine};
use types::{Move, Plan, Told, Why};

/// The agent of one session. Dropping it ends its task and closes its sockets; webrtcbin must be at NULL, or be silent.
pub(crate) struct Roaming {
    face: Face,
    ear: Arc<Ear>,
    task: JoinHandle<()>,
    is_local: bool,
}

impl Roaming {
    /// Starts the agent for a session with this server; `addresses` are those of this machine, preferred first. Needs a
    /// tokio runtime.
    pub(crate) fn start(
        network: &Network,
        uplink: &Uplink,
        addresses: watch::Receiver<Vec<LocalAddress>>,
        tell: impl Fn(Told) + Send + 'static,
    ) -> Self {
        let here = this_machine(&uplink.url, &addresses.borrow());
        let plan = Plan {
            redundancy: network.redundancy,
            suspect_after: network.suspect_after,
            relay_only: uplink.relay_only,
            loopback: here.is_some(),
        };
        let is_local = plan.loopback;
        let addresses = here.map_or(addresses, |here| watch::channel(here).1);
        let (engine, ear) = Engine::new(plan, addresses, uplink.clone());
        let face = Face::new(Arc::clone(&ear) as Arc<dyn gst::Mind>);
        let task = tokio::spawn(engine.run(face.clone(), tell));
        Self { face, ear, task, is_local }
    }

    /// The server is on this very machine: its loopback addresses are as good as any.
    pub(crate) const fn is_local(&self) -> bool {
        self.is_local
    }

    /// Builds webrtcbin, which must get the object as its property `ice-agent`.
    pub(crate) fn join<R>(&self, build: impl FnOnce(&gst_webrtc::WebRTCICE) -> R) -> R {
        self.face.join(build)
    }

    /// From now on webrtcbin hears nothing more: to be called before it goes to NULL.
    pub(crate) fn silence(&self) {
        self.face.silence();
    }

    /// The STUN and TURN servers of this session: to be said before webrtcbin gathers, and again when there are others.
    pub(crate) fn servers(&self, servers: Servers) {
        self.ear.servers(servers);
    }

    /// Why no relay is to be had, if that is so: one sentence.
    pub(crate) fn relay_trouble(&self) -> Option<String> {
        self.ear.shown(|shown| shown.relay_trouble.clone())
    }

    /// Where media leaves from, once there is a way.
    pub(crate) fn local_address(&self) -> Option<String> {
        self.ear.shown(|shown| shown.selected.as_ref().map(|(local, _)| local.address.ip().to_string()))
    }

    /// All paths in figures.
    pub(crate) fn paths(&self) -> Vec<PathStats> {
        self.ear.shown(|shown| shown.paths.clone())
    }
}

/// A move as the brain hears it; the first path of a session is none.
pub(crate) fn path_change(of: &Move) -> Option<PathChange> {
    let from = of.from.as_ref()?;
    let why = match of.why {
        Why::First => return None,
        Why::AddressLost => PathChangeReason::AddressLost,
        Why::Silent => PathChangeReason::Silent,
        Why::Preferred => PathChangeReason::Preferred,
    };
    Some(PathChange {
        from: from.interface.clone(),
        from_address: from.ip.to_string(),
        to: of.to.interface.clone(),
        to_address: of.to.ip.to_string(),
        why,
        gap_ms: u64::try_from(of.gap.as_millis()).unwrap_or(u64::MAX),
    })
}

/// A server on this very machine is reached from the address it has itself; nothing roams then. One that is named by a
/// loopback address may receive media at the others of this machine all the same (libnice leaves loopback out).
fn this_machine(server: &Url, own: &[LocalAddress]) -> Option<Vec<LocalAddress>> {
    let lo = |ip: IpAddr| LocalAddress { interface: "lo".into(), ip };
    let others = own.iter().map(|local| local.ip);
    match server.host()? {
        Host::Domain("localhost") => {
            Some([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into_iter().chain(others).map(lo).collect())
        }
        Host::Ipv4(ip) if ip.is_loopback() => Some(std::iter::once(ip.into()).chain(others).map(lo).collect()),
        Host::Domain(_) => None,
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)).filter(|ip| is_own(*ip, own)).map(|ip| vec![lo(ip)]),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)).filter(|ip| is_own(*ip, own)).map(|ip| vec![lo(ip)]),
    }
}

fn is_own(ip: IpAddr, own: &[LocalAddress]) -> bool {
    ip.is_loopback() || own.iter().any(|local| local.ip == ip)
}

impl Drop for Roaming {
    fn drop(&mut self) {
        self.face.silence();
        self.task.abort();
    }
}
