//! SDP answers as the stacks of this field write them to an offer of ours (mids, payload types and addresses made equal), and
//! seeded mutations of them: such as JSEP and its RFCs allow, and such as they do not.

use fastrand::Rng;

/// Who answers, and how.
pub(crate) const ANSWERS: &[(&str, &str)] = &[
    ("aiortc", include_str!("answers/aiortc.sdp")),
    ("chromium_mdns", include_str!("answers/chromium_mdns.sdp")),
    ("firefox", include_str!("answers/firefox.sdp")),
    ("janus", include_str!("answers/janus.sdp")),
    ("libdatachannel", include_str!("answers/libdatachannel.sdp")),
    ("libdatachannel_before_0_21", include_str!("answers/libdatachannel_before_0_21.sdp")),
    ("libwebrtc", include_str!("answers/libwebrtc.sdp")),
    ("livekit", include_str!("answers/livekit.sdp")),
    ("medooze", include_str!("answers/medooze.sdp")),
    ("pion", include_str!("answers/pion.sdp")),
    ("srs", include_str!("answers/srs.sdp")),
    ("str0m", include_str!("answers/str0m.sdp")),
    ("webrtcbin", include_str!("answers/webrtcbin.sdp")),
    ("werift", include_str!("answers/werift.sdp")),
    ("zlmediakit", include_str!("answers/zlmediakit.sdp")),
    ("zlmediakit_mirrors_port_0", include_str!("answers/zlmediakit_mirrors_port_0.sdp")),
];

/// Before the first m-line, then m-line by m-line.
type Sections = Vec<Vec<String>>;
type Edit = fn(&mut Sections, &mut Rng);

/// What an answer may look like all the same.
const LEGAL: &[(&str, Edit)] = &[
    ("transport at session level", |sections, _| {
        let moved: Vec<String> = sections[1].iter().filter(|line| is_transport(line)).cloned().collect();
        for section in &mut sections[1..] {
            section.retain(|line| !is_transport(line));
        }
        // What stands there already is of lower rank.
        sections[0].retain(|line| !moved.iter().any(|other| name(other) == name(line)));
        sections[0].extend(moved);
    }),
    ("transport in the first bundled m-line alone (RFC 9143)", |sections, _| {
        sections[2].retain(|line| !is_transport(line) && !starts(line, &["a=rtcp-mux", "a=candidate", "a=end-of"]));
    }),
    ("a transport that does not count in the second", |sections, _| {
        sections[2].retain(|line| !is_transport(line));
        sections[2].extend(["a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901"].map(str::to_owned));
    }),
    ("another group first", |sections, _| insert_before_group(sections, "a=group:LS video0 audio1")),
    ("a bundle of others first", |sections, _| insert_before_group(sections, "a=group:BUNDLE x y")),
    ("port 0 with its mid in the bundle", |sections, _| replace_port(&mut sections[2], "0")),
    ("ports that mean something", |sections, _| replace_port(&mut sections[1], "54321")),
    ("a direction that is sloppy", |sections, dice| {
        let word = ["a=sendrecv", "a=x-no-direction"][dice.usize(..2)];
        sections[1..]
            .iter_mut()
            .flatten()
            .filter(|line| *line == "a=recvonly")
            .for_each(|line| *line = word.to_owned());
    }),
    ("the direction for all at session level", |sections, _| {
        sections[1..].iter_mut().for_each(|section| section.retain(|line| line != "a=recvonly"));
        sections[0].push("a=recvonly".to_owned());
    }),
    ("candidates that nobody understands", |sections, dice| {
        const ODD: [&str; 9] = [
            "",
            "7 1 udp 2130706431 fe80::1%eth0 8189 typ host",
            "7 1 ssltcp 2130706431 192.0.2.9 443 typ host",
            "7 1 udp 9223372036854775807 192.0.2.9 8189 typ host",
            "7 1 UDP 2130706431 192.0.2.9 8189 TYP HOST",
            "7 1 udp 2130706431 studio-box 8189 typ host",
            "7 1 udp 2130706431 server.local 8189 typ host generation",
            "7 1 udp 1 192.0.2.9 8189 typ quantum x y",
            "7 999 udp 1 192.0.2.9 8189 typ host",
        ];
        for _candidate in 0..dice.usize(1..4) {
            let line = format!("a=candidate:{}", ODD[dice.usize(..ODD.len())]);
            insert_somewhere(&mut sections[1], line, dice);
        }
    }),
    ("attributes that nobody knows", |sections, dice| {
        for line in ["a=x-vendor:1 2=3", "a=", "a=:", "a=rtcp-fb:* x", "a=extmap:15/recvonly urn:x", "a=crypto:1 AES x"]
        {
            let section = dice.usize(1..sections.len());
            insert_somewhere(&mut sections[section], line.to_owned(), dice);
        }
    }),
    ("lines of other kinds, in any order", |sections, dice| {
        for line in ["i=Caf\u{e9} \u{1F600}", "b=AS:2500", "c=IN IP6 ::", "k=clear:x", "z=0 0", "e=x@example.net"] {
            let section = dice.usize(..sections.len());
            insert_somewhere(&mut sections[section], line.to_owned(), dice);
        }
    }),
    ("attributes in another order", |sections, dice| {
        let section = dice.usize(1..sections.len());
        dice.shuffle(&mut sections[section][1..]);
    }),
    ("codec names in another case", |sections, _| {
        for line in sections.iter_mut().flatten().filter(|line| line.starts_with("a=rtpmap:")) {
            *line = line.replace("H264", "h264").replace("opus", "OPUS");
        }
    }),
    ("formats that we have not offered (RFC 3264, section 6.1)", |sections, _| {
        sections[1][0].push_str(" 45 126");
        sections[1].extend(["a=rtpmap:45 AV1/90000", "a=rtpmap:126 H264/90000", "a=fmtp:126 x"].map(str::to_owned));
    }),
    ("no repair, no feedback", |sections, _| {
        for section in &mut sections[1..] {
            section[0] = section[0].replace(" 97", "");
            section.retain(|line| !starts(line, &["a=rtcp-fb:", "a=rtpmap:97", "a=fmtp:97", "a=ssrc"]));
        }
    }),
    ("a weak fingerprint beside the strong one", |sections, _| {
        let weak = "a=fingerprint:sha-1 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33";
        for section in sections {
            if let Some(at) = section.iter().position(|line| line.starts_with("a=fingerprint:")) {
                section.insert(at, weak.to_owned());
            }
        }
    }),
    ("blanks where none are needed", |sections, _| {
        for line in sections.iter_mut().flatten() {
            if starts(line, &["a=fmtp:", "a=rtpmap:"]) {
                *line = line.replacen(' ', "  ", 1).replace(';', "; ");
            }
            line.push_str([" ", "\t", ""][line.len() % 3]);
        }
    }),
    ("no names for anything", |sections, _| sections[0].retain(|line| !starts(line, &["s=", "o=", "t="]))),
];

/// What no answer may say, and words of the sentence that it gets.
const ILLEGAL: &[(&str, Edit, &str)] = &[
    ("no fingerprint", |sections, _| drop_all(sections, "a=fingerprint:"), "has no `a=fingerprint`"),
    (
        "a weak one",
        |sections, _| replace_all(sections, "a=fingerprint:", "a=fingerprint:sha-1 AB"),
        "sha-256 or better",
    ),
    ("no role", |sections, _| drop_all(sections, "a=setup:"), "no `a=setup`"),
    ("both roles", |sections, _| replace_all(sections, "a=setup:", "a=setup:actpass"), "`a=setup:actpass`"),
    ("no user fragment", |sections, _| drop_all(sections, "a=ice-ufrag:"), "no valid `a=ice-ufrag`"),
    ("a short password", |sections, _| replace_all(sections, "a=ice-pwd:", "a=ice-pwd:short"), "no valid `a=ice-pwd`"),
    ("RTCP on its own", |sections, _| drop_all(sections, "a=rtcp-mux"), "`a=rtcp-mux` is needed"),
    ("m-lines in another order", |sections, _| sections.swap(1, 2), "the order must be the same"),
    ("no bundle", |sections, _| drop_all(sections, "a=group:BUNDLE"), "out of `a=group:BUNDLE`"),
    ("another codec", |sections, _| replace_all(sections, "a=rtpmap:96 ", "a=rtpmap:96 AV1/90000"), "takes AV1 as 96"),
    ("another clock", |sections, _| replace_all(sections, "a=rtpmap:96 ", "a=rtpmap:96 H264/1"), "but we offered"),
    ("no format", |sections, _| sections[1][0] = "m=video 9 UDP/TLS/RTP/SAVPF 0".to_owned(), "takes no codec"),
    ("the picture refused", |sections, _| replace_all(sections, "a=recvonly", "a=inactive"), "refuses our video"),
    ("all ports 0", |sections, _| sections[1..].iter_mut().for_each(|one| replace_port(one, "0")), "refuses our video"),
    ("a sender", |sections, _| replace_all(sections, "a=recvonly", "a=sendonly"), "wants to send video"),
    ("another mid", |sections, _| replace_all(sections, "a=mid:video0", "a=mid:0"), "another `a=mid`"),
    ("an m-line too many", |sections, _| sections.push(vec!["m=video 9 X 96".to_owned()]), "has 3 m-lines"),
    ("one too few", |sections, _| drop(sections.pop()), "1 m-lines instead of 2"),
    ("a line that is none", |sections, _| sections[1].push("nonsense".to_owned()), "scrambled or cut off"),
    ("a port that is none", |sections, _| replace_port(&mut sections[1], "99999"), "scrambled or cut off"),
];

/// What refuses the sound and leaves the picture alone.
const SOUNDLESS: &[(&str, Edit)] = &[
    ("port 0, out of the bundle", |sections, _| {
        replace_port(&mut sections[2], "0");
        replace_all(sections, "a=group:BUNDLE", "a=group:BUNDLE video0");
    }),
    ("port 0 without a codec", |sections, _| sections[2][0] = "m=audio 0 UDP/TLS/RTP/SAVPF 0".to_owned()),
    ("inactive", |sections, _| replace_all(&mut sections[2..], "a=recvonly", "a=inactive")),
    ("another codec", |sections, _| replace_all(sections, "a=rtpmap:111", "a=rtpmap:111 PCMU/8000")),
    ("out of the bundle", |sections, _| replace_all(sections, "a=group:BUNDLE", "a=group:BUNDLE video0")),
    ("a sender", |sections, _| replace_all(&mut sections[2..], "a=recvonly", "a=sendonly")),
];

/// One to four changes that leave it an answer; says which.
pub(crate) fn legal(answer: &str, dice: &mut Rng) -> (String, String) {
    let mut sections = sections(answer);
    let mut names = Vec::new();
    for _edit in 0..dice.usize(1..5) {
        let (name, edit) = LEGAL[dice.usize(..LEGAL.len())];
        edit(&mut sections, dice);
        names.push(name);
    }
    (join(&sections, dice), names.join(", "))
}

/// One change that makes it none; says which, and what has to be said of it.
pub(crate) fn illegal(answer: &str, dice: &mut Rng) -> (String, &'static str, &'static str) {
    let (name, edit, words) = ILLEGAL[dice.usize(..ILLEGAL.len())];
    (edited(answer, edit, dice), name, words)
}

/// One change after which the sound is refused; says which.
pub(crate) fn soundless(answer: &str, dice: &mut Rng) -> (String, &'static str) {
    let (name, edit) = SOUNDLESS[dice.usize(..SOUNDLESS.len())];
    (edited(answer, edit, dice), name)
}

fn edited(answer: &str, edit: Edit, dice: &mut Rng) -> String {
    let mut sections = sections(answer);
    edit(&mut sections, dice);
    join(&sections, dice)
}

fn sections(answer: &str) -> Sections {
    answer.lines().fold(vec![Vec::new()], |mut sections, line| {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line.to_owned());
        sections
    })
}

/// With line ends of one kind.
fn join(sections: &[Vec<String>], dice: &mut Rng) -> String {
    let end = ["\r\n", "\n", "\r", " \r\n", "\r\n\r\n"][dice.usize(..5)];
    let text: String = sections.iter().flatten().map(|line| format!("{line}{end}")).collect();
    format!("{}{text}{}", ["", "\u{feff}", "\n"][dice.usize(..3)], ["", "\0"][dice.usize(..2)])
}

fn starts(line: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| line.starts_with(start))
}

fn is_transport(line: &str) -> bool {
    starts(line, &["a=ice-ufrag:", "a=ice-pwd:", "a=ice-options:", "a=fingerprint:", "a=setup:"])
}

fn name(line: &str) -> &str {
    line.split_once(':').map_or(line, |(name, _)| name)
}

fn insert_before_group(sections: &mut Sections, line: &str) {
    let at = sections[0].iter().position(|line| line.starts_with("a=group:BUNDLE")).unwrap_or(1);
    sections[0].insert(at, line.to_owned());
}

/// Not before the line that begins it.
fn insert_somewhere(section: &mut Vec<String>, line: String, dice: &mut Rng) {
    section.insert(dice.usize(1..=section.len()), line);
}

fn replace_port(section: &mut [String], port: &str) {
    let mut words: Vec<&str> = section[0].split(' ').collect();
    words[1] = port;
    section[0] = words.join(" ");
}

fn drop_all(sections: &mut Sections, start: &str) {
    sections.iter_mut().for_each(|section| section.retain(|line| !line.starts_with(start)));
}

fn replace_all(sections: &mut [Vec<String>], start: &str, line: &str) {
    sections.iter_mut().flatten().filter(|other| other.starts_with(start)).for_each(|other| *other = line.to_owned());
}
