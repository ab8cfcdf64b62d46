//! A TCP relay that passes everything on, remembers it, and can be cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// All bytes of one connection in one direction.
type Bytes = Arc<Mutex<Vec<u8>>>;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Every connection is reset, new ones too.
    Cut,
    /// Connections stay open, and nothing passes: half-open TCP.
    Silent,
}

/// A running relay; ends when dropped.
pub(crate) struct Relay {
    pub(crate) port: u16,
    sent: Arc<Mutex<Vec<Bytes>>>,
    wire: watch::Sender<Wire>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.texts().iter().for_each(|text| crate::secrets_kept::learn_from_wire(text));
    }
}

impl Relay {
    /// Passes connections on to this port of 127.0.0.1.
    pub(crate) async fn to(port: u16) -> Self {
        Self::to_address(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await
    }

    /// Passes connections on to this address, and listens at the same IP: the encoder looks at where the server is when it
    /// chooses the addresses that it offers.
    pub(crate) async fn to_address(server: SocketAddr) -> Self {
        Self::between(server.ip(), server).await
    }

    /// Listens at this IP and passes connections on to this address.
    pub(crate) async fn between(here: IpAddr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((here, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let sent: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let record = Arc::clone(&sent);
        let (wire, state) = watch::channel(Wire::Whole);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *state.borrow() == Wire::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                    let bytes = Bytes::default();
                    record.lock().unwrap().push(Arc::clone(&bytes));
                    tokio::spawn(pass(from, to, bytes, state.clone()));
                }
            }
        });
        Self { port: own, sent, wire, task }
    }

    /// Ends every connection, and every new one at once, until [`Relay::heal`].
    pub(crate) fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Lets nothing pass any more, though every connection stays open, until [`Relay::heal`].
    pub(crate) fn silence(&self) {
        self.wire.send_replace(Wire::Silent);
    }

    /// As good as new.
    pub(crate) fn heal(&self) {
        self.wire.send_replace(Wire::Whole);
    }

    /// Everything so far, one text for each connection and direction, in the order of their beginning.
    pub(crate) fn texts(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        sent.iter().map(|bytes| String::from_utf8_lossy(&unmasked(&bytes.lock().unwrap())).into_owned()).collect()
    }

    /// The request lines so far (`POST /whip/live`).
    pub(crate) fn requests(&self) -> Vec<String> {
        let texts = self.texts();
        let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        // A request may follow right after the body of the one before.
        let requests = lines.filter_map(|line| {
            ["POST /", "PATCH /", "DELETE /"].iter().find_map(|start| line.find(start).map(|at| line[at..].to_owned()))
        });
        requests.collect()
    }
}

/// What a WebSocket client says is masked (RFC 6455, section 5.3); here it is not.
fn unmasked(bytes: &[u8]) -> Vec<u8> {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let head = bytes.windows(4).position(|window| window == HEAD_END).map_or(bytes.len(), |at| at + 4);
    let (head, mut rest) = bytes.split_at(head);
    let mut plain = head.to_vec();
    if String::from_utf8_lossy(head).to_ascii_lowercase().contains("sec-websocket-key:") {
        while let Some((payload, after)) = frame(rest) {
            plain.extend(payload);
            plain.push(b'\n');
            rest = after;
        }
    }
    plain.extend(rest);
    plain
}

/// The payload of the first masked frame, and what follows it.
fn frame(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let [_, second, rest @ ..] = bytes else { return None };
    let extra = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let (length, rest) = rest.split_at_checked(extra)?;
    let length = match extra {
        0 => usize::from(second & 0x7f),
        _ => length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    let (key, rest) = rest.split_at_checked(if second & 0x80 == 0 { 0 } else { 4 })?;
    let (payload, rest) = rest.split_at_checked(length)?;
    let unmask = |(at, byte): (usize, &u8)| byte ^ key.get(at % 4).copied().unwrap_or(0);
    Some((payload.iter().enumerate().map(unmask).collect(), rest))
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, record: Bytes, mut wire: watch::Receiver<Wire>) {
    let mut buffer = [0; 16 * 1024];
    let mut state = wire.clone();
    let passing = async {
        // Errors: one side has hung up, and so does the other by the drop of our halves.
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if state.wait_for(|wire| *wire != Wire::Silent).await.is_err() {
                return;
            }
            record.lock().unwrap().extend_from_slice(&buffer[..length]);
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = passing => {}
        _cut_or_test_over = wire.wait_for(|wire| *wire == Wire::Cut) => {}
    }
}
