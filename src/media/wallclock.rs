//! The sender's clock: when a packet was captured, in our time, from the publisher's own sender reports.
//!
//! Sender reports are written from the capture time of the last packet (RFC 3550 section 6.4.1). With the
//! arrival time there, a difference in path delay between audio and video would become a difference in lip
//! sync. So capture times are taken from the publisher's reports and moved into our time by one offset for the
//! whole publisher.

use std::time::{Duration, Instant, SystemTime};

use str0m::media::Frequency;

/// Longest way of a packet from its capture. One that seems to have taken longer counts as captured when it arrived:
/// libwebrtc's clock of sound stands still while nothing is sent, so that until its next report all comes from the past
/// by the pause. A report that seems to is of a clock that was set. Shorter takes a bad network for that, longer has lips
/// out of step for longer.
const LONGEST_WAY: Duration = Duration::from_secs(1);

/// One track's last sender report.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The publisher's wall clock.
    pub ntp: SystemTime,
    /// RTP timestamp of that moment.
    pub timestamp: u32,
}

/// The clock of one publisher, shared by its tracks.
#[derive(Debug, Default)]
pub struct SenderClock {
    /// The report with the least path delay so far: this wall time was that instant.
    anchor: Option<(Instant, SystemTime)>,
}

impl SenderClock {
    /// Takes a report of any of the publisher's tracks, received at `now`.
    pub fn handle_report(&mut self, now: Instant, ntp: SystemTime) {
        let later_than_anchor = match self.local(ntp) {
            None => true,
            // Predicted to be captured after it arrived: this report had a shorter way than the anchor.
            Some(captured) if captured > now => true,
            Some(captured) => now - captured >= LONGEST_WAY,
        };
        if later_than_anchor {
            self.anchor = Some((now, ntp));
        }
    }

    /// When the sample with this RTP `timestamp` was captured, in our time and not after `now`; `now` itself
    /// where nothing better is known.
    pub fn captured(&self, now: Instant, report: Option<Report>, timestamp: u32, clock_rate: Frequency) -> Instant {
        let since_report = |report: Report| {
            let ticks = timestamp.wrapping_sub(report.timestamp) as i32;
            let elapsed = Duration::from_secs_f64(f64::from(ticks.unsigned_abs()) / f64::from(clock_rate.get()));
            if ticks < 0 { report.ntp.checked_sub(elapsed) } else { report.ntp.checked_add(elapsed) }
        };
        report
            .and_then(since_report)
            .and_then(|ntp| self.local(ntp))
            .map(|captured| captured.min(now))
            .filter(|captured| now - *captured < LONGEST_WAY)
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
        // Captured together at 0: video needs 170 ms, audio 20 ms.
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
    fn nonsense_falls_back_to_the_arrival() {
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
    fn a_clock_that_was_set_back_is_followed() {
        let start = Instant::now() + Duration::from_secs(100);
        let at = |ms| start + Duration::from_millis(ms);
        let ntp = |ms| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + Duration::from_millis(ms);
        let mut clock = SenderClock::default();
        clock.handle_report(at(50), ntp(0));
        // By two seconds; video needs 150 ms more than audio.
        clock.handle_report(at(3_020), ntp(1_000));
        let (audio, video) = (Report { ntp: ntp(1_000), timestamp: 0 }, Report { ntp: ntp(1_000), timestamp: 0 });
        let of_audio = clock.captured(at(4_020), Some(audio), 48_000, Frequency::FORTY_EIGHT_KHZ);
        let of_video = clock.captured(at(4_170), Some(video), 90_000, Frequency::NINETY_KHZ);
        assert_eq!((of_audio, of_video), (at(4_020), at(4_020)));
    }

    #[test]
    fn a_clock_that_stood_still_is_not_believed() {
        let start = Instant::now();
        let mut clock = SenderClock::default();
        clock.handle_report(start, SystemTime::UNIX_EPOCH);
        let report = Some(Report { ntp: SystemTime::UNIX_EPOCH, timestamp: 0 });
        for (arrives_ms, way_ms) in [(480, 480), (999, 999), (1_000, 0), (3_000, 0)] {
            let arrives = start + Duration::from_millis(20 + arrives_ms);
            let captured = clock.captured(arrives, report, 960, Frequency::FORTY_EIGHT_KHZ);
            assert_eq!(arrives - captured, Duration::from_millis(way_ms), "{arrives_ms} ms after the report");
        }
    }
}
