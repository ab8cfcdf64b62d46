use proptest::prelude::*;

use super::*;

const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 77, 0x40, 31, 0x95];
const SPS_BASELINE: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0xc0, 31, 0x95];
/// Access unit delimiter.
const AUD: &[u8] = &[0, 0, 0, 1, 0x09, 0xf0];

/// A frame of one slice: first_mb_in_slice 0 (`1`), then slice_type as ue(v).
fn slice(nal: u8, slice_type: u8) -> Vec<u8> {
    let code = u16::from(slice_type) + 1;
    let zeros = 15 - code.leading_zeros();
    let bits = (1_u16 << 15) | (code << (14 - 2 * zeros));
    let [first, second] = bits.to_be_bytes();
    [&[0, 0, 1, nal, first, second][..], &[0x5a; 20]].concat()
}

fn keyframe(sps: &[u8]) -> Vec<u8> {
    [AUD, sps, &[0, 0, 1, 0x68, 0xce], &slice(0x65, 7)].concat()
}

fn p_frame() -> Vec<u8> {
    slice(0x41, 5)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_first_parameter_set_of_a_frame_is_read() {
    let made = ProfileLevelId::of_frame(&keyframe(SPS)).unwrap();
    assert_eq!((made.to_string().as_str(), made.profile(), made.level_idc()), ("4d401f", Profile::Main, 31));
    for (frame, why) in [
        (&p_frame()[..], "none in it"),
        (&SPS[..7], "cut off"),
        (&SPS[4..], "no start code"),
        (&[0, 0, 1], "empty"),
        (&[], "nothing"),
    ] {
        assert_eq!(ProfileLevelId::of_frame(frame), None, "{why}");
    }
}

#[test]
fn each_profile_is_told_by_its_flags() {
    use Profile::{Baseline, ConstrainedBaseline, High, Main, Other};
    for (id, profile) in [
        ("42e01f", ConstrainedBaseline),
        ("42c00d", ConstrainedBaseline),
        ("42401f", ConstrainedBaseline),
        ("4d801f", ConstrainedBaseline),
        ("58c01f", ConstrainedBaseline),
        ("42001f", Baseline),
        ("42801f", Baseline),
        ("58801f", Baseline),
        ("4d001f", Main),
        ("4D401F", Main),
        ("640028", High),
        ("640c28", High),
        ("580028", Other),
        ("6e0028", Other),
        ("7a0028", Other),
        ("f40028", Other),
    ] {
        assert_eq!(ProfileLevelId::parse(id).map(ProfileLevelId::profile), Some(profile), "{id}");
    }
    for no_id in ["", "42e01", "42e01f0", "42e01g", "+42e01", "äöü"] {
        assert_eq!(ProfileLevelId::parse(no_id), None, "{no_id}");
    }
}

#[test]
fn slices_are_told_apart() {
    let told = |nal, slice_type| Slice::first_of(&slice(nal, slice_type)).unwrap();
    for (slice_type, is_b) in [(0, false), (1, true), (2, false), (3, false), (5, false), (6, true), (7, false)] {
        assert_eq!(told(0x41, slice_type), Slice { is_b, is_reference: true }, "{slice_type}");
        assert_eq!(told(0x01, slice_type), Slice { is_b, is_reference: false }, "{slice_type}");
    }
}

/// I0 P3 B1 B2 P6 B4 B5, as a camera sends it.
#[test]
fn b_frames_that_nobody_needs_are_left_out_and_time_goes_only_up() {
    let b_frame = slice(0x01, 6);
    let mut stream = Inspection::default();
    let mut sent = Vec::new();
    for (frame, is_key, at) in [
        (&keyframe(SPS), true, 0),
        (&p_frame(), false, 120),
        (&b_frame, false, 40),
        (&b_frame, false, 80),
        (&p_frame(), false, 240),
        (&b_frame, false, 160),
        (&b_frame, false, 200),
    ] {
        if stream.let_through(frame, is_key, ms(at)) {
            sent.push(at);
        }
    }
    assert_eq!(sent, [0, 120, 240]);
    assert!(stream.has_b_frames());
}

#[test]
fn b_frames_that_others_need_go_out_and_are_told() {
    let mut stream = Inspection::default();
    let reference_b = slice(0x41, 6);
    let frames = [(&keyframe(SPS), true, 0), (&p_frame(), false, 120), (&reference_b, false, 40)];
    assert!(frames.into_iter().all(|(frame, is_key, at)| stream.let_through(frame, is_key, ms(at))));
    assert!(stream.has_b_frames());
}

#[test]
fn frames_in_order_are_no_b_frames_whatever_their_slices() {
    let mut stream = Inspection::default();
    assert!(stream.let_through(&keyframe(SPS), true, ms(1000)));
    for at in [1040, 1080, 1120] {
        assert!(stream.let_through(&slice(0x01, 6), false, ms(at)), "decoded from past frames alone");
    }
    // A clock that steps back between frames that are needed.
    assert!(stream.let_through(&p_frame(), false, ms(500)));
    assert!(!stream.has_b_frames());
}

#[test]
fn a_camera_that_was_opened_again_or_set_right_starts_afresh() {
    let mut stream = Inspection::default();
    for (frame, is_key, at) in [(&keyframe(SPS), true, 9000), (&p_frame(), false, 9120), (&slice(0x01, 6), false, 9040)]
    {
        let _left_out = stream.let_through(frame, is_key, ms(at));
    }
    assert!(stream.has_b_frames());
    assert!(stream.let_through(&keyframe(SPS), true, ms(0)));
    assert!(stream.let_through(&slice(0x01, 5), false, ms(40)), "time has begun again");
    assert!(stream.has_b_frames(), "the same stream as before");
    assert!(stream.let_through(&keyframe(SPS_BASELINE), true, ms(80)));
    assert!(!stream.has_b_frames());
    assert!(stream.let_through(&slice(0x01, 6), false, ms(0)), "baseline has none");
    assert!(!stream.has_b_frames());
}

proptest! {
    #[test]
    fn foreign_bytes_do_no_harm(frames in prop::collection::vec((bytes(), any::<bool>(), 0..1000_u64), 0..8)) {
        let mut stream = Inspection::default();
        prop_assert!(stream.let_through(&keyframe(SPS), true, ms(500)));
        for (frame, is_key, at) in frames {
            let _any = (ProfileLevelId::of_frame(&frame), Slice::first_of(&frame));
            prop_assert!(stream.let_through(&frame, is_key, ms(at)) || !is_key, "a keyframe goes out");
        }
    }

    #[test]
    fn nal_units_are_all_that_stands_between_start_codes(units in prop::collection::vec(prop::collection::vec(2..=255_u8, 1..40), 1..6)) {
        let frame: Vec<u8> = units.iter().flat_map(|unit| [&START_CODE[..], unit].concat()).collect();
        prop_assert_eq!(nal_units(&frame).collect::<Vec<_>>(), units);
    }

    #[test]
    fn the_level_carries_what_it_is_for(
        width in 1..8192_u32, height in 1..8192_u32, framerate in 1..300_u32, bitrate in 1..1_000_000_000_u64,
    ) {
        let idc = level_idc_for(width, height, framerate, bitrate);
        let more = [(width + 16, height, framerate, bitrate), (width, height, framerate + 1, bitrate), (width, height, framerate, bitrate * 2)];
        for (width, height, framerate, bitrate) in more {
            prop_assert!(level_idc_for(width, height, framerate, bitrate) >= idc, "more needs no lower level");
        }
        let row = LEVELS.iter().find(|level| level.level_idc == idc).expect("a row of the table");
        let frame = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
        let fits = frame <= row.frame_max && frame * u64::from(framerate) <= row.rate_max && bitrate <= row.kbps_max * 1000;
        prop_assert!(fits || idc == LEVEL_MAX);
    }
}

/// Bytes with many start codes among them.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(vec![0, 0, 1]),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0, 0, 1, 0x67]),
        Just(vec![0, 0, 1, 0x01]),
        prop::collection::vec(any::<u8>(), 0..6),
        Just(vec![0; 5]),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
