//! The link itself: a thread between two TAP devices, one in the encoder's namespace and one in the router's.
//!
//! In user space because the kernels of small virtual machines come without `netem`.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::link::Link;
use super::pipe::{Counts, Pipe};
use crate::place::Place;

/// What a link has done so far.
#[derive(Clone)]
pub(crate) struct LinkStats {
    pub(crate) up: Counts,
    pub(crate) down: Counts,
    /// Microseconds by which packets arrived too late, sorted.
    lateness_us: Vec<u32>,
}

impl LinkStats {
    /// The lateness that this part (0 to 1) of the packets did not exceed.
    pub(crate) fn lateness(&self, part: f64) -> Duration {
        let last = self.lateness_us.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
        let at = (last as f64 * part).round() as usize;
        Duration::from_micros(self.lateness_us.get(at).copied().unwrap_or_default().into())
    }
}

impl std::fmt::Debug for LinkStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, p999, worst] = [0.5, 0.99, 0.999, 1.0].map(|part| self.lateness(part));
        write!(f, "up {:?}, down {:?}, ", self.up, self.down)?;
        write!(f, "late by p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, worst {worst:?}")
    }
}

/// What the thread and its owner share.
struct Shared {
    pipes: [Pipe; 2],
    lateness_us: Vec<u32>,
}

/// A running link; both devices vanish when it is dropped.
pub(super) struct Relay {
    shared: Arc<Mutex<Shared>>,
    /// A byte wakes the thread; its end ends it.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Makes the device `name` at both places and carries packets between them.
    pub(super) fn start(name: &str, near: &Place, far: &Place, link: Link, seed: u64) -> Self {
        let now = Instant::now();
        let pipes = [Pipe::new(link.up, now, seed), Pipe::new(link.down, now, !seed)];
        let shared = Arc::new(Mutex::new(Shared { pipes, lateness_us: Vec::new() }));
        let (wake, woken) = UnixStream::pair().unwrap();
        let (ready, is_ready) = channel();
        let thread = std::thread::Builder::new().name(format!("link {name}")).spawn({
            let (shared, name, near, far) = (Arc::clone(&shared), name.to_owned(), near.clone(), far.clone());
            move || {
                let devices = [near, far].map(|place| {
                    place.enter();
                    open(&name)
                });
                hurry();
                carry(&devices, woken, &shared, &ready);
            }
        });
        let relay = Self { shared, wake: Some(wake), thread: Some(thread.unwrap()) };
        is_ready.recv().unwrap_or_else(|_| panic!("the link `{name}` did not come up: see above"));
        relay
    }

    /// Changes what the link does, from now on.
    pub(super) fn reshape(&self, link: Link) {
        let now = Instant::now();
        {
            let mut shared = self.shared.lock().unwrap();
            let [up, down] = &mut shared.pipes;
            up.reshape(link.up, now);
            down.reshape(link.down, now);
        }
        self.wake.as_ref().unwrap().write_all(&[0]).expect("the thread of the link lives");
    }

    pub(super) fn stats(&self) -> LinkStats {
        let shared = self.shared.lock().unwrap();
        let [up, down] = [0, 1].map(|direction| shared.pipes[direction].counts);
        let mut lateness_us = shared.lateness_us.clone();
        // The link must not wait while we sort.
        drop(shared);
        lateness_us.sort_unstable();
        LinkStats { up, down, lateness_us }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // An error is its panic, which has been printed.
            let _panicked = thread.join();
        }
    }
}

/// A TAP device: to the kernel an Ethernet card like any other.
fn open(name: &str) -> SyncDevice {
    let builder = DeviceBuilder::new().name(name).layer(Layer::L2).offload(false).enable(false);
    let device = builder.build_sync().unwrap_or_else(|error| panic!("the device `{name}`: {error}"));
    device.set_nonblocking(true).unwrap();
    device
}

/// Timers to the microsecond, and first at the processor: a late link would look like a fault of the product.
fn hurry() {
    nix::sys::prctl::set_timerslack(1).expect("every thread may set its own");
    let thread = nix::unistd::gettid().to_string();
    // Where it is not allowed, links are late while the machine is busy.
    let _allowed = std::process::Command::new("chrt").args(["--fifo", "--pid", "10", &thread]).output();
}

fn carry(devices: &[SyncDevice; 2], mut woken: UnixStream, shared: &Mutex<Shared>, ready: &Sender<()>) {
    woken.set_nonblocking(true).unwrap();
    // The owner waits for this one message.
    let _owner_lives = ready.send(());
    let mut buffer = vec![0; 65_536];
    loop {
        match woken.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        let deadline = {
            let mut shared = shared.lock().unwrap();
            take(devices, &mut shared, &mut buffer);
            give(devices, &mut shared);
            shared.pipes.iter().filter_map(Pipe::deadline).min()
        };
        let wait = deadline.map(|deadline| TimeSpec::from(deadline.saturating_duration_since(Instant::now())));
        let mut descriptors =
            [devices[0].as_fd(), devices[1].as_fd(), woken.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // An interrupted wait is only a short one.
        let _ready = ppoll(&mut descriptors, wait, None);
        if descriptors.iter().any(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLERR))) {
            // A device was deleted from outside: nothing can come any more, and poll would never wait again.
            return;
        }
    }
}

/// What the devices have sent goes into the pipes.
fn take(devices: &[SyncDevice; 2], shared: &mut Shared, buffer: &mut [u8]) {
    for (device, pipe) in devices.iter().zip(&mut shared.pipes) {
        // An error: nothing more there, or the device is down.
        while let Ok(length) = device.recv(buffer) {
            pipe.push(buffer[..length].to_vec(), Instant::now());
        }
    }
}

/// What is due comes out at the other device.
fn give(devices: &[SyncDevice; 2], shared: &mut Shared) {
    for (device, pipe) in devices.iter().rev().zip(&mut shared.pipes) {
        while let Some(flying) = pipe.pop(Instant::now()) {
            // A device that is down takes nothing, as a cable that is pulled.
            if device.send(&flying.frame).is_ok() {
                let late = Instant::now().saturating_duration_since(flying.due).as_micros();
                shared.lateness_us.push(u32::try_from(late).unwrap_or(u32::MAX));
            }
        }
    }
}
