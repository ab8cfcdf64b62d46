//! What the board lets the windows see: the status just now, and every event as it is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, Receiver};

use crate::status::{Message, Status};

/// Events that may wait for a reader, about a quarter of an hour of them; one who is further behind is dropped.
const WAITING_MAX: usize = 1024;

/// One event, in the forms that windows show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its running number.
    pub seq: u64,
    /// One JSON object, as with `--events json`.
    pub json: Arc<str>,
    /// For people; `None` when it is for machines alone.
    pub line: Option<Arc<str>>,
    /// It says by itself where the broadcast is: what a new reader is told first.
    pub is_scene: bool,
}

/// The answer to `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `broadcast.name`.
    pub name: String,
    /// Version of the encoder.
    pub version: String,
    /// Path of the config, or another name for where it comes from.
    pub config: String,
    /// Seconds since the process started.
    pub uptime: f64,
    /// Since when `broadcast.message` (or being off air) holds: RFC 3339 in UTC.
    pub since: String,
    /// The same in seconds until now.
    #[serde(rename = "for")]
    pub lasted: f64,
    /// All the rest.
    #[serde(flatten)]
    pub status: Status,
}

/// The writing end, for the board. When it is dropped every reader comes to its end.
pub struct Feed {
    shared: Arc<Mutex<Shown>>,
}

/// The reading end.
#[derive(Clone)]
pub struct View {
    shared: Arc<Mutex<Shown>>,
    started: Instant,
}

struct Shown {
    status: Status,
    since: Instant,
    scene: Option<Told>,
    /// `None`: the broadcast is over.
    events: Option<broadcast::Sender<Told>>,
}

/// A feed and a view of it.
#[must_use]
pub fn feed() -> (Feed, View) {
    let events = Some(broadcast::Sender::new(WAITING_MAX));
    let started = now();
    let shown = Shown { status: Status::default(), since: started, scene: None, events };
    let shared = Arc::new(Mutex::new(shown));
    (Feed { shared: Arc::clone(&shared) }, View { shared, started })
}

impl Feed {
    /// The status just now, and what was told of the way there. Never blocks on readers.
    pub fn publish(&self, status: &Status, told: Vec<Told>) {
        let mut shown = lock(&self.shared);
        if message(status) != message(&shown.status) {
            shown.since = now();
        }
        if *status != shown.status {
            shown.status = status.clone();
        }
        for told in told {
            if told.is_scene {
                shown.scene = Some(told.clone());
            }
            let _nobody_reads = shown.events.as_ref().map(|events| events.send(told));
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        lock(&self.shared).events = None;
    }
}

impl View {
    /// The status just now.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.shared).status.clone()
    }

    /// The status and what a person wants to know besides.
    #[must_use]
    pub fn report(&self, name: &str, config: &str) -> Report {
        let (now, shown) = (now(), lock(&self.shared));
        let lasted = now.saturating_duration_since(shown.since);
        Report {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: config.to_owned(),
            uptime: seconds(now.saturating_duration_since(self.started)),
            since: wall_clock_before(lasted),
            lasted: seconds(lasted),
            status: shown.status.clone(),
        }
    }

    /// What a reader is told first, and then everything that is told after that. `None`: the process ends.
    #[must_use]
    pub fn events(&self) -> Option<(Option<Told>, Receiver<Told>)> {
        let shown = lock(&self.shared);
        Some((shown.scene.clone(), shown.events.as_ref()?.subscribe()))
    }
}

fn lock(shared: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(status: &Status) -> Option<Message> {
    status.broadcast.as_ref().map(|broadcast| broadcast.message)
}

/// To the millisecond, so that people can read it.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[allow(clippy::disallowed_methods, reason = "how long something has lasted is shown; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

/// Reckoned from now, so that a clock that was set in between does not make it a lie.
#[allow(clippy::disallowed_methods, reason = "shown to people; nothing is decided by it")]
fn wall_clock_before(lasted: Duration) -> String {
    let now = SystemTime::now();
    humantime::format_rfc3339_seconds(now.checked_sub(lasted).unwrap_or(now)).to_string()
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::{RecvError, TryRecvError};

    use super::*;

    fn told(seq: u64, is_scene: bool) -> Told {
        Told { seq, json: seq.to_string().into(), line: None, is_scene }
    }

    #[test]
    fn a_reader_gets_the_scene_first_then_each_event_once_in_order() {
        let (feed, view) = feed();
        feed.publish(&Status::default(), vec![told(1, true), told(2, false)]);
        let (scene, mut events) = view.events().unwrap();
        assert_eq!(scene, Some(told(1, true)));
        feed.publish(&Status::default(), vec![told(3, false), told(4, true)]);
        assert_eq!((events.try_recv(), events.try_recv()), (Ok(told(3, false)), Ok(told(4, true))));
        assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(view.events().unwrap().0, Some(told(4, true)));
    }

    #[tokio::test]
    async fn a_reader_who_is_too_slow_is_told_so_and_holds_nobody_up() {
        let (feed, view) = feed();
        let (_, mut slow) = view.events().unwrap();
        let last = WAITING_MAX as u64 + 1;
        (0..last).for_each(|seq| feed.publish(&Status::default(), vec![told(seq, false)]));
        assert_eq!(slow.recv().await, Err(RecvError::Lagged(1)));
    }

    #[tokio::test]
    async fn the_end_of_the_feed_is_the_end_of_its_readers() {
        let (feed, view) = feed();
        let (_, mut events) = view.events().unwrap();
        feed.publish(&Status::default(), vec![told(1, true)]);
        drop(feed);
        assert_eq!(events.recv().await, Ok(told(1, true)));
        assert_eq!(events.recv().await, Err(RecvError::Closed));
        assert!(view.events().is_none());
    }

    #[test]
    fn the_report_is_one_flat_object() {
        let (_feed, view) = feed();
        let report = view.report("street", "/etc/roamcast/street.toml");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["name"], &json["errors"], &json["capture"]),
            (&"street".into(), &0.into(), &"stopped".into())
        );
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
