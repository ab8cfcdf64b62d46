//! A TCP relay on 127.0.0.1 that passes everything on and remembers it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// All bytes of one connection in one direction.
type Bytes = Arc<Mutex<Vec<u8>>>;

/// A running relay; ends when dropped.
pub(crate) struct Relay {
    pub(crate) port: u16,
    sent: Arc<Mutex<Vec<Bytes>>>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Passes connections on to this port of 127.0.0.1.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let sent: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let record = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                    let bytes = Bytes::default();
                    record.lock().unwrap().push(Arc::clone(&bytes));
                    tokio::spawn(pass(from, to, bytes));
                }
            }
        });
        Self { port: own, sent, task }
    }

    /// Everything so far, one text for each connection and direction, in the order of their beginning.
    pub(crate) fn texts(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        sent.iter().map(|bytes| String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()).collect()
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

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, record: Bytes) {
    let mut buffer = [0; 16 * 1024];
    // Errors: one side has hung up, and so does the other by the drop of our halves.
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        record.lock().unwrap().extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
