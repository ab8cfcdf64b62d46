//! Pure: what an H.264 stream says of itself (H.264, Annex A and B), and what SDP says of it (RFC 6184, section 8.1).
//!
//! No more of it is read than a session has to know: three bytes of the sequence parameter set and the head of a slice.

use std::fmt;
use std::time::Duration;

/// NAL unit types (H.264, table 7-1).
const NAL_SLICE: u8 = 1;
const NAL_SLICE_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
/// profile_idc (H.264, A.2).
const BASELINE: u8 = 66;
const MAIN: u8 = 77;
const EXTENDED: u8 = 88;
const HIGH: u8 = 100;
/// The highest level_idc there is: 6.2.
const LEVEL_MAX: u8 = 62;

/// `profile-level-id` of SDP: the first three bytes of a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevelId {
    profile_idc: u8,
    /// The constraint flags.
    profile_iop: u8,
    /// Ten times the level: 31 is level 3.1.
    level_idc: u8,
}

/// What a decoder must be able to do, as far as players differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// What every WebRTC player decodes (RFC 7742).
    ConstrainedBaseline,
    /// The same with tools that no camera uses.
    Baseline,
    /// CABAC, B-frames, interlaced pictures.
    Main,
    /// Main, and the 8x8 transform; constrained high is part of it.
    High,
    /// Extended, 10 bit, 4:2:2, 4:4:4: hardly a player decodes it.
    Other,
}

impl ProfileLevelId {
    /// Constrained baseline of this level, in the form that servers know best.
    #[must_use]
    pub const fn constrained_baseline(level_idc: u8) -> Self {
        Self { profile_idc: BASELINE, profile_iop: 0xe0, level_idc }
    }

    /// Of the first sequence parameter set in a frame (Annex B).
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        nal_units(frame).find_map(|unit| match unit {
            [header, profile_idc, profile_iop, level_idc, ..] if header & 0x1f == NAL_SPS => {
                Some(Self { profile_idc: *profile_idc, profile_iop: *profile_iop, level_idc: *level_idc })
            }
            _ => None,
        })
    }

    /// From the text of SDP: six hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = Some(text).filter(|text| text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let [_, profile_idc, profile_iop, level_idc] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some(Self { profile_idc, profile_iop, level_idc })
    }

    /// The profile (RFC 6184, table 5).
    #[must_use]
    pub const fn profile(self) -> Profile {
        let (set0, set1) = (self.profile_iop & 0x80 != 0, self.profile_iop & 0x40 != 0);
        match self.profile_idc {
            BASELINE if set1 => Profile::ConstrainedBaseline,
            MAIN if set0 => Profile::ConstrainedBaseline,
            EXTENDED if set0 && set1 => Profile::ConstrainedBaseline,
            BASELINE => Profile::Baseline,
            EXTENDED if set0 => Profile::Baseline,
            MAIN => Profile::Main,
            HIGH => Profile::High,
            _ => Profile::Other,
        }
    }

    /// Ten times the level: 31 is level 3.1.
    #[must_use]
    pub const fn level_idc(self) -> u8 {
        self.level_idc
    }

    /// The same profile as servers write it (many compare the text), and no lower level than this.
    #[must_use]
    pub fn as_offered(self, level_min: u8) -> Self {
        let (profile_idc, profile_iop) = match self.profile() {
            Profile::ConstrainedBaseline => (BASELINE, 0xe0),
            Profile::Baseline => (BASELINE, 0),
            Profile::Main => (MAIN, 0),
            Profile::High => (HIGH, 0),
            Profile::Other => (self.profile_idc, self.profile_iop),
        };
        Self { profile_idc, profile_iop, level_idc: self.level_idc.max(level_min).min(LEVEL_MAX) }
    }
}

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}{:02x}", self.profile_idc, self.profile_iop, self.level_idc)
    }
}

/// One row of table A-1.
struct Level {
    level_idc: u8,
    /// Macroblocks a second.
    rate_max: u64,
    /// Macroblocks a frame.
    frame_max: u64,
    /// Kilobits a second, baseline and main profile.
    kbps_max: u64,
}

const fn level(level_idc: u8, rate_max: u64, frame_max: u64, kbps_max: u64) -> Level {
    Level { level_idc, rate_max, frame_max, kbps_max }
}

/// H.264, table A-1 (MaxMBPS, MaxFS, MaxBR), from level 3.1 on.
const LEVELS: [Level; 11] = [
    level(31, 108_000, 3_600, 14_000),
    level(32, 216_000, 5_120, 20_000),
    level(40, 245_760, 8_192, 20_000),
    level(41, 245_760, 8_192, 50_000),
    level(42, 522_240, 8_704, 50_000),
    level(50, 589_824, 22_080, 135_000),
    level(51, 983_040, 36_864, 240_000),
    level(52, 2_073_600, 36_864, 240_000),
    level(60, 4_177_920, 139_264, 240_000),
    level(61, 8_355_840, 139_264, 480_000),
    level(62, 16_711_680, 139_264, 800_000),
];

/// The lowest level from 3.1 on (which all players take) that carries such pictures; the highest when none does.
/// `bitrate`: bits per second.
#[must_use]
pub fn level_idc_for(width: u32, height: u32, framerate: u32, bitrate: u64) -> u8 {
    let (across, down) = (u64::from(width.div_ceil(16)), u64::from(height.div_ceil(16)));
    let frame = across.saturating_mul(down);
    let rate = frame.saturating_mul(framerate.into());
    let side = across.max(down);
    let carries = |level: &&Level| {
        frame <= level.frame_max
            && rate <= level.rate_max
            && bitrate <= level.kbps_max * 1000
            && side.saturating_mul(side) <= level.frame_max * 8
    };
    LEVELS.iter().find(carries).map_or(LEVEL_MAX, |level| level.level_idc)
}

/// The first slice of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    is_b: bool,
    /// Other frames are decoded with it.
    is_reference: bool,
}

impl Slice {
    fn first_of(frame: &[u8]) -> Option<Self> {
        let is_slice =
            |unit: &&[u8]| unit.first().is_some_and(|header| [NAL_SLICE, NAL_SLICE_IDR].contains(&(header & 0x1f)));
        let (header, body) = nal_units(frame).find(is_slice)?.split_first()?;
        let mut bits = Bits { bytes: body, at: 0 };
        // Slice types 5 to 9 say in addition that all slices of the picture are of this type (table 7-6).
        let (_first_mb_in_slice, slice_type) = (bits.exp_golomb()?, bits.exp_golomb()?);
        Some(Self { is_b: slice_type % 5 == 1, is_reference: header & 0x60 != 0 })
    }
}

/// The bits of a NAL unit. (Emulation prevention bytes cannot stand as early as we read: 00 00 03 needs two zero bytes,
/// which is a first_mb_in_slice that no picture has.)
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }

    /// `ue(v)` (H.264, section 9.1).
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let mut rest = 0_u32;
        for _ in 0..zeros {
            rest = rest << 1 | self.bit()?;
        }
        Some((1_u32.checked_shl(zeros)? - 1).saturating_add(rest))
    }
}

/// The NAL units of a frame in Annex B form: what stands between start codes.
fn nal_units(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(frame);
    std::iter::from_fn(move || {
        let unit = rest?;
        rest = after_start_code(unit);
        let end = rest.map_or(unit.len(), |rest| unit.len() - rest.len() - START_CODE.len());
        unit.get(..end)
    })
}

const START_CODE: [u8; 3] = [0, 0, 1];

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes.windows(START_CODE.len()).position(|window| window == START_CODE)?;
    bytes.get(at + START_CODE.len()..)
}

/// Watches the frames of one stream, in the order of decoding.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    made: Option<ProfileLevelId>,
    /// The latest time of presentation so far.
    newest: Duration,
    has_b_frames: bool,
}

impl Inspection {
    /// Looks at the next frame (Annex B), to be shown at this running time. False: it is to be left out.
    ///
    /// RTP of WebRTC carries frames in the order in which they are shown, and so players take them: a B-frame, which is
    /// sent after the frame that follows it, makes the picture jump back and forth, and some servers end the session for
    /// it. One that no other frame needs can be left out; the picture then moves less smoothly and is whole. One that
    /// others need must go out.
    pub fn let_through(&mut self, frame: &[u8], is_key: bool, at: Duration) -> bool {
        if is_key && let Some(made) = ProfileLevelId::of_frame(frame) {
            // Another stream than before, which may be a better one.
            self.has_b_frames &= self.made == Some(made);
            self.made = Some(made);
        }
        let is_behind = at < self.newest && !is_key;
        if is_behind
            && self.may_have_b_frames()
            && let Some(slice) = Slice::first_of(frame)
        {
            self.has_b_frames |= slice.is_b || !slice.is_reference;
            if !slice.is_reference {
                return false;
            }
        }
        // Also backwards: a camera that was opened again may count time anew.
        self.newest = if is_key { at } else { self.newest.max(at) };
        true
    }

    /// Is there anything to be seen in the next frame? Most frames need no look.
    #[must_use]
    pub fn is_of_interest(&self, is_key: bool) -> bool {
        is_key || self.may_have_b_frames()
    }

    /// What the newest sequence parameter set says; `None`: none has come yet.
    #[must_use]
    pub const fn made(&self) -> Option<ProfileLevelId> {
        self.made
    }

    /// The stream has frames that are sent in another order than they are shown in.
    #[must_use]
    pub const fn has_b_frames(&self) -> bool {
        self.has_b_frames
    }

    /// Baseline has none, so most streams are never looked at any closer.
    fn may_have_b_frames(&self) -> bool {
        !matches!(self.made.map(ProfileLevelId::profile), None | Some(Profile::ConstrainedBaseline | Profile::Baseline))
    }
}

#[cfg(test)]
mod tests;
