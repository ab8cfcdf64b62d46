//! The real program as a child process: its events, its end, what it uses.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far more than anything takes on two busy cores; a test that hits it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A child that is ended, by its pid, when this is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<(Instant, String)>,
    /// Every JSON event so far with its time of arrival.
    pub(crate) events: Vec<(Instant, Value)>,
    /// Every other line so far.
    pub(crate) text: Vec<String>,
    /// How many lines of text [`Program::wait_until`] has gone through.
    looked_at: usize,
    log: Arc<Mutex<String>>,
    _files: tempfile::TempDir,
}

impl Program {
    /// `roamcast run --events json` with this config.
    pub(crate) fn encoder(config: &str) -> Self {
        Self::encoder_with(config, |_| {})
    }

    /// The same, with what `prepare` does to the command.
    pub(crate) fn encoder_with(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("config.toml");
        std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let mut command = roamcast();
        command.args(["run", "--events", "json", "-c"]).arg(&path);
        prepare(&mut command);
        Self::start(command, files)
    }

    /// `roamcast` with these arguments.
    pub(crate) fn with(args: &[&str]) -> Self {
        let mut command = roamcast();
        command.args(args);
        Self::start(command, tempfile::tempdir().unwrap())
    }

    /// Any command; its standard output is read line by line, its standard input stays open as long as it lives.
    pub(crate) fn start(mut command: Command, files: tempfile::TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _test_over = send.send((Instant::now(), line));
            }
        });
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, lines, events: Vec::new(), text: Vec::new(), looked_at: 0, log, _files: files }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Reads events until one fits, and gives it back. Panics with all that was heard when none does in time.
    pub(crate) fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> (Instant, Value) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(event) = self.next_before(deadline) {
            if fits(&event.1) {
                return event;
            }
        }
        panic!("no {what}\nevents: {:#?}\nlines: {:#?}\nlog: {}", self.messages(), self.text, self.log());
    }

    /// Waits for a BroadcastStatus with this message.
    pub(crate) fn wait_for_message(&mut self, message: &str) -> (Instant, Value) {
        self.wait_for(message, |event| is_message(event, message))
    }

    /// Waits for a line of text that contains `part`.
    pub(crate) fn wait_for_line(&mut self, part: &str) {
        self.wait_until(part, |line| line.contains(part));
    }

    /// Reads lines of text until one fits that has not been looked at yet.
    pub(crate) fn wait_until(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(line) = self.text.get(self.looked_at) {
                self.looked_at += 1;
                if fits(line) {
                    return;
                }
            }
            let more = self.next_before(deadline);
            assert!(more.is_some(), "no line with {what}: {:#?}\n{}", self.text, self.log());
        }
    }

    /// The next event (or `Null` for a line of text); `None` at the deadline or when it has ended.
    fn next_before(&mut self, deadline: Instant) -> Option<(Instant, Value)> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((at, line)) => match serde_json::from_str::<Value>(&line) {
                Ok(event) if event.is_object() => {
                    self.events.push((at, event.clone()));
                    Some((at, event))
                }
                _ => {
                    self.text.push(line);
                    Some((at, Value::Null))
                }
            },
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Takes in whatever it has written until now.
    pub(crate) fn catch_up(&mut self) {
        while self.next_before(Instant::now()).is_some() {}
    }

    /// All BroadcastStatus messages so far.
    pub(crate) fn messages(&self) -> Vec<String> {
        let status = self.events.iter().filter(|(_, event)| event["event"] == "BroadcastStatus");
        status.filter_map(|(_, event)| event["data"]["message"].as_str().map(str::to_owned)).collect()
    }

    /// Sends a signal by name (`TERM`, `KILL`, `STOP`).
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success(), "kill -{name} {}", self.pid());
    }

    /// Reads to the end and gives the exit code back.
    pub(crate) fn wait_for_exit(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while self.next_before(deadline).is_some() {}
        assert!(Instant::now() < deadline, "still running; events: {:#?}\n{}", self.messages(), self.log());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Ends it the hard way and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Threads, open files and resident kB right now.
    pub(crate) fn usage(&self) -> Usage {
        let proc = format!("/proc/{}", self.pid());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let files = std::fs::read_dir(format!("{proc}/fd")).unwrap().count();
        Usage { threads: number("Threads:"), files, rss_kb: number("VmRSS:") }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) threads: usize,
    pub(crate) files: usize,
    pub(crate) rss_kb: usize,
}

/// Is this a BroadcastStatus with this message?
pub(crate) fn is_message(event: &Value, message: &str) -> bool {
    event["event"] == "BroadcastStatus" && event["data"]["message"] == message
}

/// The program that cargo built for the tests. Without a control socket: encoders of tests that run at once would compete
/// for the one of this machine.
pub(crate) fn roamcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roamcast"));
    command.env_remove("ROAMCAST_CONFIG").env_remove("ROAMCAST_LOG").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command.env("ROAMCAST__CONTROL__SOCKET", "").env_remove("ROAMCAST_SOCKET").env_remove("RUNTIME_DIRECTORY");
    command.env_remove("STATE_DIRECTORY");
    command
}

/// A TCP port of 127.0.0.1 that nobody uses right now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
