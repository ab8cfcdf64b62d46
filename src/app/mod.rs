//! Opens the rooms in order, joins them by channels, closes them in reverse.

pub mod driver;
pub mod publish;
mod signals;
pub mod stdout;
pub mod writer;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use crate::app::driver::Driver;
use crate::config::{Config, DtlsCertificate};
use crate::control::desk::{Desk, Origin};
use crate::control::{self, Windows};
use crate::inbox::Inbox;
use crate::media::tracks::{Hatch, SharedClock, TrackKind};
use crate::network::Watch;
use crate::probe::Prober;
use crate::signal::state::StateFile;
use crate::signal::token::Tokens;
use crate::status::StopReason;
use crate::supervisor::event::{Command, Event, LocalAddress};
use crate::systemd;
use crate::uplink::Line;
use crate::uplink::certificate::Certificate;

use publish::Board;

/// Runs a broadcast from its first frame to its last. Needs a tokio runtime; GStreamer must be initialised.
/// `origin`: what `config` was made of. With `run_for` it stops by itself after that time.
///
/// # Errors
/// One sentence: a socket or address of `[control]` cannot be had, and nothing was broadcast.
pub async fn run(
    config: Config,
    origin: Origin,
    board: Board,
    run_for: Option<Duration>,
) -> Result<StopReason, String> {
    let inbox = Inbox::default();
    let (feed, view) = control::feed::feed();
    let desk = Arc::new(Desk::new(&config, origin, inbox.clone(), view));
    let windows = Windows::open(&config.control, &desk).await?;
    signals::listen(&inbox, &desk);
    if let Some(limit) = run_for {
        signals::stop_after(limit, &inbox);
    }
    // Held to the end: dropping it ends the watch.
    let lookout = crate::network::watch(inbox.clone(), &config.network).await;
    let config = Arc::new(config);
    let prober = Prober::new(&config.uplink, lookout.as_ref().map(Watch::gateways), inbox.clone());
    let line = Arc::new(line(&config, &inbox, lookout.as_ref().map(Watch::addresses)));
    inbox.post(Event::Command(Command::Start));
    systemd::ready();
    let state = line.state.clone();
    let reason = Driver::new(inbox, line, config, board.with_feed(feed)).with_prober(prober).run().await;
    if let Some(state) = state.filter(|_| reason.exit_code() == 0) {
        // Also what was never taken up again: this broadcast is over.
        state.erase();
    }
    windows.close().await;
    Ok(reason)
}

fn line(config: &Config, inbox: &Inbox, addresses: Option<watch::Receiver<Vec<LocalAddress>>>) -> Line {
    let kinds: &[TrackKind] =
        if config.audio.is_some() { &[TrackKind::Video, TrackKind::Audio] } else { &[TrackKind::Video] };
    let audio = config.audio.as_ref().map_or(0, |audio| u64::from(audio.bitrate.bps()));
    let state = StateFile::from_environment().map(Arc::new);
    let remembered = state.as_ref().and_then(|state| state.load(&config.uplink));
    let teller = inbox.clone();
    let tokens = Tokens::new(&config.uplink, move |event| teller.post(Event::Token(event)));
    Line {
        uplink: config.uplink.clone(),
        video: config.video.clone(),
        promise: crate::media::promise(config),
        stereo: config.audio.as_ref().is_some_and(|audio| audio.channels == 2),
        target: u64::from(config.video.bitrate.bps()) + audio,
        hatch: Hatch::new(kinds),
        clock: SharedClock::start(),
        network: config.network.clone(),
        addresses,
        certificate: certificate(config.uplink.dtls_certificate),
        inbox: inbox.clone(),
        tokens: Arc::new(tokens),
        ghost: Mutex::new(None),
        remembered: Mutex::new(remembered),
        sound_refused: AtomicBool::new(false),
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
