//! A real Janus of our own, on this machine or in a namespace of the lab, with its admin API.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use crate::needs;
use crate::place::Place;
use crate::program::{PATIENCE, Program};

/// Takes H.264 and Opus.
pub(crate) const ROOM: u64 = 1234;
/// Takes VP8 and Opus.
pub(crate) const VP8_ROOM: u64 = 4321;
/// Takes H.264 and Opus from those who know [`PIN`].
pub(crate) const LOCKED_ROOM: u64 = 5678;
pub(crate) const PIN: &str = "p1n-of-the-room";

const ADMIN_SECRET: &str = "overlord";

/// A running Janus; ends when dropped.
pub(crate) struct Janus {
    program: Program,
    place: Place,
    files: TempDir,
    pub(crate) address: SocketAddr,
    /// Its admin API; at the same port after a restart.
    pub(crate) overseer: Admin,
    is_secure: bool,
}

/// The admin API of a Janus, which need not be there just now.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    port: u16,
    /// Where Janus runs, and what it forwards arrives.
    pub(crate) place: Place,
}

impl Janus {
    /// Sessions live 60 s without a word from us, connected or not.
    /// `None`, with the reason printed, where there is no Janus: Debian 13 has no package of it.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("session_timeout = 60\nreclaim_session_timeout = 60")
    }

    /// With these lines in the section `general` of `janus.jcfg`.
    pub(crate) fn start_with(general: &str) -> Option<Self> {
        // Not 127.0.0.1: Janus takes no media over the loopback interface.
        Self::start_as(&Place::here(), general, None)
    }

    /// The same over TLS, with this certificate and key (PEM): tokens do not travel in the clear.
    pub(crate) fn start_secure(general: &str, certificate: &str, key: &str) -> Option<Self> {
        Self::start_as(&Place::here(), general, Some((certificate, key)))
    }

    /// The same at this place, reachable at all its addresses; the admin API is there too, and asked from there.
    pub(crate) fn start_at(place: &Place, general: &str) -> Option<Self> {
        Self::start_as(place, general, None)
    }

    fn start_as(place: &Place, general: &str, tls: Option<(&str, &str)>) -> Option<Self> {
        if !needs::is_there("janus", "janus") {
            return None;
        }
        let files = tempfile::tempdir().unwrap();
        let folder = files.path();
        let address = SocketAddr::new(place.address(), place.free_port());
        let admin_port = place.free_port();
        let library = installed();
        for (kind, modules) in [("plugins", &["videoroom"][..]), ("transports", &["websockets", "http"])] {
            std::fs::create_dir(folder.join(kind)).unwrap();
            for module in modules {
                let name = format!("libjanus_{module}.so");
                symlink(library.join(kind).join(&name), folder.join(kind).join(&name)).unwrap();
            }
        }
        write_config(folder, general, place.addresses(), admin_port);
        write_websockets(folder, place.addresses(), address.port(), tls);
        let overseer = Admin { port: admin_port, place: place.clone() };
        let program = launch(place, folder);
        let mut janus = Self { program, place: place.clone(), files, address, overseer, is_secure: tls.is_some() };
        janus.wait_until_ready();
        Some(janus)
    }

    /// Ends it the hard way, and starts it again at the same ports; it has forgotten everything.
    pub(crate) fn restart(&mut self) {
        self.program.kill();
        self.program = launch(&self.place, self.files.path());
        self.wait_until_ready();
    }

    /// Ends it the hard way.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Sends it a signal by name (`STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    pub(crate) fn url(&self) -> Url {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        format!("{scheme}://{}/", self.address).parse().unwrap()
    }

    fn wait_until_ready(&mut self) {
        // The transports come in no order, and each says that it is there before Janus listens to it.
        let started = Cell::new(0);
        self.program.wait_until("two servers started", |line| {
            let starts = [
                "Websockets server started",
                "Secure Websockets server started",
                "Admin/monitor HTTP webserver started",
            ];
            started.set(started.get() + usize::from(starts.iter().any(|start| line.starts_with(start))));
            started.get() == 2
        });
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.overseer.ask(&json!({ "janus": "ping" })).is_none() {
            assert!(std::time::Instant::now() < deadline, "Janus does not answer: {:#?}", self.program.text);
        }
    }

    /// One request to the admin API.
    pub(crate) fn admin(&self, request: Value) -> Value {
        self.overseer.ask(&request).unwrap_or_else(|| panic!("the admin API does not answer {request}"))
    }

    /// One request to the VideoRoom plugin, as its administrator.
    pub(crate) fn room(&self, request: Value) -> Value {
        self.overseer.room(&request).unwrap_or_else(|| panic!("the admin API does not answer {request}"))
    }

    /// Ids of those whose media connection is up in this room.
    pub(crate) fn publishers(&self, room: u64) -> Vec<u64> {
        self.overseer.publishers(room).expect("the admin API answers")
    }

    /// The numbers of all sessions.
    pub(crate) fn sessions(&self) -> Vec<u64> {
        let list = self.admin(json!({ "janus": "list_sessions" }));
        list["sessions"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    }

    /// Where it takes the media of its one publisher; another peer connection has another port.
    pub(crate) fn media_port(&self) -> u16 {
        let text = self.handles().iter().map(Value::to_string).collect::<String>();
        let (_, pair) = text.split_once("\"selected-pair\":\"").unwrap_or_else(|| panic!("no pair: {text}"));
        let local = pair.split_whitespace().next().unwrap();
        local.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// What Janus knows of every handle of every session.
    pub(crate) fn handles(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for session in self.sessions() {
            let list = self.admin(json!({ "janus": "list_handles", "session_id": session }));
            for handle in list["handles"].as_array().into_iter().flatten() {
                let info = self.admin(json!({ "janus": "handle_info", "session_id": session, "handle_id": handle }));
                all.push(info["info"].clone());
            }
        }
        all
    }
}

impl Admin {
    /// One request; `None`: Janus is just going down or coming up.
    pub(crate) fn ask(&self, request: &Value) -> Option<Value> {
        let mut request = request.clone();
        request["transaction"] = "admin".into();
        request["admin_secret"] = ADMIN_SECRET.into();
        let body = request.to_string();
        let mut socket = self.place.run(|| TcpStream::connect(("127.0.0.1", self.port))).ok()?;
        let length = body.len();
        write!(socket, "POST /admin HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
        let mut reply = String::new();
        socket.read_to_string(&mut reply).ok()?;
        serde_json::from_str(reply.split_once("\r\n\r\n")?.1).ok()
    }

    /// One request to the VideoRoom plugin.
    pub(crate) fn room(&self, request: &Value) -> Option<Value> {
        let plugin = "janus.plugin.videoroom";
        let reply = self.ask(&json!({ "janus": "message_plugin", "plugin": plugin, "request": request }))?;
        reply.get("response").cloned()
    }

    /// Ids of those whose media connection is up in this room.
    pub(crate) fn publishers(&self, room: u64) -> Option<Vec<u64>> {
        let list = self.room(&json!({ "request": "listparticipants", "room": room }))?;
        let all = list["participants"].as_array()?.iter();
        Some(all.filter(|who| who["publisher"] == true).filter_map(|who| who["id"].as_u64()).collect())
    }
}

/// Where Debian keeps the modules, whatever the architecture.
fn installed() -> PathBuf {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("janus"));
    libraries.into_iter().find(|path| path.join("plugins").is_dir()).expect("the package `janus` is installed")
}

fn launch(place: &Place, folder: &Path) -> Program {
    let mut command = place.command("janus");
    command.arg("-F").arg(folder).arg("--disable-colors");
    Program::start(command, tempfile::tempdir().unwrap())
}

fn write_config(folder: &Path, general: &str, addresses: &[IpAddr], admin_port: u16) {
    let at = folder.display();
    let enforced: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let enforced = enforced.join(",");
    let ipv6 = addresses.iter().any(IpAddr::is_ipv6);
    let core = format!(
        "general: {{\nconfigs_folder = \"{at}\"\nplugins_folder = \"{at}/plugins\"\n\
         transports_folder = \"{at}/transports\"\nevents_folder = \"{at}/none\"\nloggers_folder = \"{at}/none\"\n\
         admin_secret = \"{ADMIN_SECRET}\"\n{general}\n}}\n\
         media: {{\nipv6 = {ipv6}\n}}\nnat: {{\nice_enforce_list = \"{enforced}\"\n}}\n"
    );
    let http = format!(
        "general: {{\njson = \"compact\"\nhttp = false\nhttps = false\n}}\n\
         admin: {{\nadmin_http = true\nadmin_port = {admin_port}\nadmin_ip = \"127.0.0.1\"\nadmin_https = false\n}}\n"
    );
    let room = |number: u64, codec: &str, more: &str| {
        format!("room-{number}: {{\npublishers = 3\nvideocodec = \"{codec}\"\naudiocodec = \"opus\"\n{more}}}\n")
    };
    let rooms =
        [room(ROOM, "h264", ""), room(VP8_ROOM, "vp8", ""), room(LOCKED_ROOM, "h264", &format!("pin = \"{PIN}\"\n"))];
    for (name, text) in [
        ("janus.jcfg", core),
        ("janus.transport.http.jcfg", http),
        ("janus.plugin.videoroom.jcfg", format!("general: {{\n}}\n{}", rooms.concat())),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn write_websockets(folder: &Path, addresses: &[IpAddr], port: u16, tls: Option<(&str, &str)>) {
    let mut certificates = String::new();
    if let Some((certificate, key)) = tls {
        for (name, pem) in [("cert_pem", certificate), ("cert_key", key)] {
            let path = folder.join(name);
            std::fs::write(&path, pem).unwrap();
            certificates.push_str(&format!("{name} = \"{}\"\n", path.display()));
        }
    }
    let (kind, other) = if tls.is_some() { ("wss", "ws") } else { ("ws", "wss") };
    // Janus binds its WebSockets to one address or to all.
    let ip = if let [ip] = addresses { format!("{kind}_ip = \"{ip}\"\n") } else { String::new() };
    let text = format!(
        "general: {{\njson = \"compact\"\n{kind} = true\n{kind}_port = {port}\n{ip}{other} = false\n}}\n\
         admin: {{\nadmin_ws = false\n}}\ncertificates: {{\n{certificates}}}\n"
    );
    std::fs::write(folder.join("janus.transport.websockets.jcfg"), text).unwrap();
}
