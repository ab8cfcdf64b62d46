//! Opens the rooms in order, joins them by channels, closes them in reverse.

pub mod board;
mod signals;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::warn;

use crate::config::{Config, DtlsCertificate};
use crate::driver::Driver;
use crate::inbox::Inbox;
use crate::media::handover::{Hatch, SharedClock, TrackKind};
use crate::signal::Memory;
use crate::signal::state::StateFile;
use crate::signal::token::Tokens;
use crate::status::StopReason;
use crate::supervisor::event::{Command, Event};
use crate::systemd;
use crate::uplink::Line;
use crate::uplink::certificate::Certificate;

use board::Board;

/// Runs a broadcast from its first frame to its last. Needs a tokio runtime; GStreamer must be initialised.
/// With `run_for` it stops by itself after that time.
pub async fn run(config: Config, board: Board, run_for: Option<Duration>) -> StopReason {
    let inbox = Inbox::default();
    signals::listen(&inbox);
    if let Some(limit) = run_for {
        signals::stop_after(limit, &inbox);
    }
    // Held to the end: dropping it ends the watch.
    let _lookout = crate::network::watch(inbox.clone()).await;
    let config = Arc::new(config);
    let line = Arc::new(line(&config, &inbox));
    inbox.post(Event::Command(Command::Start));
    systemd::ready();
    let state = line.state.clone();
    let reason = Driver::new(inbox, line, config, board).run().await;
    if let Some(state) = state.filter(|_| reason.exit_code() == 0) {
        // Also what was never taken up again: this broadcast is over.
        state.erase();
    }
    reason
}

fn line(config: &Config, inbox: &Inbox) -> Line {
    let kinds: &[TrackKind] =
        if config.audio.is_some() { &[TrackKind::Video, TrackKind::Audio] } else { &[TrackKind::Video] };
    let audio = config.audio.as_ref().map_or(0, |audio| u64::from(audio.bitrate.bps()));
    let state = StateFile::from_environment().map(Arc::new);
    let ghost = match state.as_ref().and_then(|state| state.load(&config.uplink)) {
        Some(memory @ (Memory::Whip { .. } | Memory::Janus { .. })) => memory.ghost(),
        // To be taken up again (`Signaller::recall`), not buried.
        Some(Memory::Roamcast { .. }) | None => None,
    };
    let teller = inbox.clone();
    let tokens = Tokens::new(&config.uplink, move |event| teller.post(Event::Token(event)));
    Line {
        uplink: config.uplink.clone(),
        video: config.video.clone(),
        target: u64::from(config.video.bitrate.bps()) + audio,
        hatch: Hatch::new(kinds),
        clock: SharedClock::start(),
        certificate: certificate(config.uplink.dtls_certificate),
        inbox: inbox.clone(),
        tokens: Arc::new(tokens),
        ghost: Mutex::new(ghost),
        state,
    }
}

fn certificate(kind: DtlsCertificate) -> Option<Certificate> {
    match kind {
        DtlsCertificate::Rsa => None,
        DtlsCertificate::Ecdsa => Certificate::generate()
            .inspect_err(|error| warn!("no ECDSA certificate could be made ({error}): an RSA one is used"))
            .ok(),
    }
}
