//! A viewer for tests that counts: WHEP over str0m in RTP mode, so that every packet is seen after decryption, and what
//! viewers are told.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::PATIENCE;
use crate::publisher::http_client;

/// A fragment that is well-formed.
const STALE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=end-of-candidates\r\n";

/// An ingest that is watched, from its own machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// Empty where none is asked for.
    pub(crate) token: &'static str,
}

impl Door {
    fn ask(self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = http_client().request(method, format!("http://{}{path}", self.address));
        if self.token.is_empty() { request } else { request.bearer_auth(self.token) }
    }

    /// Does it know this WHIP resource? It is told of candidates of an ICE session that never was.
    pub(crate) async fn knows(self, resource: String) -> bool {
        let request =
            self.ask(reqwest::Method::PATCH, &resource).header("content-type", "application/trickle-ice-sdpfrag");
        let answer = request.header("if-match", "\"0\"").body(STALE).send().await.unwrap();
        match answer.status() {
            reqwest::StatusCode::NOT_FOUND => false,
            reqwest::StatusCode::PRECONDITION_FAILED => true,
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }

    /// What the ingest has counted of the present publisher: `[frames, lost packets]` of the picture, after decryption.
    pub(crate) async fn received(self) -> [u64; 2] {
        self.received_of_publisher().await.expect("the ingest has a publisher's figures")
    }

    /// The same; `None` where nobody publishes just now.
    pub(crate) async fn received_of_publisher(self) -> Option<[u64; 2]> {
        let text = self.ask(reqwest::Method::GET, "/api/live/stats").send().await.unwrap().text().await.unwrap();
        let stats: serde_json::Value = serde_json::from_str(&text).ok()?;
        let video = &stats["publisher"]["video"];
        Some([video["frames"].as_u64()?, video["lost"].as_u64()?])
    }
}

/// What came of the picture.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Extended sequence numbers of all packets.
    sequence: BTreeSet<u64>,
    /// RTP time of the newest frame.
    newest: Option<(u64, Instant)>,
    /// Frames, by their RTP time.
    pub(crate) frames: u64,
    /// The longest time from the beginning of one frame to the next.
    pub(crate) longest_gap: Duration,
    /// The longest step in RTP time from one frame to the next, 90 kHz.
    pub(crate) longest_step: u64,
    /// How often the connection was lost.
    pub(crate) disconnects: u32,
    /// When each frame began to arrive, and its RTP time.
    arrivals: Vec<(Instant, u64)>,
}

impl Seen {
    /// Packets that are missing.
    pub(crate) fn holes(&self) -> u64 {
        let span = self.sequence.last().zip(self.sequence.first()).map_or(0, |(last, first)| last - first + 1);
        span - self.sequence.len() as u64
    }

    fn packet(&mut self, packet: &RtpPacket) {
        self.sequence.insert(*packet.seq_no);
        let time = packet.time.numer();
        match self.newest {
            Some((newest, _)) if time <= newest => return,
            Some((newest, at)) => {
                self.longest_gap = self.longest_gap.max(packet.timestamp.saturating_duration_since(at));
                self.longest_step = self.longest_step.max(time - newest);
            }
            None => {}
        }
        self.frames += 1;
        self.arrivals.push((packet.timestamp, time));
        self.newest = Some((time, packet.timestamp));
    }
}

/// Watches until it is dropped, which looks like a crash to the server.
pub(crate) struct Viewer {
    seen: watch::Receiver<Seen>,
    told: watch::Receiver<Vec<String>>,
    forget: Arc<Mutex<bool>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Viewer {
    /// Watches `live` of the ingest on this port of 127.0.0.1, and waits for the first picture.
    pub(crate) async fn of(port: u16) -> Self {
        Self::at(Door { address: (Ipv4Addr::LOCALHOST, port).into(), token: "" }).await
    }

    /// Watches `live` of any ingest, and waits for the first picture.
    pub(crate) async fn at(door: Door) -> Self {
        let (tell, told) = watch::channel(Vec::new());
        let hearing = tokio::spawn(hear(door, tell));
        let (show, seen) = watch::channel(Seen::default());
        let forget = Arc::new(Mutex::new(false));
        let watching = tokio::spawn(watch_live(door, show, Arc::clone(&forget)));
        let viewer = Self { seen, told, forget, tasks: [hearing, watching] };
        viewer.sees(1).await;
        viewer
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The frames from the last one before this moment on: when each began to arrive, and its RTP time (90 kHz).
    pub(crate) fn frames_around(&self, since: Instant) -> Vec<(Instant, u64)> {
        let seen = self.seen.borrow();
        let first = seen.arrivals.partition_point(|(at, _)| *at <= since).saturating_sub(1);
        seen.arrivals[first..].to_vec()
    }

    /// Counts anew from the next packet on.
    pub(crate) fn count_anew(&self) {
        *self.forget.lock().unwrap() = true;
    }

    /// Since the newest frame.
    pub(crate) fn silent_for(&self) -> Duration {
        self.seen.borrow().newest.map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// The states that viewers were told, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.borrow().clone()
    }

    /// Waits for so many more frames.
    pub(crate) async fn sees(&self, more: u64) {
        let mut seen = self.seen.clone();
        let goal = seen.borrow().frames + more;
        let seeing = seen.wait_for(|seen| seen.frames >= goal);
        let came = tokio::time::timeout(PATIENCE, seeing).await;
        assert!(matches!(came, Ok(Ok(_))), "no {more} more frames; told: {:?}", self.told());
    }

    /// Waits until the newest thing that viewers were told is this state.
    pub(crate) async fn hears(&self, state: &str) {
        let mut told = self.told.clone();
        let hearing = told.wait_for(|told| told.last().is_some_and(|last| last == state));
        let came = tokio::time::timeout(PATIENCE, hearing).await;
        assert!(matches!(came, Ok(Ok(_))), "viewers were not told `{state}`: {:?}", self.told());
    }
}

/// The states of `/api/live/events`; the stream is opened again when the ingest was restarted.
async fn hear(door: Door, tell: watch::Sender<Vec<String>>) {
    loop {
        if let Ok(mut stream) = door.ask(reqwest::Method::GET, "/api/live/events").send().await {
            let mut text = String::new();
            while let Ok(Some(chunk)) = stream.chunk().await {
                text.push_str(&String::from_utf8_lossy(&chunk));
                while let Some((line, rest)) = text.split_once('\n') {
                    let event: Option<serde_json::Value> =
                        line.strip_prefix("data:").and_then(|json| serde_json::from_str(json).ok());
                    let state = event.filter(|event| event["event"] == "BroadcastState");
                    if let Some(state) = state.as_ref().and_then(|event| event["data"]["state"].as_str()) {
                        tell.send_modify(|told| told.push(state.to_owned()));
                    }
                    text = rest.to_owned();
                }
            }
        }
        // The server is away: asking for it again is all that can be done.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One connection, for as long as it lives.
async fn watch_live(door: Door, show: watch::Sender<Seen>, forget: Arc<Mutex<bool>>) {
    let socket = UdpSocket::bind((door.address.ip(), 0)).await.unwrap();
    let local = socket.local_addr().unwrap();
    let (mut rtc, video) = offered(door, &socket).await;
    let mut buffer = vec![0; 2000];
    loop {
        let wake = match rtc.poll_output().expect("the viewer's connection works") {
            Output::Transmit(send) => {
                let _network_full = socket.send_to(&send.contents, send.destination).await;
                continue;
            }
            Output::Event(event) => {
                show.send_if_modified(|seen| {
                    if std::mem::take(&mut *forget.lock().unwrap()) {
                        *seen = Seen::default();
                    }
                    note(seen, &event, video)
                });
                continue;
            }
            Output::Timeout(at) => at,
        };
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, source)) = received else { continue };
                let Ok(contents) = buffer[..length].try_into() else { continue };
                let receive = Receive { proto: Protocol::Udp, source, destination: local, contents };
                rtc.handle_input(Input::Receive(Instant::now(), receive)).expect("the viewer's connection works");
            }
            () = tokio::time::sleep_until(wake.into()) => {
                rtc.handle_input(Input::Timeout(Instant::now())).expect("the viewer's connection works");
            }
        }
    }
}

/// Is it news?
fn note(seen: &mut Seen, event: &Event, video: Mid) -> bool {
    match event {
        Event::RtpPacket(packet) if packet.header.ext_vals.mid.is_none_or(|mid| mid == video) => seen.packet(packet),
        Event::IceConnectionStateChange(IceConnectionState::Disconnected) => seen.disconnects += 1,
        _ => return false,
    }
    true
}

/// Offers to receive the picture, and takes the answer.
async fn offered(door: Door, socket: &UdpSocket) -> (Rtc, Mid) {
    let crypto = Arc::new(str0m::crypto::from_feature_flags());
    let builder = Rtc::builder().set_crypto_provider(crypto).set_rtp_mode(true);
    let mut rtc = builder.clear_codecs().enable_h264(true).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap());
    let mut changes = rtc.sdp_api();
    let video = changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    let (offer, pending) = changes.apply().expect("there is something to offer");
    let request = door.ask(reqwest::Method::POST, "/whep/live");
    let response = request.header("content-type", "application/sdp").body(offer.to_sdp_string()).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let answer = SdpAnswer::from_sdp_string(&response.text().await.unwrap()).unwrap();
    rtc.sdp_api().accept_answer(pending, answer).unwrap();
    (rtc, video)
}
