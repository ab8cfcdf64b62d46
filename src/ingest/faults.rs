//! Faults on demand (`roamcast ingest --faults`), as docs/signalling.md lists them: `POST /faults/<name>`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::signal::roamcast::text::{IceServer, OutputState, ToClient};

use super::http::{Refusal, Server, check_name};
use super::media;
use super::sessions::{Fault, Order, Request};

/// One order; the keys are carried out from the first to the last.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Orders {
    going_away: Option<u64>,
    output: Option<OutputState>,
    refuse_resume: Option<bool>,
    rename_session: Option<bool>,
    expire_token: Option<u32>,
    add_token: Option<String>,
    black_hole_media: Option<u32>,
    status: Option<u16>,
    retry_after: Option<u32>,
    times: Option<u32>,
    refuse_patch: Option<u16>,
    ice_servers: Option<Vec<IceServer>>,
    evict: Option<bool>,
    close: Option<u16>,
    drop_web_socket: Option<bool>,
    panic: Option<bool>,
}

/// `POST /faults/<name>`
pub(super) async fn order(
    State(server): State<Server>,
    Path(name): Path<String>,
    headers: HeaderMap,
    orders: Result<Json<Orders>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    server.authorize(&headers)?;
    check_name(&name)?;
    let Json(orders) = orders.map_err(|rejection| Refusal::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let Some(faults) = &server.faults else { return Err(Refusal::new(StatusCode::NOT_FOUND, "there are no faults")) };
    if let Some(status) = orders.status {
        let status = StatusCode::from_u16(status)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "`status` must be an HTTP status"))?;
        let refused = Refused { status, retry_after: orders.retry_after, times: orders.times.unwrap_or(1) };
        faults.lock().refused.insert(name.clone(), refused);
    }
    if let Some(status) = orders.refuse_patch {
        let status = StatusCode::from_u16(status)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "`refusePatch` must be an HTTP status"))?;
        faults.lock().refused_patch.insert(name.clone(), status);
    }
    if let Some(token) = &orders.add_token {
        faults.lock().added.push((token.clone(), name.clone()));
    }
    if let Some(servers) = &orders.ice_servers {
        faults.lock().ice_servers.insert(name.clone(), servers.clone());
    }
    for fault in orders.for_the_loop() {
        let request = super::media::Request::Session(Request::Fault { name: name.clone(), fault });
        server.requests.send(request).await.map_err(|_| Refusal::stopping())?;
    }
    Ok(StatusCode::NO_CONTENT)
}

impl Orders {
    fn for_the_loop(self) -> Vec<Fault> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let wanted = |flag: Option<bool>, fault: Fault| flag.unwrap_or(false).then_some(fault);
        let going_away = |retry_after_ms| Fault::Order(Order::Say(ToClient::GoingAway { retry_after_ms }));
        let servers = |ice_servers| Fault::Order(Order::Say(ToClient::IceServers { ice_servers }));
        let output = |state| Fault::Order(Order::Say(ToClient::Output { state }));
        [
            self.going_away.map(going_away),
            self.output.map(output),
            self.refuse_resume.map(Fault::RefuseResume),
            wanted(self.rename_session, Fault::Rename),
            self.expire_token.map(|after| Fault::Order(Order::ExpireToken(seconds(after)))),
            self.black_hole_media.map(|time| Fault::BlackHole(seconds(time))),
            self.ice_servers.map(servers),
            wanted(self.evict, Fault::Evict),
            self.close.map(|code| Fault::Order(Order::Close(code))),
            wanted(self.drop_web_socket, Fault::Order(Order::Cut)),
            wanted(self.panic, Fault::Panic),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The faults that happen before the media loop.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Ordered>);

#[derive(Debug, Default)]
struct Ordered {
    refused: BTreeMap<String, Refused>,
    refused_patch: BTreeMap<String, StatusCode>,
    ice_servers: BTreeMap<String, Vec<IceServer>>,
    /// A token, and the name that it is good for.
    added: Vec<(String, String)>,
    /// A token, and when it expires.
    expiring: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Refused {
    status: StatusCode,
    retry_after: Option<u32>,
    times: u32,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Ordered> {
        // Whoever panicked with it left no half-done change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this request one to be refused?
    pub(super) fn refuse(&self, name: &str) -> Result<(), Refusal> {
        let mut ordered = self.lock();
        let Some(refused) = ordered.refused.get_mut(name).filter(|refused| refused.times > 0) else { return Ok(()) };
        refused.times -= 1;
        let refusal = Refusal::new(refused.status, "a fault that was asked for");
        Err(match refused.retry_after {
            Some(seconds) => refusal.with(header::RETRY_AFTER, HeaderValue::from(seconds)),
            None => refusal,
        })
    }

    /// Is a PATCH to be refused?
    pub(super) fn refuse_patch(&self, name: &str) -> Result<(), Refusal> {
        let status = self.lock().refused_patch.get(name).copied();
        status.map_or(Ok(()), |status| Err(Refusal::new(status, "a fault that was asked for")))
    }

    /// The STUN and TURN servers to name to the publisher of this name.
    pub(super) fn ice_servers(&self, name: &str) -> Vec<IceServer> {
        self.lock().ice_servers.get(name).cloned().unwrap_or_default()
    }

    /// The name that this token was added for.
    pub(super) fn added_for(&self, token: &str) -> Option<String> {
        self.lock().added.iter().find(|(added, _)| added == token).map(|(_, name)| name.clone())
    }

    /// When this token expires, if ever.
    pub(super) fn expires(&self, token: &str) -> Option<Instant> {
        self.lock().expiring.get(token).copied()
    }

    /// Lets a token expire. Gives when.
    pub(super) fn expire(&self, token: &str, after: Duration) -> Instant {
        let at = media::now() + after;
        self.lock().expiring.insert(token.to_owned(), at);
        at
    }
}
