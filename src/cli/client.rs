//! One request to the running encoder, over its control socket.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, Response};
use serde_json::Value;

use super::args::Socket;
use super::{Exit, print};
use crate::control::default_socket;

/// The encoder is on this machine; what takes this long hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Lets `work` talk to the encoder, and tells what is wrong with the answer when something is.
pub(super) fn talk(socket: &Socket, work: impl AsyncFnOnce(&Client) -> Result<(), Failed>) -> Exit {
    // reqwest wants one even where no TLS is spoken.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let worked = match (runtime, Client::new(socket)) {
        (Ok(runtime), Ok(client)) => runtime.block_on(work(&client)),
        (Err(error), _) => Err(Failed(Exit::INTERNAL, format!("the runtime does not start: {error}"))),
        (_, Err(error)) => Err(Failed(Exit::INTERNAL, format!("the client does not start: {error}"))),
    };
    match worked {
        Ok(()) => Exit::SUCCESS,
        Err(Failed(exit, words)) => {
            print::err(&format!("error: {words}"));
            exit
        }
    }
}

/// How it ends, and one sentence.
pub(super) struct Failed(Exit, String);

pub(super) struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    fn new(socket: &Socket) -> reqwest::Result<Self> {
        let socket = socket.socket.clone().unwrap_or_else(default_socket);
        let http = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().tls_certs_only([]).build()?;
        Ok(Self { http, socket })
    }

    /// The JSON that the encoder answers.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failed> {
        let body = body.map(|body| body.to_string());
        let answer = self.send(method, path, "application/json", body, Some(ANSWER_WITHIN)).await?;
        let text = answer.text().await.map_err(|_| self.strange())?;
        serde_json::from_str(&text).map_err(|_| self.strange())
    }

    /// Calls `each` with every line of an endless answer, until it ends or nobody listens any more.
    pub(super) async fn read_lines(
        &self,
        path: &str,
        form: &'static str,
        mut each: impl FnMut(&str) -> std::io::Result<()>,
    ) -> Result<(), Failed> {
        let mut answer = self.send(Method::GET, path, form, None, None).await?;
        let mut waiting = Vec::new();
        while let Some(bytes) = answer.chunk().await.map_err(|_| self.gone())? {
            waiting.extend_from_slice(&bytes);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                if each(String::from_utf8_lossy(&line).trim_end()).is_err() {
                    return Ok(()); // `roamcast events | head`
                }
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        form: &'static str,
        body: Option<String>,
        within: Option<Duration>,
    ) -> Result<Response, Failed> {
        // The host is of no use to a unix socket, but HTTP wants one.
        let mut request = self.http.request(method, format!("http://localhost/api/v1/{path}")).header(ACCEPT, form);
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(within) = within {
            request = request.timeout(within);
        }
        let answer = request.send().await.map_err(|error| self.unavailable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let exit = if answer.status().is_client_error() { Exit::CONFIG } else { Exit::UNAVAILABLE };
        let told: Value = serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default();
        let words = told["error"].as_str().ok_or_else(|| self.strange())?;
        // Complaints are drawn with more than one line.
        match told["details"].as_str() {
            Some(details) => Err(Failed(exit, details.trim_start_matches("error: ").to_owned())),
            None => Err(Failed(exit, words.to_owned())),
        }
    }

    fn unavailable(&self, error: &reqwest::Error) -> Failed {
        let name = self.socket.display();
        let why = root_of(error);
        let words = match why.map(std::io::Error::kind) {
            Some(std::io::ErrorKind::PermissionDenied) => {
                format!("the control socket `{name}` may not be opened: try it as root, or as the user of the encoder")
            }
            Some(_) | None if error.is_timeout() => format!("the encoder at `{name}` does not answer"),
            Some(_) | None => {
                format!("no encoder answers at `{name}`; --socket or $ROAMCAST_SOCKET names another one")
            }
        };
        Failed(Exit::UNAVAILABLE, words)
    }

    fn gone(&self) -> Failed {
        Failed(Exit::UNAVAILABLE, format!("the encoder at `{}` has gone", self.socket.display()))
    }

    /// For an answer that no encoder gives.
    pub(super) fn strange(&self) -> Failed {
        Failed(Exit::UNAVAILABLE, format!("what answers at `{}` is no encoder of this version", self.socket.display()))
    }
}

/// The error of the operating system at the bottom of it.
fn root_of(error: &reqwest::Error) -> Option<&std::io::Error> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut found = None;
    while let Some(error) = cause {
        found = error.downcast_ref::<std::io::Error>().or(found);
        cause = error.source();
    }
    found
}
