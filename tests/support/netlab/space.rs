//! The network namespaces of a lab: made, swept, and gone with everything in them when dropped.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::{Place, namespace_path};

/// Names are `PREFIX-pid-number-role`: labs of several processes, and several of one, live side by side.
pub(super) const PREFIX: &str = "rclab";

/// One namespace; it and every process in it end when this is dropped.
pub(super) struct Namespace {
    name: String,
    pub(super) place: Place,
}

impl Namespace {
    /// A new one in which servers are reached at these addresses. `sysctl`: settings before any device is there.
    pub(super) fn new(lab: u32, role: &str, addresses: &[IpAddr], sysctl: &[&str]) -> Self {
        let name = format!("{PREFIX}-{}-{lab}-{role}", std::process::id());
        expect_success("ip", &["netns", "add", &name], "");
        let space = Self { place: Place::in_namespace(&name, addresses), name };
        let loopback = "net.ipv6.conf.lo.disable_ipv6=0";
        // No wait until duplicates of an address are ruled out, and no address but those of the lab.
        let quiet = ["net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.accept_ra=0", loopback];
        let settings: Vec<&str> = ["-qw"].into_iter().chain(quiet).chain(sysctl.iter().copied()).collect();
        space.expect("sysctl", &settings, "");
        space.ip("link set lo up\n");
        space
    }

    /// As `ip netns` knows it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Carries out lines of `ip -batch` here.
    pub(super) fn ip(&self, lines: &str) {
        expect_success("ip", &["-n", &self.name, "-batch", "-"], lines);
    }

    /// Runs a tool here, which must succeed.
    pub(super) fn expect(&self, tool: &str, arguments: &[&str], input: &str) -> Output {
        let all: Vec<&str> = ["netns", "exec", &self.name, tool].into_iter().chain(arguments.iter().copied()).collect();
        expect_success("ip", &all, input)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The number of the next lab of this process.
pub(super) fn next_lab() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes what killed test runs have left behind.
pub(super) fn sweep() {
    let leftover = |name: &String| {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    names().iter().filter(|name| leftover(name)).for_each(|name| remove(name));
}

/// All namespaces of this machine that have a name.
pub(super) fn names() -> Vec<String> {
    // An error: there is none yet, so not even their folder.
    let entries = std::fs::read_dir(namespace_path("")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends every process in it, then the namespace. Never panics: it runs while a test is panicking.
fn remove(name: &str) {
    let own = nix::unistd::getpid();
    let listed = Command::new("ip").args(["netns", "pids", name]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for pid in listed.lines().filter_map(|line| line.trim().parse().ok()).map(Pid::from_raw) {
        if pid != own {
            // An error: it has just ended by itself.
            let _gone = kill(pid, Signal::SIGKILL);
        }
    }
    match Command::new("ip").args(["netns", "del", name]).output() {
        Ok(output) if output.status.success() => {}
        // Another test process may have swept it just now.
        failed if namespace_path(name).exists() => eprintln!("netlab: `{name}` could not be removed: {failed:?}"),
        _ => {}
    }
}

fn expect_success(program: &str, arguments: &[&str], input: &str) -> Output {
    let piped = |command: &mut Command| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Dropped at once, or the program would wait for more.
        child.stdin.take().expect("a pipe").write_all(input.as_bytes())?;
        child.wait_with_output()
    };
    let output = piped(Command::new(program).args(arguments));
    match output {
        Ok(output) if output.status.success() => output,
        failed => panic!("{program} {arguments:?} with {input:?}: {failed:?}"),
    }
}
