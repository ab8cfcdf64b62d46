//! Offers of strangers, without sockets, for the fuzzer: what [`super::offer`] lets pass goes through str0m, twice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use str0m::config::DtlsCert;

use super::addresses::MediaAddress;
use super::media;
use super::peer::{OfferError, Peer, Role};
use super::sdp::Fragment;

/// How far two offers of one client got.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the first was answered.
    pub answered: bool,
    /// Whether the second was, as an ICE restart.
    pub restarted: bool,
    /// Why not, in the words that the client gets.
    pub refused: Vec<String>,
    /// How often str0m panicked, at the cost of the connection.
    pub failed: usize,
}

/// Offers `first` as a publisher and as a viewer, then `again`, as an ICE restart over roamcast signalling does, and as one
/// over WHIP does; then goodbye.
///
/// # Panics
/// When OpenSSL makes no certificate.
#[must_use]
pub fn offers(first: &str, again: &str) -> [Outcome; 2] {
    [Role::Publisher, Role::Viewer].map(|role| offer_as(role, first, again))
}

fn offer_as(role: Role, first: &str, again: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    let candidates = MediaAddress { bound, public: Vec::new() }.candidates(bound.ip());
    let Some((mut peer, _)) = outcome.note(Peer::accept(first, role, candidates, certificate(), media::now())) else {
        return outcome;
    };
    outcome.answered = true;
    let now = media::now();
    peer.tick(now);
    peer.drain(now, |_, _| {});
    outcome.restarted = outcome.note(peer.offered_again(again)).is_some();
    let fragment = Fragment::of_description(again);
    outcome.note(peer.restart_ice(&fragment));
    peer.trickle(&fragment.candidates);
    peer.tick(now);
    peer.drain(now, |_, _| {});
    peer.close(now, |_, _| {});
    outcome
}

impl Outcome {
    fn note<T>(&mut self, result: Result<T, OfferError>) -> Option<T> {
        result
            .map_err(|error| {
                self.failed += usize::from(error == OfferError::Failed);
                self.refused.push(error.to_string());
            })
            .ok()
    }
}

#[allow(clippy::expect_used, reason = "a fuzzer without a certificate finds nothing")]
fn certificate() -> DtlsCert {
    static CERTIFICATE: OnceLock<DtlsCert> = OnceLock::new();
    let generate = || str0m::crypto::from_feature_flags().dtls_provider.generate_certificate();
    CERTIFICATE.get_or_init(|| generate().expect("OpenSSL makes a certificate")).clone()
}
