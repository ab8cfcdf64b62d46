//! The real program as a child process: its events, its end, what it uses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::secrets_kept;

/// Far more than anything takes on two busy cores; a test that hits it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long [`Program::at_rest`] looks. An idle thread of a pool ends before: those of GLib (each element of GStreamer borrows
/// one, and leaves its name on it) after 15 s, those of tokio for blocking work after 10 s. What was there all the time is
/// in use, or leaked.
const REST: Duration = Duration::from_secs(20);

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
    /// Where its state file is, if it keeps one.
    state: Option<PathBuf>,
    /// All that it wrote anywhere: standard output, standard error, the log at level trace.
    kept: Vec<PathBuf>,
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
        File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        secrets_kept::learn_from_config(config);
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
        let is_ours = command.get_program() == env!("CARGO_BIN_EXE_roamcast");
        let trace = command.get_envs().find(|(name, _)| *name == "ROAMCAST_TRACE_FILE").and_then(|(_, path)| path);
        let mut files_kept: Vec<PathBuf> = trace.into_iter().map(PathBuf::from).collect();
        let mut keep = |kind| {
            (is_ours && secrets_kept::WANTED).then(|| {
                files_kept.push(secrets_kept::new_log(kind));
                File::create(&files_kept[files_kept.len() - 1]).unwrap()
            })
        };
        let (mut kept_out, mut kept_err) = (keep("stdout"), keep("stderr"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                also_to(&mut kept_out, &line);
                let _test_over = send.send((Instant::now(), line));
            }
        });
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                also_to(&mut kept_err, &line);
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let state = learn_from_command(&command);
        Self {
            child,
            lines,
            events: Vec::new(),
            text: Vec::new(),
            looked_at: 0,
            log,
            state,
            kept: files_kept,
            _files: files,
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// All that it wrote anywhere so far, and all that it logged at level trace.
    pub(crate) fn everything(&self) -> String {
        let texts = self.kept.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default());
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Reads events until one fits, and gives it back. Panics with all that was heard when none does in time.
    pub(crate) fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> (Instant, Value) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(event) = self.next_before(deadline) {
            if fits(&event.1) {
                return event;
            }
        }
        let errors = self.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
        let errors: Vec<_> = errors.map(|(_, event)| event["data"]["words"].as_str().unwrap_or_default()).collect();
        let (messages, lines, log) = (self.messages(), &self.text, self.log());
        panic!("no {what}\nevents: {messages:#?}\nerrors: {errors:#?}\nlines: {lines:#?}\nlog: {log}");
    }

    /// Waits for a BroadcastStatus with this message.
    pub(crate) fn wait_for_message(&mut self, message: &str) -> (Instant, Value) {
        self.wait_for(message, |event| is_message(event, message))
    }

    /// On air by a new session.
    pub(crate) fn reconnect(&mut self) {
        self.signal("USR1");
        self.wait_for_message("reconnecting_broadcast");
        self.wait_for_message("broadcasting");
    }

    /// Waits for the first figures after this time.
    pub(crate) fn wait_for_stats_after(&mut self, time: Instant) {
        while self.wait_for("Stats", |event| event["event"] == "Stats").0 < time {}
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
        let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        if let Some(state) = &self.state {
            secrets_kept::learn_from_state(state);
        }
        match line {
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

    /// Resident kB right now.
    pub(crate) fn rss_kb(&self) -> f64 {
        self.memory_kb("VmRSS:")
    }

    /// The same without what is in files anyway: programs and libraries, which come in page by page as they are needed.
    pub(crate) fn own_kb(&self) -> f64 {
        self.memory_kb("RssAnon:")
    }

    fn memory_kb(&self, kind: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap()
    }

    /// Open files right now.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Threads and open files that are there all the time for [`REST`]: nothing may happen to it meanwhile.
    pub(crate) fn at_rest(&mut self) -> AtRest {
        self.at_rest_weighed().0
    }

    /// The same, and how many kB of memory it has then: the middle figure of the second half, when all is quiet.
    pub(crate) fn at_rest_weighed(&mut self) -> (AtRest, f64) {
        let (until, mut least, mut own_kb) = (Instant::now() + REST, None, Vec::new());
        while Instant::now() < until {
            own_kb.push(self.own_kb());
            let now = self.in_use();
            least = Some(least.map_or_else(|| now.clone(), |least: AtRest| least.and(&now)));
            // Its figures, once a second, are read meanwhile.
            self.next_before(Instant::now() + Duration::from_millis(200));
        }
        let quiet = own_kb.len() / 2;
        own_kb[quiet..].sort_by(f64::total_cmp);
        (least.unwrap(), own_kb[(quiet + own_kb.len()) / 2])
    }

    fn in_use(&self) -> AtRest {
        let list = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", self.pid())).unwrap().flatten();
        let count = |names: &mut dyn Iterator<Item = String>| {
            let mut counts = BTreeMap::new();
            // What ends while it is looked at has no name, and is not counted.
            names.filter(|name| !name.is_empty()).for_each(|name| *counts.entry(name).or_insert(0) += 1);
            counts
        };
        // The element without its number; the kernel cuts what comes behind it.
        let comm = |task: std::fs::DirEntry| {
            let name = unnumbered(&std::fs::read_to_string(task.path().join("comm")).unwrap_or_default());
            match name.split(':').next().unwrap_or_default() {
                // `webrtcbin1000:pc` is too long for a name: that thread keeps the name of the one that has begun it.
                "webrtcbin" => "tokio-rt-worker".to_owned(),
                name => name.to_owned(),
            }
        };
        let target = |fd: std::fs::DirEntry| {
            unnumbered(&std::fs::read_link(fd.path()).unwrap_or_default().display().to_string())
        };
        AtRest { threads: count(&mut list("task").map(comm)), files: count(&mut list("fd").map(target)) }
    }
}

/// `queue12:src` and `queue7:src` are the same thing of two sessions.
fn unnumbered(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_ascii_digit()).collect()
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            secrets_kept::learn_from_state(state);
        }
        self.kill();
    }
}

/// Keeps a line for the search at the end of the run.
fn also_to(log: &mut Option<File>, line: &str) {
    if let Some(log) = log {
        log.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Learns what secrets it is started with; gives the folder of its state file.
fn learn_from_command(command: &Command) -> Option<PathBuf> {
    let arguments: Vec<_> = command.get_args().collect();
    for pair in arguments.windows(2).filter(|pair| pair[0] == "--token-file") {
        secrets_kept::learn_from_file(pair[1].as_ref());
    }
    for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))) {
        match name {
            "ROAMCAST__UPLINK__TOKEN" => secrets_kept::learn("bearer token", value),
            "ROAMCAST__UPLINK__TOKEN_FILE" => secrets_kept::learn_from_file(value.as_ref()),
            _ => {}
        }
    }
    command.get_envs().find(|(name, _)| *name == "STATE_DIRECTORY").and_then(|(_, value)| value).map(PathBuf::from)
}

/// What a process has, by name without digits, and how many of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AtRest {
    pub(crate) threads: BTreeMap<String, usize>,
    pub(crate) files: BTreeMap<String, usize>,
}

impl AtRest {
    /// What is in both.
    fn and(&self, other: &Self) -> Self {
        let both = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
            a.iter().filter_map(|(name, n)| Some((name.clone(), *n.min(b.get(name)?)))).collect()
        };
        Self { threads: both(&self.threads, &other.threads), files: both(&self.files, &other.files) }
    }
}

/// Is this a BroadcastStatus with this message?
pub(crate) fn is_message(event: &Value, message: &str) -> bool {
    event["event"] == "BroadcastStatus" && event["data"]["message"] == message
}

/// The program that cargo built for the tests. Without a control socket: encoders of tests that run at once would compete
/// for the one of this machine. All that it logs is kept besides, for the search at the end of the run.
pub(crate) fn roamcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roamcast"));
    command.env_remove("ROAMCAST_CONFIG").env_remove("ROAMCAST_LOG").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command.env("ROAMCAST__CONTROL__SOCKET", "").env_remove("ROAMCAST_SOCKET").env_remove("RUNTIME_DIRECTORY");
    command.env_remove("STATE_DIRECTORY").env_remove("ROAMCAST_TRACE_FILE");
    if secrets_kept::WANTED {
        command.env("ROAMCAST_TRACE_FILE", secrets_kept::new_log("trace"));
    }
    secrets_kept::keep_own_log();
    command
}

/// A TCP port of 127.0.0.1 that nobody uses right now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
