//! Pure: the units of the config - [`Bitrate`], durations, [`Secret`], [`IceServer`].

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Bits per second. In TOML: text with a unit (`"2500k"`, `"2.5M"`, `"2500 kb/s"`, `"128kbit"`), or a plain number, which
/// always means bits per second. k is 1000, M is 1 000 000; a capital B would be bytes and is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(u32);

impl Bitrate {
    /// From bits per second.
    #[must_use]
    pub const fn from_bps(bps: u32) -> Self {
        Self(bps)
    }
    /// Bits per second.
    #[must_use]
    pub const fn bps(self) -> u32 {
        self.0
    }
    /// Kilobits per second (1000 bits), rounded down.
    #[must_use]
    pub const fn kbps(self) -> u32 {
        self.0 / 1000
    }

    /// Reads the forms that the type's docs list.
    ///
    /// # Errors
    /// What is wrong with `text`, as the end of a sentence that begins with the name of the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        if unit.contains('B') {
            return Err("counts bits, not bytes: write `b` for bits, as in \"2500 kb/s\"".into());
        }
        let scale = match unit.to_lowercase().as_str() {
            "" | "b/s" | "bps" | "bit" | "bits" | "bit/s" | "bits/s" => 1.0,
            "k" | "kb/s" | "kbps" | "kbit" | "kbits" | "kbit/s" | "kbits/s" => 1e3,
            "m" | "mb/s" | "mbps" | "mbit" | "mbits" | "mbit/s" | "mbits/s" => 1e6,
            _ => return Err("must be a bitrate such as \"2500k\", \"2.5M\" or \"2500 kb/s\"".into()),
        };
        let bps = decimal(number).ok_or("must be a bitrate such as \"2500k\", \"2.5M\" or \"2500 kb/s\"")? * scale;
        if bps > f64::from(u32::MAX) {
            return Err("is too large for a bitrate".into());
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked just above")]
        Ok(Self(bps.round() as u32))
    }
}

impl fmt::Display for Bitrate {
    /// The shortest of the forms that [`Bitrate::parse`] reads back without loss.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bps if bps >= 1_000_000 && bps % 10_000 == 0 => write!(f, "{}M", f64::from(bps) / 1e6),
            bps if bps >= 1000 && bps % 10 == 0 => write!(f, "{}k", f64::from(bps) / 1e3),
            bps => write!(f, "{bps} b/s"),
        }
    }
}

/// Reads a time: `"500ms"`, `"2s"`, `"20m"`, `"1h"`; a number without a unit is seconds; fractions are fine.
///
/// # Errors
/// What is wrong with `text`, as the end of a sentence that begins with the name of the key.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "must be a time such as 2 (seconds), \"500ms\", \"2s\", \"20m\" or \"1h\"";
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "ms" => 1e3,
        "" | "s" => 1e6,
        "m" | "min" => 60e6,
        "h" => 3600e6,
        _ => return Err(WANTED.into()),
    };
    // Whole microseconds, because "0.1" times anything is not exact in binary; the limit is where f64 still counts them.
    let micros = (decimal(number).ok_or(WANTED)? * scale).round();
    if micros > 9e15 {
        return Err("is too long a time".into());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked just above")]
    Ok(Duration::from_micros(micros as u64))
}

/// Writes a time, to the millisecond, in the shortest form that [`parse_duration`] reads back.
#[must_use]
pub fn duration_text(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0 => "0s".into(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// `"2500 kb/s"` -> (`"2500"`, `"kb/s"`).
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Digits with at most one dot; no sign, exponent, `inf` or `nan`, which `f64::from_str` alone would take.
fn decimal(digits: &str) -> Option<f64> {
    digits.bytes().all(|b| b.is_ascii_digit() || b == b'.').then(|| digits.parse().ok()).flatten()
}

/// A token or password. Prints as `***` everywhere; [`Secret::expose`] is the one way to read it.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(secrecy::SecretString);

impl Secret {
    /// Takes ownership; the memory is wiped when it is dropped. From now on the text is masked in words and log.
    #[must_use]
    pub fn new(text: String) -> Self {
        super::mask::remember(&text);
        Self(text.into())
    }
    /// The text itself, for the wire and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        secrecy::ExposeSecret::expose_secret(&self.0)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.expose().as_bytes(), other.expose().as_bytes()).into()
    }
}

/// A STUN or TURN server (W3C RTCIceServer).
#[derive(Debug, Clone, PartialEq)]
pub struct IceServer {
    /// `stun:host[:port]`, `turn:host[:port][?transport=udp|tcp]`, `turns:...`.
    pub urls: Vec<String>,
    /// TURN user name.
    pub username: Option<String>,
    /// TURN password.
    pub credential: Option<Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bitrates_are_read_in_every_form_people_write() {
        for (text, bps) in [
            ("2500k", 2_500_000),
            ("2.5M", 2_500_000),
            ("2500 kb/s", 2_500_000),
            (" 2.5 Mbit/s ", 2_500_000),
            ("128kbit", 128_000),
            ("96kbps", 96_000),
            ("96000", 96_000),
            ("96000 b/s", 96_000),
            (".5m", 500_000),
        ] {
            assert_eq!(Bitrate::parse(text), Ok(Bitrate::from_bps(bps)), "{text}");
        }
        for text in ["", "k", "fast", "-1k", "1e6", "inf", "nan", "1.2.3M", "2500 kB/s", "9999999M", "2 M k"] {
            assert!(Bitrate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_form_people_write() {
        for (text, ms) in
            [("500ms", 500), ("2s", 2000), ("2", 2000), ("0.5", 500), ("20m", 1_200_000), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "2 days", "1e3", "inf", "NaN", "1..2", "99999999999999999999h", "2S"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2".into()))), "Some(***)");
    }

    proptest! {
        #[test]
        fn written_bitrates_are_read_back(bps: u32) {
            let rate = Bitrate::from_bps(bps);
            prop_assert_eq!(Bitrate::parse(&rate.to_string()), Ok(rate));
        }

        #[test]
        fn written_times_are_read_back(ms in 0u64..10_000_000_000) {
            let time = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&duration_text(time)), Ok(time));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (Bitrate::parse(&text), parse_duration(&text));
        }
    }
}
