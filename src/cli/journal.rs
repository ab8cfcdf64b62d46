//! Log lines for journald, in its native protocol (systemd.io, "Native Journal Protocol"), with fields.
//!
//! Not `tracing-journald`: that sends from the thread that logs, and a journald that hangs stops it there.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::app::writer::WriterThread;
use crate::config::mask::masked;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends each event to journald.
pub(super) struct Journal(Arc<WriterThread>);

impl Journal {
    /// Connects.
    ///
    /// # Errors
    /// There is no journald.
    pub(super) fn connect() -> io::Result<(Self, Arc<WriterThread>)> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        let writer = Arc::new(WriterThread::start(move |record| {
            // A journald that restarts misses a line, no more: its socket stays.
            let _missed = socket.send(record);
            Ok(())
        }));
        Ok((Self(Arc::clone(&writer)), writer))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let lost = self.0.write(record(event));
        if lost > 0 {
            let mut note = Vec::new();
            put(&mut note, "PRIORITY", "4");
            put(&mut note, "SYSLOG_IDENTIFIER", "roamcast");
            put(&mut note, "MESSAGE", &format!("{lost} log lines were lost: journald was too slow"));
            self.0.write(note);
        }
    }
}

fn record(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    // syslog(3): err, warning, info, debug.
    let priority = match *metadata.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut record = Vec::new();
    put(&mut record, "PRIORITY", priority);
    put(&mut record, "SYSLOG_IDENTIFIER", "roamcast");
    put(&mut record, "TARGET", metadata.target());
    put(&mut record, "MESSAGE", &masked(&fields.message));
    for (name, value) in &fields.others {
        put(&mut record, &format!("F_{}", name_of(name)), &masked(value));
    }
    record
}

/// What an event carries besides level and target.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _infallible = write!(text, "{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.push((field.name(), text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// journald takes capitals, digits and underscores.
fn name_of(field: &str) -> String {
    let upper = field.chars().map(|c| c.to_ascii_uppercase());
    upper.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A field; its length stands before the value when that has more than one line.
fn put(record: &mut Vec<u8>, name: &str, value: &str) {
    record.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        record.push(b'\n');
        record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        record.push(b'=');
    }
    record.extend_from_slice(value.as_bytes());
    record.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_several_lines_carry_their_length() {
        let mut record = Vec::new();
        put(&mut record, "MESSAGE", "one line");
        put(&mut record, "F_SDP", "v=0\nm=");
        assert_eq!(record, b"MESSAGE=one line\nF_SDP\n\x06\0\0\0\0\0\0\0v=0\nm=\n");
    }

    #[test]
    fn names_are_such_as_journald_takes() {
        assert_eq!(name_of("retry.in-ms"), "RETRY_IN_MS");
    }
}
