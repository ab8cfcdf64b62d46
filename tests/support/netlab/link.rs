//! What a link does to packets, as plain data.

use std::sync::Arc;
use std::time::Duration;

/// Both directions of an uplink; "up" is from the encoder to the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) up: Shape,
    pub(crate) down: Shape,
}

impl Link {
    /// The same in both directions.
    pub(crate) fn symmetric(shape: Shape) -> Self {
        Self { up: shape.clone(), down: shape }
    }

    /// Adds this round trip, half of it in each direction, and nothing else.
    pub(crate) fn with_rtt(rtt: Duration) -> Self {
        Self::symmetric(Shape { delay: rtt / 2, ..Shape::default() })
    }
}

/// One direction of a link. The default is a perfect wire.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// From the end of the transmission to the arrival.
    pub(crate) delay: Duration,
    /// Added to the delay, evenly between zero and this.
    pub(crate) jitter: Duration,
    /// May jitter turn the order of packets around? Real access links rarely do.
    pub(crate) reorder: bool,
    /// Part of the packets that is lost, 0 to 1.
    pub(crate) loss: f64,
    /// How many packets are lost in a row, on average; 1 and less: each for itself.
    pub(crate) burst: f64,
    /// Part of the packets that arrives twice, 0 to 1.
    pub(crate) duplicates: f64,
    pub(crate) rate: Rate,
    /// Bytes that may wait for their transmission; what does not fit is dropped.
    pub(crate) queue_bytes: usize,
    /// A hole: IP packets larger than this many bytes vanish, and no ICMP message tells.
    pub(crate) mtu_hole: Option<usize>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: false,
            loss: 0.0,
            burst: 1.0,
            duplicates: 0.0,
            rate: Rate::Unlimited,
            // 300 ms at 4 Mb/s: what modems hold.
            queue_bytes: 150_000,
            mtu_hole: None,
        }
    }
}

/// How fast a link transmits.
#[derive(Debug, Clone, Default)]
pub(crate) enum Rate {
    #[default]
    Unlimited,
    /// Bits per second, IP headers included.
    Bits(u64),
    Trace(Arc<Trace>),
}

/// A recorded link in the form of mahimahi: moments at which [`Trace::BYTES`] may leave; begins again after the last.
#[derive(Debug)]
pub(crate) struct Trace {
    moments: Vec<Duration>,
    period: Duration,
}

impl Trace {
    /// Bytes of one opportunity.
    pub(crate) const BYTES: usize = 1504;

    /// One moment in milliseconds a line, in ascending order; the last one, which must not be 0, is the period.
    pub(crate) fn parse(text: &str) -> Arc<Self> {
        let number = |line: &str| Duration::from_millis(line.trim().parse().expect("a trace holds milliseconds"));
        let moments: Vec<Duration> = text.lines().filter(|line| !line.trim().is_empty()).map(number).collect();
        assert!(moments.is_sorted(), "the moments of a trace ascend");
        let period = moments.last().copied().unwrap_or_default();
        assert!(!period.is_zero(), "a trace takes time");
        Arc::new(Self { moments, period })
    }

    /// The opportunity of this number, counted from the beginning of the trace.
    pub(crate) fn moment(&self, number: usize) -> Duration {
        let rounds = u32::try_from(number / self.moments.len()).expect("a lab lives shorter");
        self.period * rounds + self.moments[number % self.moments.len()]
    }
}
