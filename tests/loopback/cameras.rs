//! IP cameras of this machine's own, as many as wanted in one process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Ended, by its pid, when this is dropped.
pub(crate) struct Cameras {
    process: Child,
    port: u16,
}

impl Cameras {
    /// One for each `(name, launch text)`; `None`, with the reason printed, where they cannot be had.
    pub(crate) fn start(cameras: &[(&str, String)]) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/rtsp_camera.py");
        // Debian's own Python: another one on the PATH does not see Debian's python3-gi.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(cameras.iter().map(|(name, launch)| format!("{name} {launch}")));
        let mut process = match command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) => {
                println!("skipped: `python3` cannot be started: {error}");
                return None;
            }
        };
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let Ok(port) = port.trim().parse() else {
            process.wait().unwrap();
            println!(
                "skipped: `rtsp_camera.py` needs the Debian packages `python3-gi` and `gir1.2-gst-rtsp-server-1.0`"
            );
            return None;
        };
        Some(Self { process, port })
    }

    /// The address of the camera of this name, with a password in it.
    pub(crate) fn uri(&self, name: &str) -> String {
        format!("rtsp://user:secret@127.0.0.1:{}/{name}", self.port)
    }

    /// All cameras are gone at once.
    pub(crate) fn unplug(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _already_gone = self.process.wait();
    }
}
