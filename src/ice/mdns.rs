//! Pure: one question of multicast DNS (RFC 6762) and its answers. Servers on a studio network name themselves in `.local`,
//! and not every machine has a resolver that asks for such names.

use std::net::IpAddr;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// In a question: please answer to me alone. In a record: forget what you knew. (RFC 6762, sections 5.4 and 10.2.)
const TOP_BIT: u16 = 0x8000;
/// A name has no more labels than this (255 bytes).
const LABELS_MAX: usize = 128;
/// An answer with more records than this is not read to its end.
const RECORDS_MAX: usize = 64;
/// A host has a handful of addresses.
const ADDRESSES_MAX: usize = 8;

/// The packet that asks for all addresses of `name`; `None` when that is no name.
pub(super) fn question(name: &str) -> Option<Vec<u8>> {
    let mut packet = vec![0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    for kind in [TYPE_A, TYPE_AAAA] {
        for label in name.trim_end_matches('.').split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            packet.push(length);
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend(kind.to_be_bytes());
        packet.extend((CLASS_IN | TOP_BIT).to_be_bytes());
    }
    Some(packet)
}

/// The addresses that this packet gives for `name`.
pub(super) fn addresses(packet: &[u8], name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    // What is cut off is missing; what came before it counts.
    let _cut_off = read(packet, name.trim_end_matches('.'), &mut found);
    found
}

fn read(packet: &[u8], name: &str, found: &mut Vec<IpAddr>) -> Option<()> {
    let is_response = packet.get(2)? & 0x80 != 0;
    if !is_response {
        return None;
    }
    let mut at = 12;
    for _question in 0..number(packet, 4)?.min(64) {
        at = end_of_name(packet, at)? + 4;
    }
    let records = [6, 8, 10].into_iter().filter_map(|place| number(packet, place)).map(usize::from).sum::<usize>();
    for _record in 0..records.min(RECORDS_MAX) {
        let fixed = end_of_name(packet, at)?;
        let (kind, class) = (number(packet, fixed)?, number(packet, fixed + 2)?);
        let data = fixed + 10;
        let end = data + usize::from(number(packet, fixed + 8)?);
        let address = address(kind, packet.get(data..end)?);
        if class & !TOP_BIT == CLASS_IN && found.len() < ADDRESSES_MAX && is_name(packet, at, name) {
            found.extend(address.filter(|address| !found.contains(address)));
        }
        at = end;
    }
    Some(())
}

fn address(kind: u16, data: &[u8]) -> Option<IpAddr> {
    match kind {
        TYPE_A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        TYPE_AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    }
}

fn number(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)
}

/// Where a name ends that begins here: after its root or its first pointer.
fn end_of_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            0xC0.. => return Some(at + 2),
            64..=0xBF => return None,
        }
    }
}

/// Is it this name that begins here? Case does not count (RFC 6762, section 16). No loop of pointers holds us.
fn is_name(packet: &[u8], mut at: usize, name: &str) -> bool {
    let mut wanted = name.split('.');
    for _label in 0..LABELS_MAX {
        let Some(length) = packet.get(at).copied() else { return false };
        match length {
            0 => return wanted.next().is_none(),
            1..=63 => {
                let end = at + 1 + usize::from(length);
                let is_next =
                    |label: &[u8]| wanted.next().is_some_and(|next| next.as_bytes().eq_ignore_ascii_case(label));
                if !packet.get(at + 1..end).is_some_and(is_next) {
                    return false;
                }
                at = end;
            }
            0xC0.. => match number(packet, at) {
                Some(pointer) => at = usize::from(pointer & 0x3FFF),
                None => return false,
            },
            64..=0xBF => return false,
        }
    }
    false
}

/// The answer of a host of this name, for tests of those who ask.
#[cfg(test)]
pub(super) fn answer(question: &[u8], name: &str, ip: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![question[0], question[1], 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4]);
    packet.extend(ip);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_asks_for_both_families() {
        let asked = question("box.local").unwrap();
        assert_eq!(&asked[12..27], b"\x03box\x05local\0\0\x01\x80\x01");
        assert_eq!(&asked[27..], b"\x03box\x05local\0\0\x1c\x80\x01");
        for no_name in ["", ".", "a..b", &"x".repeat(64)] {
            assert_eq!(question(no_name), None, "{no_name}");
        }
    }

    #[test]
    fn answers_for_this_name_count_and_no_others() {
        let packet = answer(&question("box.local").unwrap(), "Box.Local", [192, 0, 2, 7]);
        assert_eq!(addresses(&packet, "box.local"), [IpAddr::from([192, 0, 2, 7])]);
        assert!(addresses(&packet, "boxx.local").is_empty() && addresses(&packet, "local").is_empty());
        let mut question_back = packet.clone();
        question_back[2] = 0;
        assert!(addresses(&question_back, "box.local").is_empty(), "a question is no answer");
        // A second record, with a pointer to the name of the first.
        let mut two = packet.clone();
        two[7] = 2;
        two.extend([0xC0, 12, 0, 28, 0, 1, 0, 0, 0, 120, 0, 16]);
        two.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(addresses(&two, "box.local")[1], "2001:db8::7".parse::<IpAddr>().unwrap());
        // A name that is a pointer to itself.
        let mut circle = packet;
        circle.truncate(12);
        circle.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4]);
        assert!(addresses(&circle, "box.local").is_empty());
    }

    proptest! {
        #[test]
        fn any_packet_is_read_to_its_end(packet in prop::collection::vec(any::<u8>(), 0..600), name in "[a-z.]{0,20}") {
            prop_assert!(addresses(&packet, &name).len() <= ADDRESSES_MAX);
            let _any = question(&name);
        }

        #[test]
        fn a_damaged_answer_is_read_to_its_end(at in 0..37usize, byte in any::<u8>(), length in 0..37usize) {
            let mut packet = answer(&[0, 0], "box.local", [192, 0, 2, 7]);
            packet[at] = byte;
            packet.truncate(length);
            let _any = addresses(&packet, "box.local");
        }
    }
}
