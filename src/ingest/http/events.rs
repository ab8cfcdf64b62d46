//! `GET /api/<name>/events`: what viewers are told, as server-sent events with one JSON object each.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::signal::roamcast::text::Stats;

use crate::ingest::broadcast::Phase;
use crate::ingest::media;
use crate::ingest::refusal::{Refusal, check_name};
use crate::ingest::server::Server;

/// Proxies and browsers give up on streams that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The handler.
pub(in crate::ingest) async fn stream(
    State(server): State<Server>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    server.authorize(&headers)?;
    check_name(&name)?;
    let teller = Teller { server, name, told: [None, None, None], waiting: Vec::new() };
    let events = futures_util::stream::unfold(teller, async |mut teller| {
        let line = teller.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(line)), teller))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// Tells one viewer what has changed since it was last told.
struct Teller {
    server: Server,
    name: String,
    /// The BroadcastState, the BroadcastStatus and the PublisherStats last told.
    told: [Option<Told>; 3],
    waiting: Vec<String>,
}

#[derive(PartialEq)]
enum Told {
    State(Phase),
    Status(String),
    Figures(Stats),
}

impl Teller {
    /// The next event; `None` when the server stops.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.waiting.pop() {
                return Some(line);
            }
            self.look();
            if self.waiting.is_empty() {
                let Server { board, status_feed, stopped, .. } = &mut self.server;
                tokio::select! {
                    changed = board.changed() => changed.ok()?,
                    () = changed(status_feed) => {}
                    _ = stopped.changed() => return None,
                }
            }
        }
    }

    fn look(&mut self) {
        let shown = self.server.board.borrow_and_update().get(&self.name).cloned();
        let phase = shown.as_ref().map_or(Phase::Waiting, |shown| shown.phase);
        let fed = self.server.status_feed.as_mut().map(|feed| feed.borrow_and_update().clone());
        let status = fed.unwrap_or_else(|| json!({ "message": derived_status(phase) }).to_string());
        // Popped in reverse: the state comes first.
        if let Some(figures) = shown.and_then(|shown| shown.figures) {
            self.tell(2, Told::Figures(figures));
        }
        self.tell(1, Told::Status(status));
        self.tell(0, Told::State(phase));
    }

    fn tell(&mut self, slot: usize, news: Told) {
        if self.told[slot].as_ref() == Some(&news) {
            return;
        }
        match &news {
            Told::State(phase) => self.waiting.push(state_event(*phase).to_string()),
            Told::Figures(figures) => {
                self.waiting.push(json!({ "event": "PublisherStats", "data": figures }).to_string());
            }
            Told::Status(data) => {
                let data: Value = serde_json::from_str(data).unwrap_or_default();
                if data.is_object() {
                    self.waiting.push(json!({ "event": "BroadcastStatus", "data": data }).to_string());
                }
            }
        }
        self.told[slot] = Some(news);
    }
}

async fn changed(feed: &mut Option<watch::Receiver<String>>) {
    let alive = match feed {
        Some(feed) => feed.changed().await.is_ok(),
        None => false,
    };
    if !alive {
        // No feed, or the encoder has ended: nothing will ever come.
        std::future::pending().await
    }
}

fn state_event(phase: Phase) -> Value {
    let (state, since) = match phase {
        Phase::Waiting => ("waiting", None),
        Phase::Live(since) => ("live", Some(since)),
        Phase::Interrupted(since) => ("interrupted", Some(since)),
        Phase::Offline => ("offline", None),
    };
    let live_for = since.map(|since| media::now().saturating_duration_since(since).as_secs_f64());
    json!({ "event": "BroadcastState", "data": { "state": state, "liveFor": live_for } })
}

/// The nearest word of the encoder's vocabulary, when the encoder does not tell.
const fn derived_status(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Live(_) => Some("broadcasting"),
        Phase::Interrupted(_) => Some("reconnecting_broadcast"),
        Phase::Waiting | Phase::Offline => None,
    }
}
