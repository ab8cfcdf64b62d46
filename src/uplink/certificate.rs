//! The DTLS certificate. webrtcbin 1.22 makes RSA-2048, which ECDSA-only peers refuse ("no shared cipher" from aiortc
//! 1.16, an alert from str0m's pure-Rust backends), so we bring our own: ECDSA P-256.
//!
//! webrtcbin has no property for it. The certificate goes to the `pem` property of the inner `dtlsdec`, and since 1.22
//! then publishes a wrong fingerprint, `a=fingerprint` of the offer is rewritten to the one here.

use gst::prelude::*;
use sha2::{Digest, Sha256};

/// A certificate with its private key, in the form that `dtlsdec` wants.
#[derive(Clone)]
pub struct Certificate {
    pem: String,
    fingerprint: String,
}

impl Certificate {
    /// A fresh self-signed P-256 certificate (RFC 8827 section 6.5 asks for exactly this kind).
    pub fn generate() -> Result<Self, rcgen::Error> {
        let made = rcgen::generate_simple_self_signed(vec!["roamcast".to_owned()])?;
        let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        let digest = Sha256::digest(made.cert.der());
        let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Self { pem, fingerprint: format!("sha-256 {}", hex.join(":")) })
    }

    /// Value of `a=fingerprint` (RFC 8122).
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Makes every DTLS element that webrtcbin will create use this certificate.
    pub(crate) fn install(&self, webrtcbin: &gst::Element) {
        let pem = self.pem.clone();
        webrtcbin.connect("deep-element-added", false, move |values| {
            if let Some(element) = values.get(2).and_then(|value| value.get::<gst::Element>().ok())
                && element.factory().is_some_and(|factory| factory.name() == "dtlsdec")
            {
                element.set_property("pem", &pem);
            }
            None
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_is_new_and_its_fingerprint_has_32_bytes() {
        let (one, other) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.fingerprint().trim_start_matches("sha-256 ").split(':').count(), 32);
        assert!(one.pem.contains("BEGIN CERTIFICATE") && one.pem.contains("BEGIN PRIVATE KEY"));
    }
}
