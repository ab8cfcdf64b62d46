//! Pure: `[control]`: who may talk to the running encoder.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::document::Document;
use crate::config::file;
use crate::config::words::quoted;
use crate::config::{Control, ControlSocket};

pub(super) fn check(document: &mut Document<'_>, file: &file::Control) -> Option<Control> {
    let socket = match file.socket.as_deref() {
        None => Some(ControlSocket::Default),
        Some("") => Some(ControlSocket::Off),
        Some(path) if Path::new(path).is_absolute() => Some(ControlSocket::At(path.into())),
        Some(path) => {
            let words = format!("`control.socket` must be a path from the root, not {}", quoted(path));
            document.complain("control.socket", words, Some("\"\" turns the socket off"));
            None
        }
    };
    let listen = match file.listen.as_deref().map(|text| (text, text.parse::<SocketAddr>())) {
        None => Some(None),
        Some((_, Ok(address))) => Some(Some(address)),
        Some((text, Err(_))) => {
            let words =
                format!("`control.listen` must be `address:port`, such as \"127.0.0.1:8470\", not {}", quoted(text));
            document.complain("control.listen", words, None);
            None
        }
    };
    let open_to_all = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
    if listen.flatten().as_ref().is_some_and(open_to_all) && file.token_file.is_none() {
        let words = "`control.listen` is open to other machines: it needs `control.tokenFile`";
        document.complain("control.listen", words, Some("or listen on 127.0.0.1"));
    }
    Some(Control { socket: socket?, listen: listen?, token_file: file.token_file.as_ref().map(Into::into) })
}
