//! A reverse proxy in front of a WHIP server: passes everything on, or refuses in its name (as while the server is restarted,
//! or behind a captive portal).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running proxy; ends when dropped.
pub(crate) struct Gate {
    pub(crate) port: u16,
    /// What is said instead of passing on; `None`: nothing.
    refusal: watch::Sender<Option<String>>,
    refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gate {
    /// Passes on to this port of 127.0.0.1.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (refusal, state) = watch::channel(None);
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(serve(near, server, state.clone(), Arc::clone(&count)));
            }
        });
        Self { port, refusal, refused, task }
    }

    /// From now on every request is answered with this (a whole HTTP answer); connections that are open are cut.
    pub(crate) fn refuse(&self, answer: &str) {
        self.refusal.send_replace(Some(answer.to_owned()));
    }

    /// From now on everything is passed on again.
    pub(crate) fn open(&self) {
        self.refusal.send_replace(None);
    }

    /// How many requests it has refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

async fn serve(mut near: TcpStream, server: u16, mut state: watch::Receiver<Option<String>>, count: Arc<AtomicUsize>) {
    let refusal = state.borrow_and_update().clone();
    if let Some(answer) = refusal {
        let mut request = Vec::new();
        // The whole head: the body may or may not be there, and is of no use.
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            if near.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
        let _gone = near.write_all(answer.as_bytes()).await;
        let _gone = near.shutdown().await;
        // Ending with something unread would reset the connection, and the answer might be lost.
        let mut rest = [0; 4096];
        while near.read(&mut rest).await.unwrap_or(0) > 0 {}
        return;
    }
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    tokio::select! {
        _ended = copy_bidirectional(&mut near, &mut far) => {}
        _changed = state.changed() => {}
    }
}
