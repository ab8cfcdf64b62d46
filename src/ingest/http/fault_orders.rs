//! `POST /faults/<name>`: faults are ordered.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use serde::Deserialize;

use crate::signal::roamcast::text::{IceServer, OutputState, ToClient};

use super::super::faults::Refused;
use super::super::media;
use super::super::refusal::{Refusal, check_name};
use super::super::server::Server;
use media::sessions::{Fault, Order, Request};

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
        let request = media::Request::Session(Request::Fault { name: name.clone(), fault });
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
