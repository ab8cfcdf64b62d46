//! A day of bad luck: session after session of one encoder, with either agent.

use crate::growth::times;
use crate::program::{AtRest, Program, free_port};

/// Sessions until caches, pools and the allocator have their size: a fifth of all.
const WARM_UP: usize = 5;

/// Resident kB more with each session: the straight line through all figures that fits best.
fn slope(rss_kb: &[f64]) -> f64 {
    let middle = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / rss_kb.len() as f64;
    let (x, y) = (middle(&mut (0..rss_kb.len()).map(|at| at as f64)), middle(&mut rss_kb.iter().copied()));
    let (mut both, mut square) = (0.0, 0.0);
    for (at, kb) in rss_kb.iter().enumerate() {
        both += (at as f64 - x) * (kb - y);
        square += (at as f64 - x).powi(2);
    }
    both / square
}

/// What one encoder had after the warm-up and at the end, and its resident kB after every session.
struct Measured {
    warm: AtRest,
    end: AtRest,
    rss_kb: Vec<f64>,
}

/// Real media in every one of them: a session is on air once the far end has acknowledged some.
fn measure(port: u16, agent: &str, sessions: usize) -> Measured {
    let mut encoder = Program::encoder(&format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [uplink]\nurl = \"http://127.0.0.1:{port}/whip/{agent}\"\niceAgent = \"{agent}\"\n\
         [reconnect]\nminDelay = \"100ms\"\nmaxDelay = \"100ms\"\nmaxRetries = \"unlimited\"\n"
    ));
    encoder.wait_for_message("broadcasting");
    let (mut warm, mut rss_kb) = (None, Vec::new());
    for session in 0..sessions {
        if session == sessions / WARM_UP {
            warm = Some(encoder.at_rest());
        }
        encoder.reconnect();
        rss_kb.push(encoder.rss_kb());
    }
    Measured { warm: warm.unwrap(), end: encoder.at_rest(), rss_kb }
}

/// Side by side, so that whatever else the machine does is done to both. Threads and open files are the same ones before
/// and after. Memory is told; how fast it grows can be compared in a long run alone, behind what caches and the allocator
/// take at the start (36 kB a session in the first 30).
#[test]
fn session_after_session_leaks_nothing_with_either_agent() {
    // `make sessions` says 1000.
    let (sessions, port) = (times("ROAMCAST_SESSIONS", 100), free_port());
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    let (ours, libnice) = std::thread::scope(|both| {
        let libnice = both.spawn(|| measure(port, "libnice", sessions));
        (measure(port, "roaming", sessions), libnice.join().unwrap())
    });
    for (agent, measured) in [("roaming", &ours), ("libnice", &libnice)] {
        let Measured { warm, end, rss_kb } = measured;
        let slopes = [WARM_UP, 2].map(|part| slope(&rss_kb[sessions / part..]));
        println!(
            "FIGURE {agent}: {sessions} sessions, {:?} files, {} threads, RSS {} -> {} kB, {:.2} kB a session behind the \
             warm-up, {:.2} in the second half",
            end.files.values().sum::<usize>(),
            end.threads.values().sum::<usize>(),
            rss_kb[sessions / WARM_UP],
            rss_kb[sessions - 1],
            slopes[0],
            slopes[1],
        );
        println!("{agent}: {end:?}");
        assert_eq!(end, warm, "{agent}: at the end, and after {} sessions", sessions / WARM_UP);
    }
    let [ours, libnices] = [&ours, &libnice].map(|measured| slope(&measured.rss_kb[sessions / 2..]));
    assert!(sessions < 1000 || ours < libnices + 1.0, "kB a session: {ours:.2}, with libnice {libnices:.2}");
}
