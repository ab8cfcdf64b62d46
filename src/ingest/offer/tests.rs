//! What str0m may see, and what it may not.

use proptest::prelude::*;

use super::*;

const HEAD: &str = "v=0\r\no=- 1 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 96:8F\r\n";
const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:v\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;profile-level-id=42c028\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc:1 cname:x\r\n";
const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=rtpmap:111 OPUS/48000/2\r\na=ssrc:2 cname:x\r\n";

fn good() -> String {
    format!("{HEAD}{VIDEO}{AUDIO}")
}

/// With these lines at its end: in the section of the sound.
fn and(lines: &str) -> String {
    good() + lines
}

#[test]
fn what_clients_send_may_pass() {
    let many = |line: fn(usize) -> String, count| -> String { (0..count).map(line).collect() };
    for (what, offer) in [
        ("as it is", good()),
        ("bare line ends", good().replace("\r\n", "\n")),
        ("the same codec in another case", and("a=rtpmap:111 opus/48000/2\r\n")),
        ("another stream's own parameters", good().replace("a=rtpmap:111", "a=fmtp:96 profile-level-id=42C028; packetization-mode=1;sprop-parameter-sets=Z0\r\na=rtpmap:96 h264/90000\r\na=rtpmap:111")),
        ("another group first", good().replace("a=group:BUNDLE", "a=group:LS v a\r\na=group:BUNDLE")),
        ("a rejected section that is not bundled", and("m=video 0 UDP/TLS/RTP/SAVPF 98\r\na=mid:old\r\n")),
        ("data channels", and("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n")),
        ("two ports", good().replace("m=video 9 ", "m=video 9/2 ")),
        ("as many candidates as there may be", and(&many(|n| format!("a=candidate:{n} 1 UDP 1 192.0.2.1 9 typ host\r\n"), 100))),
        ("the same candidates in each section", and(&many(|_| "a=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n".into(), 300))),
    ] {
        assert_eq!(check(&offer), Ok(()), "{what}");
    }
}

#[test]
fn what_contradicts_itself_or_is_too_much_may_not() {
    let many = |line: fn(usize) -> String, count| -> String { (0..count).map(line).collect() };
    let line = good().lines().count() + 1;
    for (offer, error) in [
        (String::new(), Unfit::NotSdp),
        ("hello".to_owned(), Unfit::NotSdp),
        ("v=0\r\n\r\nm=".to_owned(), Unfit::NotALine(2)),
        (good().replace("t=0 0", "T=0 0"), Unfit::NotALine(4)),
        ("v=0\r\n".to_owned(), Unfit::NoSections),
        (HEAD.to_owned(), Unfit::NoSections),
        (and("m=video 9\r\n"), Unfit::MediaLine(line)),
        (and("m=video x UDP/TLS/RTP/SAVPF 96\r\n"), Unfit::MediaLine(line)),
        (and("m=video 9 UDP/TLS/RTP/SAVPF\r\n"), Unfit::MediaLine(line)),
        (and("m=video 9 UDP/TLS/RTP/SAVPF 128\r\n"), Unfit::PayloadType(line)),
        (and("a=rtpmap:200 VP8/90000\r\n"), Unfit::PayloadType(line)),
        (and("a=fmtp:-1 x=1\r\n"), Unfit::PayloadType(line)),
        (and("a=rtpmap:111 VP8/90000\r\n"), Unfit::TwoMeanings(line)),
        (and("a=rtpmap:96 VP8/90000\r\n"), Unfit::TwoMeanings(line)),
        (and("a=rtpmap:96 H264/90000\r\n"), Unfit::TwoMeanings(line)),
        (and("a=fmtp:97 apt=96;apt=111\r\n"), Unfit::TwoMeanings(line)),
        (good().replace("apt=96", "apt=96\r\na=fmtp:97 apt=111"), Unfit::TwoMeanings(15)),
        (good().replace("a=mid:a", "a=mid:v"), Unfit::SameMid(16)),
        (good().replace("a=mid:a", "a=label:a"), Unfit::NoMid(16)),
        (good().replace(":v\r", ":0123456789abcdef-1\r").replace(":a\r", ":0123456789abcdef-2\r"), Unfit::SameMid(16)),
        (good().replace("BUNDLE v a", "BUNDLE v b"), Unfit::Bundle),
        (good().replace("a=group:BUNDLE", "a=group:LS"), Unfit::Bundle),
        (good().replace("fingerprint", "x"), Unfit::NoFingerprint),
        (good().replace("ice-pwd", "x"), Unfit::NoCredentials),
        (and("a=ssrc:1 cname:x\r\n"), Unfit::SharedSource(line)),
        (and(&many(|n| format!("a=candidate:{n} 1 UDP 1 192.0.2.1 9 typ host\r\n"), 101)), Unfit::ManyCandidates),
        (and(&many(|n| format!("a=ssrc:{} cname:x\r\n", n + 10), 64)), Unfit::ManySources),
        (and(&many(|n| format!("a=rid:{n} send\r\n"), 64)), Unfit::ManySources),
        (and(&many(|_| "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".into(), 32)), Unfit::ManySections),
        (and(&format!("a=x:{}\r\n", "y".repeat(BYTES_MAX))), Unfit::Long),
    ] {
        assert_eq!(check(&offer), Err(error), "{:.300}", offer.split_at(offer.len().min(900)).0);
        assert!(!error.to_string().contains("0x"), "{error}");
    }
}

#[test]
fn an_ice_restart_is_for_the_same_media() {
    let again = |from: &str, to: &str| is_same_media(&good(), &good().replace(from, to));
    assert!(again("abcd", "efgh"), "new credentials");
    assert!(again("a=mid:v", "a=recvonly\r\na=mid:v"), "another direction");
    assert!(again("a=ssrc:1", "a=ssrc:9"), "another source");
    for (from, to) in [
        ("m=audio", "m=video"),
        ("a=mid:v", "a=mid:w"),
        ("H264", "VP8"),
        ("42c028", "640028"),
        ("a=rtpmap:111 OPUS/48000/2", "a=rtpmap:96 H264/90000"),
        (AUDIO, ""),
        (VIDEO, AUDIO),
        ("v=0", "w=0"),
    ] {
        assert!(!again(from, to), "{from} -> {to}");
    }
    assert!(!is_same_media(&good(), &and("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:w\r\n")), "one more section");
}

proptest! {
    /// What passes agrees with itself, so it passes together with itself.
    #[test]
    fn any_lines_are_judged(lines in proptest::collection::vec(
        prop_oneof![
            "m=(audio|video|application) [0-9]{1,2} X( [0-9]{1,3}){1,3}", "a=mid:[a-c]", "a=rtpmap:9[6-8] (H264|VP8|rtx)/90000",
            "a=fmtp:9[6-8] (apt=9[6-8]|x=[0-9];?){1,2}", "a=ssrc:[1-3] cname:x", "a=group:BUNDLE( [a-c]){1,3}", "[a-z]=.{0,20}"
        ], 0..30)
    ) {
        let offer = format!("{HEAD}{}", lines.join("\r\n"));
        if check(&offer).is_ok() {
            prop_assert!(is_same_media(&offer, &offer));
        }
    }
}
