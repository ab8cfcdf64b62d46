//! WHIP (RFC 9725) and WHEP over HTTP: who may, what is well-formed, which status. The media loop does the rest.

pub(super) mod events;
mod fault_orders;
pub(super) mod page;
pub(super) mod signalling;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};

use crate::server::host::{Pages, Stranger};
use crate::server::seats::Limits;
use crate::server::{self, Ends, files};
use crate::signal::whip::text::RETRY_SLOT;

use super::media::{self, Address, Busy, Denied, Guard, PatchError, Patched, Request};
use super::offer;
use super::peer::Role;
use super::refusal::{Refusal, check_name};
use super::sdp::Fragment;
use super::server::{Joined, Server, random_key};
use super::tls::Door;

/// No body is as long as an offer may be.
const BODY_MAX: usize = offer::BYTES_MAX;
/// Connections: some for each session that there may be (a browser has up to six). One address may have most of them: behind
/// a proxy all clients have the same.
const CONNECTIONS: Limits = Limits { total: 1024, per_address: 768 };

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// What scripts of other origins may read of an answer.
const EXPOSED: &str =
    "Location, ETag, Link, Allow, Accept-Patch, Accept-Post, Access-Control-Allow-Methods, Retry-After";

/// Serves until `server.stopped`.
pub(super) async fn serve(door: Door, server: Server) {
    let stopped = server.stopped.clone();
    let limits = Limits { total: files::connections(CONNECTIONS.total), ..CONNECTIONS };
    server::serve(door, routes(server), "ingest", limits, stopped).await;
}

fn routes(server: Server) -> Router {
    let mut router = Router::new()
        .route("/", get(page::index))
        .route("/healthz", get(health))
        .route("/{name}", get(page::viewer))
        .route("/signal/{name}", get(signalling::upgrade))
        .route("/api/{name}/events", get(events::stream).options(async || StatusCode::NO_CONTENT))
        .route("/api/{name}/stats", get(stats).options(async || StatusCode::NO_CONTENT));
    for (path, role) in [("whip", Role::Publisher), ("whep", Role::Viewer)] {
        let preflight = async || (StatusCode::NO_CONTENT, [(header::ALLOW, "POST, OPTIONS"), (ACCEPT_POST, SDP)]);
        let create = post(move |state, reached, path, headers, body| create(role, state, reached, path, headers, body));
        let patch = axum::routing::patch(move |state, path, headers, body| patch(role, state, path, headers, body))
            .delete(move |state, path, headers| delete(role, state, path, headers))
            .options(async || {
                (StatusCode::NO_CONTENT, [(header::ALLOW, "PATCH, DELETE, OPTIONS"), (ACCEPT_PATCH, FRAGMENT)])
            });
        router = router
            .route(&format!("/{path}/{{name}}"), create.options(preflight))
            .route(&format!("/{path}/{{name}}/{{key}}"), patch);
    }
    if server.faults.is_some() {
        router = router.route("/faults/{name}", post(fault_orders::order));
    }
    router
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(cross_origin))
        .layer(middleware::from_fn_with_state(server.clone(), keep_strangers_out))
        .with_state(server)
}

/// POST of an offer.
async fn create(
    role: Role,
    State(server): State<Server>,
    ConnectInfo(Ends { local: reached, .. }): ConnectInfo<Ends>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    server.authorize(&headers)?;
    check_name(&name)?;
    if let (Role::Publisher, Some(faults)) = (role, &server.faults) {
        faults.refuse(&name)?;
    }
    let offer = text_body(&headers, SDP, header::ACCEPT, body)?;
    let reached = reached.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "the connection is gone"))?;
    let at = Address { role, name, key: random_key()? };

    let mut joined = server.join(&at, &offer, reached).await?;
    if let Err(Denied::Busy(Busy(until))) = joined {
        // The publisher may have been killed a moment ago, and this may be its successor: see if it stays silent.
        tokio::time::sleep_until(until.min(media::now() + super::broadcast::SILENT_AFTER).into()).await;
        joined = server.join(&at, &offer, reached).await?;
    }
    let Joined { answer, slot } = joined.map_err(|denied| match denied {
        Denied::Busy(_) => {
            let words = format!("`{}` is being published by somebody else", at.name);
            Refusal::new(StatusCode::CONFLICT, words).with(header::RETRY_AFTER, 2)
        }
        Denied::Full => Refusal::no_room(),
    })?;
    let location = format!("/{}/{}/{}", path_of(role), at.name, at.key);
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location),
        (header::ETAG, etag(1)),
        (ACCEPT_PATCH, FRAGMENT.to_owned()),
    ];
    let slot = slot.map(|slot| (HeaderName::from_static(RETRY_SLOT), slot.to_string()));
    let more: Vec<_> = server.links(&at).into_iter().chain(slot).collect();
    Ok((StatusCode::CREATED, headers, AppendHeaders(more), answer).into_response())
}

/// PATCH with candidates, or with new ICE credentials.
async fn patch(
    role: Role,
    State(server): State<Server>,
    Path((name, key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    server.authorize(&headers)?;
    if let (Role::Publisher, Some(faults)) = (role, &server.faults) {
        faults.refuse_patch(&name)?;
    }
    let text = text_body(&headers, FRAGMENT, ACCEPT_PATCH, body)?;
    let fragment = Fragment::parse(&text).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let guard = guard(&headers);
    let at = Address { role, name, key };
    match server.ask(|reply| Request::Patch { at, fragment, guard, reply }).await? {
        Ok(Patched::Trickled) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Patched::Restarted(ours, session)) => {
            let headers = [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, etag(session))];
            Ok((headers, ours).into_response())
        }
        Err(PatchError::Gone) => Err(Refusal::no_session()),
        Err(PatchError::Stale) => {
            let words = "the candidates belong to another ICE session; restart ICE with `If-Match: \"*\"`";
            Err(Refusal::new(StatusCode::PRECONDITION_FAILED, words))
        }
        Err(PatchError::Unguarded) => {
            let words = "an ICE restart needs `If-Match: \"*\"`";
            Err(Refusal::new(StatusCode::PRECONDITION_REQUIRED, words))
        }
        Err(PatchError::Refused(error)) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
    }
}

/// `GET /api/<name>/stats`: what came of the publisher.
async fn stats(
    State(server): State<Server>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    server.authorize(&headers)?;
    check_name(&name)?;
    let publisher = server.ask(|reply| Request::Tally { name, reply }).await?;
    Ok(axum::Json(serde_json::json!({ "publisher": publisher })).into_response())
}

/// DELETE: goodbye.
async fn delete(
    role: Role,
    State(server): State<Server>,
    Path((name, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    server.authorize(&headers)?;
    let known = server.ask(|reply| Request::Leave { at: Address { role, name, key }, reply }).await?;
    if known { Ok(StatusCode::OK.into_response()) } else { Err(Refusal::no_session()) }
}

/// Whether media can be published and watched.
async fn health(State(server): State<Server>) -> Response {
    if server.pulse.is_well() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the media loop does not turn\n").into_response()
    }
}

/// Without a token, any page that somebody on this machine opens could watch or publish: only pages of this machine may, and
/// of hosts that the operator has named. With one, no page gets any further.
async fn keep_strangers_out(State(server): State<Server>, request: axum::extract::Request, next: Next) -> Response {
    let judged = match server.token {
        None => server.hosts.check(request.headers(), Pages::OfOurHosts),
        Some(_) => Ok(()),
    };
    match judged {
        Ok(()) => next.run(request).await,
        Err(stranger @ Stranger::Host) => {
            let words = format!("{stranger}; other names need `--allow-host`");
            Refusal::new(StatusCode::MISDIRECTED_REQUEST, words).into_response()
        }
        Err(stranger @ Stranger::Origin) => Refusal::new(StatusCode::FORBIDDEN, stranger.to_string()).into_response(),
    }
}

/// Tells browsers that pages of other origins may come in: those that may not do not get as far as here.
async fn cross_origin(method: Method, headers: HeaderMap, request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let answer = response.headers_mut();
    if method == Method::OPTIONS {
        // Without an origin as well: web clients ask so whether they may trickle at all.
        let methods = HeaderValue::from_static("GET, POST, PATCH, DELETE, OPTIONS");
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = HeaderValue::from_static("Authorization, Content-Type, If-Match");
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return response };
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(header::VARY, HeaderValue::from_static("Origin"));
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    response
}

/// The body as text, if it says that it is of the type `wanted`; `hint` is the header that names the right type.
fn text_body(
    headers: &HeaderMap,
    wanted: &'static str,
    hint: HeaderName,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        let words = format!("the content type must be `{wanted}`");
        return Err(
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, words).with(hint, HeaderValue::from_static(wanted))
        );
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {} KiB", BODY_MAX / 1024))
        }
        status => Refusal::new(status, "the body did not arrive whole"),
    })?;
    String::from_utf8(body.into()).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not UTF-8 text"))
}

/// `If-Match` as RFC 9725, section 4.3.1 wants it.
fn guard(headers: &HeaderMap) -> Guard {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Guard::None;
    };
    let value = value.to_str().unwrap_or_default().trim();
    match value {
        // The RFC quotes the star; plain HTTP does not.
        "*" | "\"*\"" => Guard::Any,
        // A tag that is none of ours matches no session of ours.
        tag => Guard::IceSession(tag.trim_matches('"').parse().unwrap_or(0)),
    }
}

fn etag(ice_session: u32) -> String {
    format!("\"{ice_session}\"")
}

const fn path_of(role: Role) -> &'static str {
    match role {
        Role::Publisher => "whip",
        Role::Viewer => "whep",
    }
}
