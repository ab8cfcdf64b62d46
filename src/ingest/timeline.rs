//! Pure: time for viewers - RTP timestamps that never jump back, and wall clocks that keep picture and sound together.

use std::time::{Duration, Instant, SystemTime};

/// Picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// RTP time of one kind as viewers see it: goes on from one publisher to the next.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Added to the publisher's (extended) RTP time, wrapping.
    offset: u64,
    /// The last time given out, and when.
    last: Option<(u64, Instant)>,
    new_source: bool,
}

impl Timeline {
    /// The next frame comes from another publisher, whose RTP time has nothing to do with the old one.
    pub(super) fn change_source(&mut self) {
        self.new_source = self.last.is_some();
    }

    /// RTP time for the viewers of a frame that carries `ticks` of a clock of `rate` Hz and arrived at `now`.
    pub(super) fn map(&mut self, ticks: u64, rate: u32, now: Instant) -> u64 {
        if let (true, Some((last, at))) = (self.new_source, self.last) {
            // The gap on the viewers' timeline is as long as the gap that they lived through.
            let gap = now.saturating_duration_since(at).max(Duration::from_millis(1));
            let gap_ticks = (gap.as_secs_f64() * f64::from(rate)) as u64;
            self.offset = last.wrapping_add(gap_ticks).wrapping_sub(ticks);
            self.new_source = false;
        }
        let out = ticks.wrapping_add(self.offset);
        self.last = Some((out, now));
        out
    }
}

/// What the last RTCP sender report of a track said: at `ntp` of the sender's clock, the track was at `rtp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// The sender's wall clock.
    pub(super) ntp: SystemTime,
    /// RTP time of the track at that moment, not extended.
    pub(super) rtp: u32,
}

/// The publisher's clock, mapped to ours, so that frames captured together get the same wall clock.
///
/// What counts is only that picture and sound are mapped alike. Until each kind that is heard has had a sender report, both
/// go by their arrival.
#[derive(Debug, Default)]
pub(super) struct SenderClock {
    /// One moment on both clocks.
    base: Option<(SystemTime, Instant)>,
    heard: [Heard; 2],
    /// Its reports were far off once: its clock was stepped, or it computes them wrongly (webrtcbin in a pipeline that
    /// ignores LATENCY messages does). Arrival is the better guide from then on.
    distrusted: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Heard {
    #[default]
    Nothing,
    Media,
    Report,
}

/// Sender reports that put a frame further than this from its arrival are not believed. A queue in the network is shorter.
const OFF_MAX: Duration = Duration::from_secs(2);

impl SenderClock {
    /// When (on our clock) a frame was sampled. Never later than `arrival`: str0m wants wall clocks of the past.
    pub(super) fn sampled(
        &mut self,
        kind: Kind,
        report: Option<Report>,
        rtp: u32,
        rate: u32,
        arrival: Instant,
    ) -> Instant {
        self.heard[kind as usize] = if report.is_some() { Heard::Report } else { Heard::Media };
        let usable = !self.distrusted && !self.heard.contains(&Heard::Media);
        let Some(report) = report.filter(|_| usable) else { return arrival };
        // The nearest of the two possible distances: RTP time wraps.
        let ticks = rtp.wrapping_sub(report.rtp).cast_signed();
        let away = Duration::from_secs_f64(f64::from(ticks).abs() / f64::from(rate.max(1)));
        let sampled = if ticks < 0 { report.ntp.checked_sub(away) } else { report.ntp.checked_add(away) };
        let Some(sampled) = sampled else { return arrival };

        let (base_ntp, base) = *self.base.get_or_insert((sampled, arrival));
        let mapped = match sampled.duration_since(base_ntp) {
            Ok(later) => base.checked_add(later),
            Err(earlier) => base.checked_sub(earlier.duration()),
        };
        match mapped {
            Some(at) if at <= arrival && arrival - at <= OFF_MAX => at,
            // Ours is behind (a slow start or clock drift): move both kinds back together.
            Some(at) if at > arrival && at - arrival <= OFF_MAX => {
                self.base = base.checked_sub(at - arrival).map(|base| (base_ntp, base));
                arrival
            }
            Some(_) | None => {
                self.distrusted = true;
                arrival
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn rtp_time_goes_on_over_a_change_of_publisher() {
        let start = Instant::now();
        let mut line = Timeline::default();
        assert_eq!(line.map(5_000_000, 90_000, start), 5_000_000);
        assert_eq!(line.map(5_003_000, 90_000, start + 33 * MS), 5_003_000);
        line.change_source();
        assert_eq!(line.map(7, 90_000, start + 1033 * MS), 5_093_000, "a second later on the same line");
        assert_eq!(line.map(3007, 90_000, start + 1066 * MS), 5_096_000);
    }

    #[test]
    fn a_first_publisher_keeps_its_rtp_time() {
        let mut line = Timeline::default();
        line.change_source();
        assert_eq!(line.map(42, 48_000, Instant::now()), 42);
    }

    /// Sound arrives 5 ms after it was sampled, picture 60 ms after; both are said to be sampled together.
    #[test]
    fn frames_sampled_together_get_the_same_wall_clock() {
        let start = Instant::now() + Duration::from_secs(100);
        let ntp = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut clock = SenderClock::default();
        let audio = Report { ntp, rtp: u32::MAX - 100 };
        let video = Report { ntp, rtp: 77 };
        let mut off = Duration::MAX;
        for n in 0..50u32 {
            let at = start + n * 20 * MS;
            let sound = clock.sampled(Kind::Audio, Some(audio), audio.rtp.wrapping_add(n * 960), 48_000, at + 5 * MS);
            let picture = clock.sampled(Kind::Video, Some(video), video.rtp + n * 1800, 90_000, at + 60 * MS);
            assert!(sound <= at + 5 * MS && picture <= at + 60 * MS, "never in the future");
            off = picture.max(sound) - picture.min(sound);
        }
        assert!(off < MS, "{off:?}");
    }

    #[test]
    fn until_each_kind_has_a_report_arrival_counts() {
        let at = Instant::now();
        let report = Report { ntp: SystemTime::UNIX_EPOCH, rtp: 0 };
        let mut clock = SenderClock::default();
        assert_eq!(clock.sampled(Kind::Audio, None, 0, 48_000, at), at);
        assert_eq!(clock.sampled(Kind::Video, Some(report), 900_000, 90_000, at), at);
        assert_eq!(clock.base, None);
    }

    #[test]
    fn a_sender_whose_reports_run_away_is_judged_by_arrival() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut clock = SenderClock::default();
        for n in 0..20u32 {
            let at = start + n * 1000 * MS;
            // Media runs at 90 000 a second, the reports say 180 000.
            let ntp = SystemTime::UNIX_EPOCH + n * 1000 * MS;
            let sampled = clock.sampled(Kind::Video, Some(Report { ntp, rtp: n * 180_000 }), n * 90_000, 90_000, at);
            assert!(sampled <= at && at - sampled <= OFF_MAX, "second {n}");
        }
        assert!(clock.distrusted);
    }

    #[test]
    fn an_absurd_report_is_survived() {
        let at = Instant::now();
        let mut clock = SenderClock::default();
        for ntp in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(u32::MAX.into())] {
            assert_eq!(clock.sampled(Kind::Video, Some(Report { ntp, rtp: u32::MAX / 2 }), 0, 1, at), at);
        }
    }
}
