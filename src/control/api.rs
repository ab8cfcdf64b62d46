//! The routes of `/api/v1`: bytes of a request -> a wish at the desk -> JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

use super::desk::{Desk, Refusal};
use super::feed::Told;
use crate::status::Message;

/// A key and its value need far less.
const BODY_MAX: usize = 16 * 1024;
/// More readers of events at one door than this are a fault of theirs.
const READERS_MAX: usize = 64;
/// Proxies and browsers give up on streams that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer to `set` and `reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Every key that has another value now.
    pub changed: Vec<String>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.words });
        if let Some(details) = self.details {
            body["details"] = details.into();
        }
        (self.status, Json(body)).into_response()
    }
}

/// The routes of one door. Each has its own seats for readers of events: strangers who fill those of one lock nobody out at
/// another.
pub(super) fn routes(desk: &Arc<Desk>) -> Router {
    let seats = Arc::new(Semaphore::new(READERS_MAX));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/v1/status", get(async |State(desk): State<Arc<Desk>>| Json(desk.report())))
        .route("/api/v1/events", get(move |desk, headers| events(desk, headers, Arc::clone(&seats))))
        .route("/api/v1/start", post(start))
        .route("/api/v1/stop", post(stop))
        .route("/api/v1/reconnect", post(reconnect))
        .route("/api/v1/set", post(set))
        .route("/api/v1/reload", post(reload))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; the API is at /api/v1"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::clone(desk))
}

/// The brain has been told; what comes of it is in the status and the events.
fn accepted(what: &str) -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "accepted": what }))).into_response()
}

async fn start(State(desk): State<Arc<Desk>>) -> Response {
    desk.start();
    accepted("start")
}

async fn stop(State(desk): State<Arc<Desk>>) -> Response {
    desk.stop();
    accepted("stop")
}

async fn reconnect(State(desk): State<Arc<Desk>>) -> Result<Response, Refusal> {
    desk.reconnect()?;
    Ok(accepted("reconnect"))
}

/// On air?
async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let status = desk.view.status();
    let on_air = status.broadcast.as_ref().is_some_and(|broadcast| broadcast.message == Message::Broadcasting);
    let code = if on_air { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", status.line())).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    key: String,
    value: Value,
}

async fn set(State(desk): State<Arc<Desk>>, body: Result<Bytes, BytesRejection>) -> Result<Json<Changed>, Refusal> {
    let body =
        body.map_err(|error| Refusal::new(error.status(), format!("the body cannot be taken: {}", error.body_text())))?;
    let Set { key, value } = serde_json::from_slice(&body).map_err(|_| {
        let words = r#"the body must be JSON such as {"key": "reconnect.maxRetries", "value": 20}"#;
        Refusal::new(StatusCode::BAD_REQUEST, words)
    })?;
    let value = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(answer) => answer.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            let words = "`value` must be text, a number, `true` or `false`";
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, words));
        }
    };
    Ok(Json(Changed { changed: desk.set(&key, &value)? }))
}

async fn reload(State(desk): State<Arc<Desk>>) -> Result<Json<Changed>, Refusal> {
    let reloading = tokio::task::spawn_blocking(move || desk.reload()).await;
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the config panicked");
    Ok(Json(Changed { changed: reloading.map_err(broken)?? }))
}

/// Server-sent events; with `Accept: application/x-ndjson` the bare JSON lines, with `text/plain` lines for people.
async fn events(State(desk): State<Arc<Desk>>, headers: HeaderMap, seats: Arc<Semaphore>) -> Result<Response, Refusal> {
    let refusal = |words| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, words);
    let seat = seats.try_acquire_owned().map_err(|_| refusal("too many readers of events are connected already"))?;
    let (scene, told) = desk.view.events().ok_or_else(|| refusal("the broadcast is over"))?;
    let told = told_from(scene, told).map(move |told| {
        let _until_the_stream_is_dropped = &seat;
        told
    });
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(match accept {
        "application/x-ndjson" => lines("application/x-ndjson", told.map(|told| told.json)),
        "text/plain" => lines("text/plain; charset=utf-8", told.filter_map(async |told| told.line)),
        _ => {
            let events =
                told.map(|told| Ok::<_, Infallible>(Event::default().id(told.seq.to_string()).data(told.json)));
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
    })
}

/// `scene`, then all that comes; the end for a reader that is too slow.
fn told_from(scene: Option<Told>, told: Receiver<Told>) -> impl Stream<Item = Told> + Send {
    futures_util::stream::unfold((scene, told), async |(scene, mut told)| {
        if let Some(scene) = scene {
            return Some((scene, (None, told)));
        }
        match told.recv().await {
            Ok(next) => Some((next, (None, told))),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(_)) => {
                warn!("a reader of the control API's events was too slow: it was dropped");
                None
            }
        }
    })
}

fn lines(content_type: &'static str, lines: impl Stream<Item = Arc<str>> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(|line| Ok::<_, Infallible>(format!("{line}\n"))));
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], body).into_response()
}
