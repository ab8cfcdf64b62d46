//! What the operating system asks for: SIGINT and SIGTERM stop with a goodbye (a second one at once), SIGUSR1 retries now,
//! SIGHUP reads the config again.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::control::desk::Desk;
use crate::inbox::Inbox;
use crate::status::StopReason;
use crate::supervisor::event::{Command, Event};

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const TOLD_TWICE: i32 = 130;

/// Turns signals into commands for as long as the runtime lives.
pub(super) fn listen(inbox: &Inbox, desk: &Arc<Desk>) {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match (interrupt, terminate, signal(SignalKind::user_defined1()), signal(SignalKind::hangup())) {
        (Ok(interrupt), Ok(terminate), Ok(user), Ok(hangup)) => {
            tokio::spawn(stop_on(interrupt, terminate, inbox.clone()));
            tokio::spawn(reconnect_on(user, Arc::clone(desk)));
            tokio::spawn(reload_on(hangup, Arc::clone(desk)));
        }
        (Err(error), _, _, _) | (_, Err(error), _, _) | (_, _, Err(error), _) | (_, _, _, Err(error)) => {
            warn!("cannot listen to signals: {error}");
        }
    }
}

async fn stop_on(mut interrupt: Signal, mut terminate: Signal, inbox: Inbox) {
    let mut told = false;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if told {
            std::process::exit(TOLD_TWICE);
        }
        told = true;
        inbox.post(Event::Command(Command::Shutdown(StopReason::Requested)));
    }
}

async fn reconnect_on(mut user: Signal, desk: Arc<Desk>) {
    while user.recv().await.is_some() {
        if let Err(refusal) = desk.reconnect() {
            warn!("{}", refusal.words);
        }
    }
}

async fn reload_on(mut hangup: Signal, desk: Arc<Desk>) {
    while hangup.recv().await.is_some() {
        let desk = Arc::clone(&desk);
        match tokio::task::spawn_blocking(move || desk.reload()).await {
            Ok(Ok(changed)) if changed.is_empty() => info!("the config was read again: nothing has changed"),
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => error!("the config was not taken: {}", refusal.details.unwrap_or(refusal.words)),
            Err(panic) => error!("the config was not taken: {panic}"),
        }
    }
}

/// `--for`: the stop that nobody has to press.
pub(super) fn stop_after(limit: Duration, inbox: &Inbox) {
    let inbox = inbox.clone();
    tokio::spawn(async move {
        #[allow(clippy::disallowed_methods, reason = "the user asked for a run of this length")]
        tokio::time::sleep(limit).await;
        inbox.post(Event::Command(Command::Shutdown(StopReason::Requested)));
    });
}
