//! Pure: what our offer says of the formats, and what an answer may say of them.

use crate::config::{Video, VideoCodec};
use crate::media::tracks::Promise;
use crate::media::tracks::h264::{ProfileLevelId, level_idc_for};

/// Every player takes level 3.1 (RFC 7742), so no less is worth offering.
const LEVEL_IDC_MIN: u8 = 31;

/// The formats of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Codec of the picture.
    pub codec: VideoCodec,
    /// Of H.264 alone: no less than what is made, so that nobody who keeps to it is asked too much. What is made goes out
    /// in any case.
    pub profile_level_id: ProfileLevelId,
    /// Two channels of sound are sent.
    pub stereo: bool,
}

impl Offered {
    /// `made`: what the stream says of itself, once it flows. `bitrate` of the config counts too: it decides the level.
    #[must_use]
    pub fn new(video: &Video, promise: Promise, made: Option<ProfileLevelId>, stereo: bool) -> Self {
        let needed = level_idc_for(video.width, video.height, video.framerate, video.bitrate.bps().into());
        let profile_level_id = match made {
            // The camera's own size, rate and profile, not ours.
            Some(made) if promise.is_passthrough => made.as_offered(LEVEL_IDC_MIN),
            // Our encoders make constrained baseline, whatever flags they set (pipelines/README.md).
            Some(made) => {
                ProfileLevelId::constrained_baseline(made.level_idc()).as_offered(needed.max(promise.level_idc))
            }
            None => ProfileLevelId::constrained_baseline(needed.max(promise.level_idc)),
        };
        Self { codec: video.codec, profile_level_id, stereo }
    }

    /// The server takes another H.264 profile than we send. Its level does not matter: it may be lower, for it speaks of
    /// what the server sends (`level-asymmetry-allowed`), and many servers answer the same text to everybody.
    #[must_use]
    pub fn is_answered_otherwise(&self, answer: &str) -> bool {
        if self.codec != VideoCodec::H264 {
            return false;
        }
        let mut answered = video_parameters(answer).filter_map(|parameter| parameter.strip_prefix("profile-level-id="));
        let same =
            |id: &str| ProfileLevelId::parse(id).is_some_and(|id| id.profile() == self.profile_level_id.profile());
        // Without the parameter it is baseline by RFC 6184, and silence by custom.
        answered.next().is_some_and(|first| !same(first) && !answered.any(same))
    }
}

/// All format parameters of the video m-lines.
fn video_parameters(sdp: &str) -> impl Iterator<Item = &str> {
    let sections = sdp.split("\nm=").skip(1).filter(|section| section.starts_with("video"));
    let lines = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("a=fmtp:"));
    let parameters = lines.filter_map(|line| Some(line.split_once(' ')?.1));
    parameters.flat_map(|parameters| parameters.split(';').map(str::trim))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::tracks::h264::Profile;

    fn video(width: u32, height: u32, framerate: u32, bitrate: u32) -> Video {
        let mut video = crate::config::load("", "defaults", std::iter::empty()).unwrap().video;
        (video.width, video.height, video.framerate) = (width, height, framerate);
        video.bitrate = crate::config::units::Bitrate::from_bps(bitrate);
        video
    }

    fn id(text: &str) -> ProfileLevelId {
        ProfileLevelId::parse(text).unwrap()
    }

    #[test]
    fn the_level_carries_size_rate_bitrate_and_what_the_encoder_pins() {
        for (width, height, framerate, mbps, pinned, offered) in [
            (1280, 720, 30, 3, 0, "42e01f"),
            (640, 360, 15, 1, 40, "42e028"),
            (1280, 720, 30, 1, 40, "42e028"),
            (1280, 720, 30, 14, 0, "42e01f"),
            (1280, 720, 30, 15, 0, "42e020"),
            (640, 360, 30, 20, 0, "42e020"),
            (640, 360, 30, 21, 0, "42e029"),
            (1280, 720, 60, 3, 0, "42e020"),
            (1920, 1080, 30, 6, 0, "42e028"),
            (1920, 1080, 60, 6, 0, "42e02a"),
            (3840, 2160, 30, 6, 0, "42e033"),
            // So wide that level 3.1 may not carry it though it has few macroblocks (H.264, A.3.1, f).
            (4096, 128, 10, 1, 0, "42e028"),
        ] {
            let promise = Promise { is_passthrough: false, level_idc: pinned };
            let video = video(width, height, framerate, mbps * 1_000_000);
            let now = Offered::new(&video, promise, None, true).profile_level_id;
            assert_eq!(now.to_string(), offered, "{width}x{height} at {framerate}, {mbps} Mb/s, pinned {pinned}");
        }
    }

    #[test]
    fn a_camera_is_offered_as_what_it_says_it_is() {
        let promise = Promise { is_passthrough: true, level_idc: 0 };
        let video = video(1920, 1080, 60, 30_000_000);
        let offered = |made| Offered::new(&video, promise, made, true).profile_level_id.to_string();
        for (made, expected) in [
            ("42c015", "42e01f"),
            ("42001e", "42001f"),
            ("4d4028", "4d0028"),
            ("4d0033", "4d0033"),
            ("64000c", "64001f"),
            ("640c29", "640029"),
            ("6e0028", "6e0028"),
        ] {
            assert_eq!(offered(Some(id(made))), expected, "{made}");
        }
        assert_eq!(offered(None), "42e02a", "nothing has been seen of it yet");
    }

    #[test]
    fn an_answer_of_another_profile_is_noticed_and_one_of_another_level_is_not() {
        let offered = |made: &str| Offered {
            codec: VideoCodec::H264,
            profile_level_id: id(made).as_offered(LEVEL_IDC_MIN),
            stereo: true,
        };
        let answer = |fmtp: &str| {
            format!("v=0\r\nm=audio 9 X 111\r\na=fmtp:111 profile-level-id=000000\r\nm=video 9 X 96\r\n{fmtp}")
        };
        let both = "a=fmtp:96 profile-level-id=42e01f\r\na=fmtp:98 profile-level-id=64001f\r\n";
        for (made, fmtp, otherwise) in [
            ("640028", "a=fmtp:96 packetization-mode=1; profile-level-id=42e01f\r\n", true),
            ("640028", "a=fmtp:96 profile-level-id=64001f;packetization-mode=1\r\n", false),
            ("42c028", "a=fmtp:96 profile-level-id=42e00d\r\n", false),
            ("4d0028", "a=fmtp:96 profile-level-id=4D401F\r\n", false),
            ("4d0028", "a=fmtp:96 profile-level-id=nonsense\r\n", true),
            ("640028", both, false),
            ("640028", "a=fmtp:96 packetization-mode=1\r\n", false),
            ("640028", "", false),
        ] {
            assert_eq!(offered(made).is_answered_otherwise(&answer(fmtp)), otherwise, "{made}, {fmtp}");
        }
        let vp8 = Offered { codec: VideoCodec::Vp8, ..offered("640028") };
        assert!(!vp8.is_answered_otherwise(&answer("a=fmtp:96 profile-level-id=42e01f\r\n")));
    }

    proptest! {
        #[test]
        fn no_less_is_offered_than_is_made(
            size in (16..4096_u32, 16..4096_u32), framerate in 1..120_u32, bitrate in 50_000..1_000_000_000_u32,
            pinned in prop_oneof![Just(0_u8), 10..=62_u8], made in any::<Option<[u8; 3]>>(), is_passthrough in any::<bool>(),
        ) {
            let made = made.map(|[a, b, c]| id(&format!("{a:02x}{b:02x}{:02x}", c % 63)));
            let promise = Promise { is_passthrough, level_idc: pinned };
            let offered = Offered::new(&video(size.0, size.1, framerate, bitrate), promise, made, true).profile_level_id;
            prop_assert!(offered.level_idc() >= LEVEL_IDC_MIN.max(made.map_or(0, ProfileLevelId::level_idc)));
            prop_assert!(offered.level_idc() >= pinned || is_passthrough && made.is_some());
            let profile = made.filter(|_| is_passthrough).map_or(Profile::ConstrainedBaseline, ProfileLevelId::profile);
            prop_assert_eq!(offered.profile(), profile);
            prop_assert_eq!(ProfileLevelId::parse(&offered.to_string()), Some(offered));
        }

        #[test]
        fn any_answer_is_read(answer in "(a=fmtp:|m=video|\r\n|[ -~]|profile-level-id=){0,40}") {
            let offered = Offered { codec: VideoCodec::H264, profile_level_id: id("640028"), stereo: true };
            let _any = offered.is_answered_otherwise(&answer);
        }
    }
}
