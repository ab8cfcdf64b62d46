//! The windows - HTTP on a unix socket, and on TCP when asked: what is true, what happens, and what an operator wants.
//!
//! Nothing here decides anything: what is shown comes from the board ([`feed::Feed`]), what is wanted goes into the inbox,
//! and new settings pass the front door of the config first ([`desk::Desk`]).

mod api;
pub mod desk;
pub mod feed;
mod guard;
mod listen;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::{Control, ControlSocket};
use crate::server::seats::Limits;
use crate::server::{files, serve};
use desk::Desk;
use guard::Guard;
use listen::SocketFile;

pub use api::Changed;
pub use feed::Report;

/// At the end readers get this long for the last events; Ctrl-C has to be done within 2 s.
const GOODBYE: Duration = Duration::from_millis(200);

/// Connections to the unix socket: operators and their programs, for none of whom the crowd on TCP matters.
const AT_THE_SOCKET: Limits = Limits { total: 128, per_address: 128 };
/// Connections over TCP: as many readers of events as there may be, and as many again for all else.
const OVER_TCP: Limits = Limits { total: 128, per_address: 96 };

/// Where the socket is when nobody says: in systemd's `RuntimeDirectory=` (for `roamcast@x` it is /run/roamcast-x), else
/// where the unit of a single encoder would have it.
#[must_use]
pub fn default_socket() -> PathBuf {
    // systemd joins several by colons; ours names one.
    let given = std::env::var("RUNTIME_DIRECTORY").ok();
    let folder = given.as_deref().and_then(|list| list.split(':').next()).filter(|folder| !folder.is_empty());
    Path::new(folder.unwrap_or("/run/roamcast")).join("control.sock")
}

/// Open windows; [`Windows::close`] closes them.
pub struct Windows {
    servers: JoinSet<()>,
    /// Dropping it is the order to stop.
    stop: watch::Sender<()>,
    /// Removes the socket when it is dropped.
    _file: Option<SocketFile>,
}

impl Windows {
    /// Opens what the config asks for.
    ///
    /// # Errors
    /// One sentence when a socket or address that the config names cannot be had. The socket that no one named is not
    /// worth a broadcast: then there is a line in the log.
    pub async fn open(config: &Control, desk: &Arc<Desk>) -> Result<Self, String> {
        let (stop, stopped) = watch::channel(());
        let mut servers = JoinSet::new();
        let socket = match &config.socket {
            ControlSocket::Off => None,
            ControlSocket::At(path) => {
                Some(listen::unix(path).await.map_err(|words| format!("`control.socket`: {words}"))?)
            }
            ControlSocket::Default => {
                let path = default_socket();
                // systemd has made it, root can; whoever may not goes without.
                let _may_exist = path.parent().map(std::fs::create_dir_all);
                let opened = listen::unix(&path).await;
                opened
                    .inspect_err(|words| warn!("`roamcast status` and the like cannot reach this encoder: {words}"))
                    .ok()
            }
        };
        let file = socket.map(|(listener, file)| {
            servers.spawn(serve(listener, api::routes(desk), "control socket", AT_THE_SOCKET, stopped.clone()));
            file
        });
        if let Some(address) = config.listen {
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.map_err(|error| format!("`control.listen`: nothing can listen on {address}: {error}"))?;
            // The port may have been 0.
            info!("control API on http://{}", listener.local_addr().unwrap_or(address));
            let router = guard::around(api::routes(desk), Guard::new(config.token_file.clone()));
            let limits = Limits { total: files::connections(OVER_TCP.total), ..OVER_TCP };
            servers.spawn(serve(listener, router, "control API over TCP", limits, stopped));
        }
        Ok(Self { servers, stop, _file: file })
    }

    /// Lets readers have the last events, then closes. The feed must have ended: a reader of events hangs on it.
    pub async fn close(mut self) {
        drop(self.stop);
        let all_gone = async { while self.servers.join_next().await.is_some() {} };
        let _too_slow = timeout(GOODBYE, all_gone).await;
    }
}
