//! How a WebSocket of roamcast signalling begins: an HTTP request that may, and asks for the right thing.

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{self, StatusCode};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role as Side, WebSocketConfig};

use crate::server::Ends;
use crate::signal::roamcast::text::{MESSAGE_BYTES_MAX, SUBPROTOCOL};

use super::Conversation;
use crate::ingest::refusal::{Refusal, check_name};
use crate::ingest::server::Server;

/// `GET /signal/<name>`
pub(in crate::ingest) async fn upgrade(
    State(server): State<Server>,
    ConnectInfo(Ends { local: reached, .. }): ConnectInfo<Ends>,
    Path(name): Path<String>,
    mut request: axum::extract::Request,
) -> Result<Response, Refusal> {
    check_name(&name)?;
    let reached = reached.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "the connection is gone"))?;
    if let Some(faults) = &server.faults {
        faults.refuse(&name)?;
    }
    let upgrading = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    if !offers_subprotocol(&parts.headers) {
        let words = format!("this is a WebSocket of the subprotocol `{SUBPROTOCOL}`");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, words));
    }
    let bearer = bearer(&parts.headers);
    let response = create_response(&http::Request::from_parts(parts, ()))
        .map_err(|_| Refusal::new(StatusCode::UPGRADE_REQUIRED, "this needs a WebSocket handshake (RFC 6455)"))?;
    let mut response = response.map(|()| Body::empty());
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));

    tokio::spawn(async move {
        match upgrading.await {
            Ok(upgraded) => {
                let limits = WebSocketConfig::default()
                    .max_message_size(Some(MESSAGE_BYTES_MAX))
                    .max_frame_size(Some(MESSAGE_BYTES_MAX));
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Side::Server, Some(limits)).await;
                Conversation::new(server, socket, name, reached, bearer).run().await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket did not come to be"),
        }
    });
    Ok(response)
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|name| name.trim() == SUBPROTOCOL)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
