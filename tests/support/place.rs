//! Where a part of a test lives: this machine itself, or a network namespace of the lab.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns};

use crate::program::free_port;

/// This machine, or a network namespace; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As `ip netns` names it; `None`: where the tests themselves run.
    namespace: Option<String>,
    addresses: Vec<IpAddr>,
}

impl Place {
    /// This machine, at the address from which it reaches others. Sends nothing.
    pub(crate) fn here() -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("198.51.100.1:9").expect("this machine has an address besides 127.0.0.1");
        Self { namespace: None, addresses: vec![socket.local_addr().unwrap().ip()] }
    }

    /// This machine, by its loopback interface alone.
    pub(crate) fn loopback() -> Self {
        Self { namespace: None, addresses: vec![Ipv4Addr::LOCALHOST.into()] }
    }

    /// The network namespace of this name, whose servers are reached at these addresses (none where nobody serves).
    pub(crate) fn in_namespace(name: &str, addresses: &[IpAddr]) -> Self {
        Self { namespace: Some(name.to_owned()), addresses: addresses.to_vec() }
    }

    /// Where others reach a server of this place; the first is IPv4.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The first of [`Place::addresses`].
    pub(crate) fn address(&self) -> IpAddr {
        *self.addresses.first().expect("servers run at this place")
    }

    /// A command for this program; it runs as a child of ours, with its own pid, in this place.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.wrap(&Command::new(program))
    }

    /// The same command in this place: program, arguments, environment and folder.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = match &self.namespace {
            // It becomes the program by exec, so the pid is the program's.
            Some(name) => {
                let mut wrapped = Command::new("ip");
                wrapped.args(["netns", "exec", name]).arg(command.get_program());
                wrapped
            }
            None => Command::new(command.get_program()),
        };
        wrapped.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        wrapped
    }

    /// Does this in this place (on a thread of its own, if that is elsewhere) and waits for it. Sockets made there stay there and may be used from anywhere.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.namespace.is_none() {
            return work();
        }
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Does this on a thread in this place, while we go on.
    pub(crate) fn spawn<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
        let place = self.clone();
        std::thread::spawn(move || {
            place.enter();
            work()
        })
    }

    /// An asynchronous runtime whose every task is in this place. `block_on` is not: it polls where its caller is.
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        let place = self.clone();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().on_thread_start(move || place.enter());
        builder.build().unwrap()
    }

    /// A TCP port of 127.0.0.1 that nobody in this place uses right now.
    pub(crate) fn free_port(&self) -> u16 {
        self.run(free_port)
    }

    /// Takes the present thread, and those that it will start, into this place.
    pub(crate) fn enter(&self) {
        let Some(name) = &self.namespace else { return };
        let path = namespace_path(name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Where `ip netns` keeps a namespace.
pub(crate) fn namespace_path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}
