//! Pure: the units of the config - [`Bitrate`], [`Secret`], [`IceServer`].

use std::fmt;

/// Bits per second. In TOML a number is kb/s... see `config/file.rs` for the accepted forms.
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
}

/// A token or password. Prints as `***` everywhere; [`Secret::expose`] is the one way to read it.
#[derive(Clone)]
pub struct Secret(secrecy::SecretString);

impl Secret {
    /// Takes ownership; the memory is wiped when it is dropped.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }
    /// The text itself, for the wire and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        secrecy::ExposeSecret::expose_secret(&self.0)
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
