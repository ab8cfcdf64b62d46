//! Pure: SDP of others as text - read generously (RFC 8866, and what is sent in its name).

/// One SDP, of which the lines `m=` and `a=` are kept: nothing else in it decides anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Description<'a> {
    /// Attributes that stand before the first m-line.
    pub(super) attributes: Attributes<'a>,
    pub(super) media: Vec<Section<'a>>,
}

/// One m-line with what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section<'a> {
    /// `audio`, `video` ...
    pub(super) kind: &'a str,
    pub(super) port: u16,
    /// Such as `UDP/TLS/RTP/SAVPF`.
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    pub(super) attributes: Attributes<'a>,
}

/// `a=` lines in their order: name and value, which is empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Attributes<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Attributes<'a> {
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
    }

    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The first of the directions that is said here (RFC 8866, section 6.7).
    pub(super) fn direction(&self) -> Option<&'a str> {
        let is_direction = |name: &&str| matches!(*name, "sendrecv" | "sendonly" | "recvonly" | "inactive");
        self.0.iter().map(|(name, _)| *name).find(is_direction)
    }
}

impl<'a> Section<'a> {
    pub(super) fn mid(&self) -> Option<&'a str> {
        self.attributes.value("mid").filter(|mid| !mid.is_empty())
    }
}

impl<'a> Description<'a> {
    /// Takes lines in any order and with any ends. `None`: a line is none of SDP, or it does not begin with `v=0`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut lines = lines(text);
        lines.next().filter(|line| *line == "v=0")?;
        let mut description = Self::default();
        for line in lines {
            let (letter, value) = line.split_once('=')?;
            match letter {
                "m" => description.media.push(section(value)?),
                "a" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    let section = description.media.last_mut();
                    let attributes = section.map_or(&mut description.attributes, |section| &mut section.attributes);
                    attributes.0.push((name.trim(), value.trim()));
                }
                _ if letter.len() == 1 && letter.bytes().all(|byte| byte.is_ascii_lowercase()) => {}
                _ => return None,
            }
        }
        Some(description)
    }

    /// The identification tags of each `a=group:BUNDLE` (RFC 9143). Groups of other kinds (`LS`) say nothing here.
    pub(super) fn bundles(&self) -> impl Iterator<Item = Vec<&'a str>> {
        self.attributes.values("group").filter_map(|group| {
            let mut words = group.split_ascii_whitespace();
            (words.next() == Some("BUNDLE")).then(|| words.collect())
        })
    }
}

/// `video 9 UDP/TLS/RTP/SAVPF 96 97`
fn section(value: &str) -> Option<Section<'_>> {
    let mut words = value.split_ascii_whitespace();
    let (kind, port, protocol) = (words.next()?, words.next()?, words.next()?);
    // `49170/2` are two ports, which no WebRTC has.
    let port = port.split('/').next()?.parse().ok()?;
    Some(Section { kind, port, protocol, formats: words.collect(), attributes: Attributes::default() })
}

/// The lines that say something. CR, LF and both end one; blanks at its end, and the NUL at the end of a C string, are none
/// of its.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let is_end = |c: char| c.is_whitespace() || c == '\0';
    text.split(['\r', '\n']).map(move |line| line.trim_end_matches(is_end)).filter(|line| !line.is_empty())
}

/// The text of SDP that came as bytes: UTF-8, or else Latin-1 (RFC 8866 allows any in `s=` and `i=`; what counts is ASCII).
#[must_use]
pub fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_end_in_any_way_and_stand_in_any_order() {
        let plain =
            "v=0\ns=-\na=group:LS a b\na=group:BUNDLE a b\nm=video 9 X 96 97\na=mid:a\nc=IN IP4 0.0.0.0\nb=AS:1\n";
        let expected = Description::parse(plain).unwrap();
        assert_eq!(expected.bundles().collect::<Vec<_>>(), [["a", "b"]]);
        assert_eq!(expected.media[0].formats, ["96", "97"]);
        assert_eq!(expected.media[0].mid(), Some("a"));
        for odd in [
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\r"),
            plain.replace('\n', " \t\r\n"),
            plain.replace('\n', "\n\n"),
            plain.trim_end().to_owned(),
            format!("\u{feff}{plain}\0"),
            format!("\r\n{plain}"),
        ] {
            assert_eq!(Description::parse(&odd), Some(expected.clone()), "{odd:?}");
        }
        for scrambled in
            ["", "v=1\n", "s=-\nv=0\n", "v=0\n<html>\n", "v=0\nm=video\n", "v=0\nm=video x X 96\n", "v=0\nA=b\n"]
        {
            assert_eq!(Description::parse(scrambled), None, "{scrambled:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_latin_1() {
        assert_eq!(decode("s=Café".as_bytes()), "s=Café");
        assert_eq!(decode(b"s=Caf\xe9\r\n"), "s=Café\r\n");
    }
}
