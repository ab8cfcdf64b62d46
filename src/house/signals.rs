//! What the operating system asks for: SIGINT and SIGTERM stop with a goodbye (a second one at once), SIGUSR1 retries now.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::inbox::Inbox;
use crate::status::StopReason;
use crate::supervisor::event::{Command, Event};

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const TOLD_TWICE: i32 = 130;

/// Turns signals into commands for as long as the runtime lives.
pub(super) fn listen(inbox: &Inbox) {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::user_defined1())) {
        (Ok(interrupt), Ok(terminate), Ok(user)) => {
            tokio::spawn(stop_on(interrupt, terminate, inbox.clone()));
            tokio::spawn(reconnect_on(user, inbox.clone()));
        }
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
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

async fn reconnect_on(mut user: Signal, inbox: Inbox) {
    while user.recv().await.is_some() {
        inbox.post(Event::Command(Command::Reconnect));
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
