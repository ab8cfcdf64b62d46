//! The roaming agent - many paths, one connection: an address or interface change moves the media within the same session,
//! with the same DTLS and without a word of signalling.
//!
//! [`Roaming`] takes the place of webrtcbin's own ICE agent. Why the agent is built on the crate `is`: it is sans-IO, it
//! nominates anew whenever a better pair has proved good (rice-proto follows RFC 8445 to the letter: once nominated, only
//! an ICE restart moves it), and str0m keeps it alive against real browsers.

mod agent;
mod engine;
#[allow(unsafe_code, reason = "the one file of the house that may, see its first lines")]
mod glue;
mod sockets;
pub(crate) mod words;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::supervisor::event::LocalAddress;

pub(crate) use words::{Plan, Redundancy};

use engine::{Ear, Engine};
use glue::Face;
use words::{Move, PathFigures};

/// The agent of one session. Dropping it ends its task and closes its sockets; webrtcbin must be at NULL, or be silent.
pub(crate) struct Roaming {
    face: Face,
    ear: Arc<Ear>,
    task: JoinHandle<()>,
}

impl Roaming {
    /// Starts the agent; `network` are the usable addresses of this machine, preferred first. Needs a tokio runtime.
    pub(crate) fn start(
        plan: Plan,
        network: watch::Receiver<Vec<LocalAddress>>,
        moved: impl Fn(Move) + Send + 'static,
    ) -> Self {
        let (engine, ear) = Engine::new(plan, network);
        let face = Face::new(Arc::clone(&ear) as Arc<dyn glue::Mind>);
        let task = tokio::spawn(engine.run(face.clone(), moved));
        Self { face, ear, task }
    }

    /// Builds webrtcbin, which must get the object as its property `ice-agent`.
    pub(crate) fn join<R>(&self, build: impl FnOnce(&gst_webrtc::WebRTCICE) -> R) -> R {
        self.face.join(build)
    }

    /// From now on webrtcbin hears nothing more: to be called before it goes to NULL.
    pub(crate) fn silence(&self) {
        self.face.silence();
    }

    /// All paths in figures.
    pub(crate) fn paths(&self) -> Vec<PathFigures> {
        self.ear.shown(|shown| shown.paths.clone())
    }
}

impl Drop for Roaming {
    fn drop(&mut self) {
        self.face.silence();
        self.task.abort();
    }
}
