//! Far ends that are nobody's ingest, with one face: pion (Go, as in MediaMTX and LiveKit), and Chromium that answers WHIP
//! itself (libwebrtc, as in many servers).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::browser::Browser;
use crate::place::Place;
use crate::program::{PATIENCE, Program};

/// How often figures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// pion's UDP ports begin at that of its HTTP server, one a session.
pub(crate) const PION_PORTS: u16 = 10;
/// A page cannot be reached by a peer on its own machine, nor tell its address, unless Chromium is told so.
const FLAGS: [&str; 2] = ["--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns"];

/// What came of the newest session.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Figures {
    /// Its number, from 1.
    pub(crate) session: u64,
    /// ICE restarts in it.
    pub(crate) restarts: u64,
    /// `video/H264` and the like.
    pub(crate) codec: String,
    /// Frames of the picture.
    pub(crate) frames: u64,
    /// Packets of the picture that never came.
    pub(crate) lost: i64,
    /// Packets of the sound.
    pub(crate) audio: u64,
}

/// Which far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pion,
    Chromium,
}

/// A running one; ends when dropped.
pub(crate) enum Answerer {
    Pion { program: Program, address: SocketAddr },
    Chromium { browser: Arc<Browser>, address: SocketAddr, runtime: Runtime },
}

impl Answerer {
    /// In this place. `None`, with the reason printed, where it is not to be had.
    pub(crate) fn start(kind: Kind, place: &Place) -> Option<Self> {
        match kind {
            Kind::Pion => Self::pion(place, "usual"),
            Kind::Chromium => Self::chromium(place),
        }
    }

    /// pion that reports in this way: see tests/peers/pion/receiver.go.
    pub(crate) fn pion(place: &Place, reports: &str) -> Option<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/pion-receiver");
        if !path.exists() {
            println!(
                "skipped: pion: {} is not there; `scripts/peers` builds it where Go and Debian's pion are",
                path.display()
            );
            return None;
        }
        let address = SocketAddr::new(place.address(), place.free_port());
        let mut command = Command::new(path);
        command.args([address.ip().to_string(), address.port().to_string(), reports.to_owned()]);
        let mut program = Program::start(place.wrap(&command), tempfile::tempdir().unwrap());
        program.wait_for_line("ready");
        Some(Self::Pion { program, address })
    }

    fn chromium(place: &Place) -> Option<Self> {
        let runtime = place.runtime();
        let driver = place.command("chromedriver");
        let browser = runtime.block_on(runtime.spawn(Browser::start_with(driver, &FLAGS))).unwrap()?;
        let listener = place.run(|| std::net::TcpListener::bind((place.address(), 0)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let (browser, address) = (Arc::new(browser), listener.local_addr().unwrap());
        runtime.spawn(serve(listener, Arc::clone(&browser)));
        let opened = Arc::clone(&browser);
        runtime.block_on(runtime.spawn(async move { opened.open(&format!("http://{address}/")).await })).unwrap();
        Some(Self::Chromium { browser, address, runtime })
    }

    /// Where to publish.
    pub(crate) fn url(&self) -> String {
        let (Self::Pion { address, .. } | Self::Chromium { address, .. }) = self;
        format!("http://{address}/whip")
    }

    /// The UDP ports that media may come to now; other tests of this machine have theirs.
    pub(crate) fn media_ports(&self) -> Vec<u16> {
        match self {
            Self::Pion { address, .. } => (0..PION_PORTS).map(|n| address.port() + n).collect(),
            Self::Chromium { .. } => serde_json::from_value(self.eval("ports()")).unwrap(),
        }
    }

    fn eval(&self, expression: &'static str) -> Value {
        let Self::Chromium { browser, runtime, .. } = self else { return Value::Null };
        let browser = Arc::clone(browser);
        runtime.block_on(runtime.spawn(async move { browser.eval(expression).await })).unwrap()
    }

    /// What has come so far.
    pub(crate) fn figures(&mut self) -> Figures {
        let value = match self {
            Self::Pion { program, .. } => {
                // Those that wait are old.
                program.catch_up();
                program.wait_for("figures of pion", |event| event["event"] == "Received").1["data"].clone()
            }
            Self::Chromium { .. } => self.eval("figures()"),
        };
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }

    /// Waits until they fit.
    pub(crate) fn figures_that(&mut self, what: &str, fit: impl Fn(&Figures) -> bool) -> Figures {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let figures = self.figures();
            if fit(&figures) {
                return figures;
            }
            assert!(Instant::now() < deadline, "no {what}: {figures:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// pion asks for a keyframe.
    pub(crate) fn ask_for_keyframe(&self) {
        if let Self::Pion { program, .. } = self {
            program.signal("USR1");
        }
    }
}

/// A WHIP server whose every answer the page of this browser gives.
async fn serve(listener: std::net::TcpListener, browser: Arc<Browser>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((socket, _)) = listener.accept().await {
        let browser = Arc::clone(&browser);
        tokio::spawn(async move {
            // Errors: the client has hung up.
            let _gone = answer(socket, &browser).await;
        });
    }
}

async fn answer(mut socket: TcpStream, browser: &Browser) -> std::io::Result<()> {
    let Some((method, body)) = request(&mut socket).await? else { return Ok(()) };
    let ask = async |function: &str| {
        let value = browser.eval(&format!("{function}({})", Value::from(body.as_str()))).await;
        value.as_str().map_or_else(|| Err(value.to_string()), |text| Ok(text.to_owned()))
    };
    let (status, headers, body) = match method.as_str() {
        "GET" => ("200 OK", "Content-Type: text/html\r\n", include_str!("answer.html").to_owned()),
        "POST" => match ask("publish").await {
            Ok(answer) => ("201 Created", "Content-Type: application/sdp\r\nLocation: /session/1\r\n", answer),
            Err(error) => ("400 Bad Request", "", error),
        },
        "PATCH" => match ask("patch").await {
            Ok(none) if none.is_empty() => ("204 No Content", "", none),
            Ok(fragment) => ("200 OK", "Content-Type: application/trickle-ice-sdpfrag\r\n", fragment),
            Err(error) => ("422 Unprocessable Content", "", error),
        },
        _ => ("200 OK", "", String::new()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    socket.write_all(format!("{head}{body}").as_bytes()).await?;
    socket.shutdown().await
}

/// Method and body of one request.
async fn request(socket: &mut TcpStream) -> std::io::Result<Option<(String, String)>> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                let method = head.split(' ').next().unwrap_or_default().to_owned();
                return Ok(Some((method, body.to_owned())));
            }
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}
