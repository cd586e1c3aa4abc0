//! Capture times of packets in local monotonic time, derived from the publisher's sender reports.
//!
//! The server's own sender reports state the capture time of the last packet (RFC 3550 section 6.4.1). With arrival
//! times instead, a difference in path delay between audio and video would become a lip-sync error. So capture times
//! are taken from the publisher's reports and converted to local time with one offset for the whole publisher.

use std::time::{Duration, Instant, SystemTime};

use str0m::media::Frequency;

/// Maximum plausible delay between capture and arrival. A packet with a longer one counts as captured on arrival:
/// libwebrtc's audio clock stands still while nothing is sent, so packets after a pause appear too old until the next
/// report. A report with a longer delay means that the clock was set. A shorter limit mistakes the delay of a bad
/// network for these cases; a longer one prolongs lip-sync errors.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Nanoseconds per second. Multiplied with 2^31 ticks, they fit 64 bits.
const NANOS: u64 = 1_000_000_000;

/// The last sender report of one track.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Wall-clock time of the publisher.
    pub ntp: SystemTime,
    /// RTP timestamp of the same moment.
    pub timestamp: u32,
}

/// The wall clock of one publisher, shared by its tracks.
#[derive(Debug, Default)]
pub struct SenderClock {
    /// Arrival and wall-clock time of the report with the lowest path delay so far.
    anchor: Option<(Instant, SystemTime)>,
}

impl SenderClock {
    /// Handles a report of any of the publisher's tracks, received at `now`.
    pub fn handle_report(&mut self, now: Instant, ntp: SystemTime) {
        let is_better = match self.local(ntp) {
            None => true,
            // The report would be captured after its arrival: its delay was lower than that of the anchor.
            Some(captured) if captured > now => true,
            Some(captured) => now - captured >= MAX_DELAY,
        };
        if is_better {
            self.anchor = Some((now, ntp));
        }
    }

    /// Returns when the sample with this RTP timestamp was captured, in local time and not after `now`. Returns `now`
    /// if no report gives a plausible time.
    pub fn captured(&self, now: Instant, report: Option<Report>, timestamp: u32, clock_rate: Frequency) -> Instant {
        let since_report = |report: Report| {
            let ticks = timestamp.wrapping_sub(report.timestamp) as i32;
            let elapsed = Duration::from_nanos(u64::from(ticks.unsigned_abs()) * NANOS / u64::from(clock_rate.get()));
            if ticks < 0 { report.ntp.checked_sub(elapsed) } else { report.ntp.checked_add(elapsed) }
        };
        report
            .and_then(since_report)
            .and_then(|ntp| self.local(ntp))
            .map(|captured| captured.min(now))
            .filter(|captured| now < *captured + MAX_DELAY)
            .unwrap_or(now)
    }

    fn local(&self, ntp: SystemTime) -> Option<Instant> {
        let (at, anchor) = self.anchor?;
        match ntp.duration_since(anchor) {
            Ok(later) => at.checked_add(later),
            Err(earlier) => at.checked_sub(earlier.duration()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_with_different_delays_share_one_clock() {
        let start = Instant::now() + Duration::from_secs(100);
        let at = |ms| start + Duration::from_millis(ms);
        let ntp = |ms| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + Duration::from_millis(ms);
        let mut clock = SenderClock::default();
        // Captured together at 0: video takes 170 ms, audio 20 ms.
        clock.handle_report(at(170), ntp(0));
        clock.handle_report(at(1_020), ntp(1_000));
        let video = Some(Report { ntp: ntp(0), timestamp: 0 });
        let audio = Some(Report { ntp: ntp(1_000), timestamp: 77 });
        let of_video = clock.captured(at(2_170), video, 180_000, Frequency::NINETY_KHZ);
        let of_audio = clock.captured(at(2_020), audio, 77 + 48_000, Frequency::FORTY_EIGHT_KHZ);
        assert_eq!(of_video, of_audio);
        assert_eq!(of_audio, at(2_020));
    }

    #[test]
    fn implausible_reports_fall_back_to_the_arrival_time() {
        let now = Instant::now();
        let mut clock = SenderClock::default();
        let report = Report { ntp: SystemTime::UNIX_EPOCH, timestamp: 0 };
        assert_eq!(clock.captured(now, None, 5, Frequency::NINETY_KHZ), now);
        assert_eq!(clock.captured(now, Some(report), 5, Frequency::NINETY_KHZ), now);
        clock.handle_report(now, SystemTime::UNIX_EPOCH);
        let later = now + Duration::from_secs(3600);
        assert_eq!(clock.captured(later, Some(report), 5, Frequency::NINETY_KHZ), later);
        clock.handle_report(later, SystemTime::UNIX_EPOCH);
        assert_eq!(clock.captured(later, Some(report), 0, Frequency::NINETY_KHZ), later);
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let start = Instant::now() + Duration::from_secs(100);
        let at = |ms| start + Duration::from_millis(ms);
        let ntp = |ms| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + Duration::from_millis(ms);
        let mut clock = SenderClock::default();
        clock.handle_report(at(50), ntp(0));
        // Set back by two seconds; video takes 150 ms longer than audio.
        clock.handle_report(at(3_020), ntp(1_000));
        let (audio, video) = (Report { ntp: ntp(1_000), timestamp: 0 }, Report { ntp: ntp(1_000), timestamp: 0 });
        let of_audio = clock.captured(at(4_020), Some(audio), 48_000, Frequency::FORTY_EIGHT_KHZ);
        let of_video = clock.captured(at(4_170), Some(video), 90_000, Frequency::NINETY_KHZ);
        assert_eq!((of_audio, of_video), (at(4_020), at(4_020)));
    }

    #[test]
    fn a_clock_that_stood_still_falls_back_to_the_arrival_time() {
        let start = Instant::now();
        let mut clock = SenderClock::default();
        clock.handle_report(start, SystemTime::UNIX_EPOCH);
        let report = Some(Report { ntp: SystemTime::UNIX_EPOCH, timestamp: 0 });
        for (arrives_ms, delay_ms) in [(480, 480), (999, 999), (1_000, 0), (3_000, 0)] {
            let arrives = start + Duration::from_millis(20 + arrives_ms);
            let captured = clock.captured(arrives, report, 960, Frequency::FORTY_EIGHT_KHZ);
            assert_eq!(arrives - captured, Duration::from_millis(delay_ms), "{arrives_ms} ms after the report");
        }
    }
}
