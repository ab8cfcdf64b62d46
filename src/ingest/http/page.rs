//! The pages for people: the viewer page, and the list of broadcasts.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::ingest::refusal::{Refusal, check_name};
use crate::ingest::server::Server;

const VIEWER: &str = include_str!("../viewer.html");
const INDEX: &str = include_str!("../index.html");
/// Nothing from anywhere else, and nobody may frame us.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; media-src blob: mediastream:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// `GET /<name>`.
pub(in crate::ingest) async fn viewer(Path(name): Path<String>) -> Result<Response, Refusal> {
    check_name(&name)?;
    Ok(html(VIEWER.to_owned()))
}

/// `GET /`: straight to the only broadcast, or a list. With a token, names are not for everybody.
pub(in crate::ingest) async fn index(State(server): State<Server>) -> Response {
    if server.token.is_some() {
        return Redirect::temporary("/live").into_response();
    }
    let names: Vec<String> = server.board.borrow().keys().cloned().collect();
    match names.as_slice() {
        [only] => Redirect::temporary(&format!("/{only}")).into_response(),
        [] => html(INDEX.replace("{broadcasts}", "<li class=none>Nothing is being published yet.</li>")),
        [..] => {
            // Names need no escaping: see `check_name`.
            let items: String = names.iter().map(|name| format!("<li><a href=\"/{name}\">{name}</a></li>")).collect();
            html(INDEX.replace("{broadcasts}", &items))
        }
    }
}

fn html(text: String) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(text)).into_response()
}
