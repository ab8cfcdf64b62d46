//! The viewers' end of a Janus room: a UDP socket that gets what Janus has received and decrypted (`rtp_forward`), from
//! whoever publishes there, and a look at who that is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::janus::Admin;
use crate::program::PATIENCE;

/// How often Janus is asked who publishes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One RTP packet.
#[derive(Debug, Clone, Copy)]
struct Packet {
    at: Instant,
    ssrc: u32,
    sequence: u16,
    /// The last one of a frame.
    marker: bool,
    /// A part of a picture that needs no other.
    keyframe: bool,
}

#[derive(Debug, Default)]
struct Seen {
    packets: Vec<Packet>,
    /// The most publishers that were live at once.
    most: usize,
    /// How often Janus has told who publishes.
    looks: usize,
}

/// Watches one room until it is dropped.
pub(crate) struct Forward {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Forward {
    /// Asks Janus all the time for the video of whoever is live in this room.
    pub(crate) fn of(janus: Admin, room: u64) -> Self {
        let socket = janus.place.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (kept, end) = (Arc::clone(&seen), Arc::clone(&over));
        let receiver = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                receive(&socket, &kept);
            }
        });
        let (kept, end) = (Arc::clone(&seen), Arc::clone(&over));
        let looker = std::thread::spawn(move || {
            let mut forwarded = HashSet::new();
            while !end.load(Ordering::Relaxed) {
                look(&janus, room, port, &kept, &mut forwarded);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { seen, over, threads: vec![receiver, looker] }
    }

    /// The most publishers that were live at any moment that was looked at, and how many those were.
    pub(crate) fn most_publishers(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap();
        (seen.most, seen.looks)
    }

    /// Whole frames since then.
    pub(crate) fn frames_since(&self, since: Instant) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.packets.iter().filter(|packet| packet.marker && packet.at >= since).count()
    }

    /// Whole frames so far.
    pub(crate) fn frames(&self) -> u64 {
        self.seen.lock().unwrap().packets.iter().filter(|packet| packet.marker).count() as u64
    }

    /// Waits until so many whole frames have come since then.
    pub(crate) fn wait_for_frames(&self, count: usize, since: Instant) {
        let deadline = Instant::now() + PATIENCE;
        while self.frames_since(since) < count {
            assert!(Instant::now() < deadline, "only {} frames of {count}", self.frames_since(since));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Packets that never came, between the first and the last of each stream; and how many came.
    pub(crate) fn lost(&self) -> (usize, usize) {
        let mut streams = BTreeMap::<u32, BTreeSet<i64>>::new();
        let mut newest = BTreeMap::<u32, i64>::new();
        for packet in &self.seen.lock().unwrap().packets {
            // RFC 3550, appendix A.1: the full number is the one nearest to the newest.
            let last = *newest.entry(packet.ssrc).or_insert(i64::from(packet.sequence));
            let low = u16::try_from(last.rem_euclid(1 << 16)).unwrap();
            let step = i64::from(packet.sequence.wrapping_sub(low).cast_signed());
            newest.insert(packet.ssrc, last.max(last + step));
            streams.entry(packet.ssrc).or_default().insert(last + step);
        }
        let holes = streams.values().map(|numbers| {
            let range = numbers.last().unwrap() - numbers.first().unwrap() + 1;
            usize::try_from(range).unwrap() - numbers.len()
        });
        (holes.sum(), streams.values().map(BTreeSet::len).sum())
    }

    /// The longest time from one whole frame to the next, from the last one before this moment on.
    pub(crate) fn longest_gap(&self, since: Instant) -> Duration {
        let seen = self.seen.lock().unwrap();
        let frames: Vec<Instant> = seen.packets.iter().filter(|packet| packet.marker).map(|packet| packet.at).collect();
        let pairs = frames.windows(2).filter(|pair| pair[1] >= since);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Has Janus ask the publisher for a keyframe; says how long it took until that came, or `None` if it has not by then.
    pub(crate) fn keyframe_wish(&self, janus: &Admin, room: u64, patience: Duration) -> Option<Duration> {
        let every = |seconds: u64| {
            let edited = janus.room(&json!({ "request": "edit", "room": room, "new_fir_freq": seconds }));
            assert!(edited.as_ref().is_some_and(|answer| answer["videoroom"] == "edited"), "{edited:?}");
        };
        let asked = Instant::now();
        // The first wish goes out with the next packet that Janus gets.
        every(1);
        let came = loop {
            let came = self.keyframe_since(asked);
            if came.is_some() || asked.elapsed() >= patience {
                break came;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        every(0);
        came.map(|at| at - asked)
    }

    fn keyframe_since(&self, since: Instant) -> Option<Instant> {
        let seen = self.seen.lock().unwrap();
        seen.packets.iter().find(|packet| packet.keyframe && packet.at >= since).map(|packet| packet.at)
    }

    /// What the viewers had to do without when the publisher changed: from the last packet of each stream to the first of
    /// the next.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        let changes = seen.packets.windows(2).filter(|pair| pair[0].ssrc != pair[1].ssrc);
        changes.map(|pair| pair[1].at - pair[0].at).collect()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn receive(socket: &UdpSocket, seen: &Mutex<Seen>) {
    let mut buffer = [0; 2048];
    let Ok(length) = socket.recv(&mut buffer) else { return };
    let at = Instant::now();
    let [_, kind, high, low, _, _, _, _, a, b, c, d, ..] = buffer[..length] else { return };
    let (sequence, ssrc) = (u16::from_be_bytes([high, low]), u32::from_be_bytes([a, b, c, d]));
    let (marker, keyframe) = (kind & 0x80 != 0, begins_keyframe(&buffer[..length]));
    seen.lock().unwrap().packets.push(Packet { at, ssrc, sequence, marker, keyframe });
}

/// Counts who is live, and asks for the media of each new one.
fn look(janus: &Admin, room: u64, port: u16, seen: &Mutex<Seen>, forwarded: &mut HashSet<u64>) {
    let Some(live) = janus.publishers(room) else { return };
    let mut so_far = seen.lock().unwrap();
    so_far.looks += 1;
    so_far.most = so_far.most.max(live.len());
    drop(so_far);
    for id in live {
        let stream = json!({ "mid": "video0", "host": "127.0.0.1", "host_family": "ipv4", "port": port });
        let request = json!({ "request": "rtp_forward", "room": room, "publisher_id": id, "host": "127.0.0.1",
            "host_family": "ipv4", "streams": [stream] });
        if !forwarded.contains(&id) && janus.room(&request).is_some_and(|answer| answer["videoroom"] == "rtp_forward") {
            forwarded.insert(id);
        }
    }
}

/// Is there a part of an IDR picture, or its SPS, in this packet (RFC 6184)?
fn begins_keyframe(packet: &[u8]) -> bool {
    let [first, _, _, _, _, _, _, _, _, _, _, _, rest @ ..] = packet else { return false };
    let mut payload = rest.get(usize::from(first & 15) * 4..).unwrap_or_default();
    if first & 0x10 != 0 {
        let [_, _, high, low, rest @ ..] = payload else { return false };
        payload = rest.get(usize::from(u16::from_be_bytes([*high, *low])) * 4..).unwrap_or_default();
    }
    match payload {
        // STAP-A: header and size, then the first unit.
        [unit, _, _, inner, ..] if unit & 31 == 24 => matches!(inner & 31, 5 | 7),
        [unit, inner, ..] if unit & 31 == 28 => inner & 31 == 5,
        [unit, ..] => matches!(unit & 31, 5 | 7),
        [] => false,
    }
}
