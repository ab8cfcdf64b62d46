//! Pure: the datagrams of probes - a DNS query (RFC 1035), a STUN binding request (RFC 8489) - and what answers them.

/// Labels of a name are no longer (RFC 1035, section 2.3.4) ...
const LABEL_MAX: usize = 63;
/// ... and a name no longer than this as text.
const NAME_MAX: usize = 253;
/// Query types.
const A: u16 = 1;
const NS: u16 = 2;
/// Class `IN`.
const INTERNET: u16 = 1;
/// Flags of a query: recursion desired.
const RECURSION_DESIRED: u16 = 0x0100;
/// In the third byte of a message: it is a response.
const RESPONSE: u8 = 0x80;
/// In the fourth: the response code.
const RCODE: u8 = 0x0f;
/// There is such a name, or there is none: whoever says so has asked, or remembers.
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
/// Of a DNS message.
const DNS_HEADER: usize = 12;
/// Of a STUN message.
const STUN_HEADER: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_RESPONSE: [u8; 2] = [0x01, 0x01];
const BINDING_ERROR: [u8; 2] = [0x01, 0x11];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// One question to a resolver.
#[derive(Debug)]
pub(super) struct Question {
    /// The message.
    pub(super) query: Vec<u8>,
    id: [u8; 2],
}

impl Question {
    /// For the name servers of the root: every resolver knows them, few words, nobody else is bothered.
    pub(super) fn of_root(id: u16) -> Self {
        Self::new(id, &[0], NS)
    }

    /// For a name below `parent` that nobody has asked for before, so that no cache answers. `None`: it would be too long.
    pub(super) fn of_nobody(parent: &str, number: u64, id: u16) -> Option<Self> {
        let name = format!("roamcast-{number:016x}.{parent}");
        let is_good = |label: &str| (1..=LABEL_MAX).contains(&label.len());
        if name.len() > NAME_MAX || !name.split('.').all(is_good) {
            return None;
        }
        let mut bytes = Vec::with_capacity(name.len() + 2);
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).ok()?);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        Some(Self::new(id, &bytes, A))
    }

    fn new(id: u16, name: &[u8], kind: u16) -> Self {
        let [one, none] = [1_u16, 0];
        let header = [id, RECURSION_DESIRED, one, none, none, none];
        let mut query: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        query.extend(name);
        query.extend([kind, INTERNET].into_iter().flat_map(u16::to_be_bytes));
        Self { query, id: id.to_be_bytes() }
    }

    /// Is this datagram the answer? `is_known`: and does it say whether there is such a name? A resolver that reaches nobody
    /// says that it has failed.
    pub(super) fn is_answered_by(&self, datagram: &[u8], is_known: bool) -> bool {
        let &[first, second, flags, code, ..] = datagram else { return false };
        let is_answer = datagram.len() >= DNS_HEADER && [first, second] == self.id && flags & RESPONSE != 0;
        is_answer && (!is_known || matches!(code & RCODE, NO_ERROR | NO_SUCH_NAME))
    }
}

/// A binding request without attributes; the low 96 bits of `transaction` are its id.
pub(super) fn binding_request(transaction: u128) -> Vec<u8> {
    let mut request = Vec::with_capacity(STUN_HEADER);
    request.extend(BINDING_REQUEST);
    request.extend([0, 0]); // No attributes.
    request.extend(MAGIC_COOKIE);
    request.extend(transaction_id(transaction));
    request
}

/// Is this datagram the answer to it, good or bad?
pub(super) fn is_binding_response(datagram: &[u8], transaction: u128) -> bool {
    let is_kind = datagram.starts_with(&BINDING_RESPONSE) || datagram.starts_with(&BINDING_ERROR);
    is_kind
        && datagram.get(4..8) == Some(&MAGIC_COOKIE[..])
        && datagram.get(8..STUN_HEADER) == Some(&transaction_id(transaction)[..])
}

fn transaction_id(transaction: u128) -> [u8; 12] {
    let bytes = transaction.to_be_bytes();
    std::array::from_fn(|at| bytes[at + 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(question: &Question, code: u8) -> Vec<u8> {
        let mut answer = question.query.clone();
        answer[2] |= RESPONSE;
        answer[3] |= code;
        answer
    }

    #[test]
    fn a_query_is_what_rfc_1035_wants() {
        let question = Question::of_nobody("a.example", 0xbeef, 0x1234).expect("a good name");
        let wanted = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
            \x19roamcast-000000000000beef\x01a\x07example\x00\x00\x01\x00\x01";
        assert_eq!(question.query, wanted);
        let root = Question::of_root(7);
        assert_eq!(root.query, b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01");
        for bad in [String::from("a..example"), "x".repeat(64), ["abcdefgh"; 30].join(".")] {
            assert!(Question::of_nobody(&bad, 1, 1).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_a_resolver_knows_tells_more_than_that_it_is_there() {
        let question = Question::of_root(0x0102);
        for (code, is_known) in [(0, true), (1, false), (2, false), (3, true), (5, false)] {
            assert!(question.is_answered_by(&answer(&question, code), false), "{code}");
            assert_eq!(question.is_answered_by(&answer(&question, code), true), is_known, "{code}");
        }
        assert!(!question.is_answered_by(&question.query, false), "a query is no answer");
        assert!(!question.is_answered_by(&answer(&Question::of_root(0x0103), 0), false), "of another question");
        let whole = answer(&question, 0);
        assert!((0..DNS_HEADER).all(|length| !question.is_answered_by(&whole[..length], false)));
    }

    #[test]
    fn a_binding_is_answered_by_its_own_response() {
        let request = binding_request(0xabc);
        assert_eq!(request.len(), STUN_HEADER);
        let response = |kind: [u8; 2]| [&kind[..], &request[2..]].concat();
        assert!(is_binding_response(&response(BINDING_RESPONSE), 0xabc));
        assert!(is_binding_response(&response(BINDING_ERROR), 0xabc));
        assert!(!is_binding_response(&request, 0xabc), "an echo");
        assert!(!is_binding_response(&response(BINDING_RESPONSE), 0xabd), "another transaction");
        let whole = response(BINDING_RESPONSE);
        assert!((0..STUN_HEADER).all(|length| !is_binding_response(&whole[..length], 0xabc)));
    }
}
