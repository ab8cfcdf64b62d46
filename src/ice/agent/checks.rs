//! Pure: our own STUN checks (RFC 7675, RFC 8445 7.1) - the same that the library sends, but when we want them.

use is::stun::{StunMessage, TransId};
use is::{DefaultSha1HmacProvider, IceCreds, Sha1HmacProvider};

/// Type preference of a peer-reflexive candidate, which is what every address of ours is to the far end (RFC 8445, 5.1.2.2).
const PEER_REFLEXIVE: u32 = 110;
/// Host and relayed ones, for the statistics.
const HOST: u32 = 126;
const RELAYED: u32 = 2;
/// More than a check of ours ever needs.
const CHECK_BYTES_MAX: usize = 1_200;

/// What both sides need to know of each other to ask and to answer.
#[derive(Debug, Default)]
pub(in crate::ice) struct Consent {
    local: Option<IceCreds>,
    remote: Option<IceCreds>,
    tie_breaker: u64,
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub(in crate::ice) struct Question {
    pub(in crate::ice) id: TransId,
    pub(in crate::ice) controlling: bool,
    /// Local preference of the candidate that asks.
    pub(in crate::ice) preference: u32,
    /// With USE-CANDIDATE.
    pub(in crate::ice) nominate: bool,
}

impl Consent {
    pub(in crate::ice) fn set_local(&mut self, credentials: IceCreds) {
        // One number for the whole session. It is sent in clear and only has to differ from the far end's, as the fragment does.
        if self.local.is_none() {
            let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            self.tie_breaker = credentials.ufrag.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        }
        self.local = Some(credentials);
    }

    pub(in crate::ice) fn set_remote(&mut self, credentials: Option<IceCreds>) {
        self.remote = credentials;
    }

    pub(in crate::ice) fn local(&self) -> Option<&IceCreds> {
        self.local.as_ref()
    }

    pub(in crate::ice) fn remote(&self) -> Option<&IceCreds> {
        self.remote.as_ref()
    }

    pub(in crate::ice) fn tie_breaker(&self) -> u64 {
        self.tie_breaker
    }

    /// The packet, or `None` while credentials are missing.
    pub(in crate::ice) fn ask(&self, question: Question) -> Option<Vec<u8>> {
        let (local, remote) = (self.local.as_ref()?, self.remote.as_ref()?);
        let username = format!("{}:{}", remote.ufrag, local.ufrag);
        let message = StunMessage::binding_request(
            &username,
            question.id,
            question.controlling,
            self.tie_breaker,
            priority(PEER_REFLEXIVE, question.preference),
            question.nominate && question.controlling,
        );
        let mut packet = vec![0; CHECK_BYTES_MAX];
        let length = message.to_bytes(Some(remote.pass.as_bytes()), &mut packet, hmac).ok()?;
        packet.truncate(length);
        Some(packet)
    }

    /// Was this answer made by the far end?
    pub(in crate::ice) fn is_answer(&self, message: &StunMessage) -> bool {
        self.remote.as_ref().is_some_and(|remote| message.verify(remote.pass.as_bytes(), hmac))
    }
}

fn hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    DefaultSha1HmacProvider.sha1_hmac(key, payloads)
}

/// Priority of a candidate of component 1.
const fn priority(kind: u32, preference: u32) -> u32 {
    kind << 24 | preference << 8 | 255
}

/// Priority of a candidate of ours, for the statistics.
pub(in crate::ice) const fn local_priority(relayed: bool, preference: u32) -> u32 {
    priority(if relayed { RELAYED } else { HOST }, preference)
}
