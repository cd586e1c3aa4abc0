//! The way to one connected peer: its keys, its address, and the sender reports that go there.

use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::datagrams::{Datagrams, Route};
use crate::media::bandwidth::arrivals::Arrivals;
use crate::media::bandwidth::estimator::Estimator;
use crate::media::bandwidth::history::History;
use crate::media::bandwidth::pacer::Pacer;
use crate::media::bandwidth::probe::Probe;
use crate::media::rtcp::{
    ANSWER_BYTES, HEAD_BYTES, Reference, SENDER_REPORT_BYTES, SenderReport, write_answer, write_head,
};
use crate::media::srtp::Srtp;

/// Time between two reports on a stream that is being sent. Shorter lets sound and picture find each other sooner,
/// longer costs less for each subscriber.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// What a path is believed to carry until the first probe is through, some 100 ms: sound and thumbnails. Higher fills the
/// queue of a slow path with keyframes that it can't carry, lower begins with fewer pictures.
const START_BPS: u64 = 300_000;

/// Below this, sound is sent without redundancy: three voices with it take 300 kbit/s. Lower crowds pictures out, higher
/// takes the redundancy from those whose Wi-Fi loses packets.
const NARROW_BPS: u64 = 800_000;

/// Part of an estimate that retransmissions may take, one in so many, and how much of it is saved up: of a path that
/// loses what is too much, retransmissions would only lose more. Less is not enough for 10 % of loss at random.
const REPAIR_PART: f64 = 4.0;
const REPAIR_SAVED_SECS: f64 = 0.25;

/// Retransmissions take their part of this many times what is sent, where the estimate is more. Lower leaves losses of a
/// moment unrepaired, higher fills a path with what an outage took.
const TRIED: u64 = 2;

/// Bytes that are saved up at least: two packets, or the largest would never be sent again over a slow path.
const REPAIR_LEAST_SAVED: f64 = 3_000.0;

/// Time between two packets of a probe, or two handfuls. Shorter is more even, and wakes the loop more often.
const PADDING_INTERVAL: Duration = Duration::from_millis(3);

/// Messages at once on what has come. One is enough, unless times or numbers are far apart: who sends such is to get no
/// more than it sends.
const MESSAGES: usize = 8;

/// Bytes of one compound packet of reports.
const COMPOUND_BYTES: usize = 1_100;

/// How late a packet may come over a path that was left. Shorter lets late packets send media back to a path that is
/// gone, longer keeps media longer on the wrong one where the peer returns to the path before.
const LATEST: Duration = Duration::from_secs(1);

/// Paths that may have been left in that time: as many as a peer has addresses.
const MAX_LEFT: usize = 8;

/// Seconds from 1900 to 1970: NTP counts from there (RFC 5905 section 6).
const NTP_UNIX: u64 = 2_208_988_800;

/// The largest datagram that is read.
const DATAGRAM_BYTES: usize = 2_048;

/// Where media goes, and what it is sealed with.
pub struct Egress {
    /// The keys.
    pub srtp: Srtp,
    /// The address that the peer has proven to receive at.
    pub route: Route,
    /// Routes that were left not long ago, and when.
    left: Vec<(Route, Instant)>,
    /// Until when there is consent for it, as far as was looked.
    pub held_until: Option<Instant>,
    /// The SSRC that reports are sealed under; nothing else has it.
    reporter: u32,
    next_report: Instant,
    /// The peer's clock when it last told it, to be answered with the next report.
    reference: Option<(Instant, Reference)>,
    /// The last feedback, opened.
    opened: Vec<u8>,
    /// What the path there carries.
    pub estimator: Estimator,
    /// How fast it may be filled.
    pub pacer: Pacer,
    /// The probe that is being sent.
    train: Option<Train>,
    /// What retransmissions may take, in bytes; all, until there is an estimate.
    repair: Option<Bucket>,
    is_narrow: bool,
}

/// A probe on its way.
#[derive(Clone, Copy)]
struct Train {
    probe: Probe,
    started: Instant,
    bytes: usize,
    packets: u32,
}

impl Egress {
    /// The most that one takes.
    pub const MAX_BYTES: usize = size_of::<Self>()
        + Srtp::MAX_BYTES
        + History::MAX_BYTES
        + 2 * DATAGRAM_BYTES
        + 2 * MAX_LEFT * size_of::<(Route, Instant)>();

    /// A peer that has just connected.
    pub fn new(now: Instant, srtp: Srtp, route: Route, reporter: u32) -> Self {
        Self {
            srtp,
            route,
            left: Vec::new(),
            held_until: None,
            reporter,
            next_report: now,
            reference: None,
            opened: Vec::new(),
            estimator: Estimator::new(now, START_BPS),
            pacer: Pacer::new(now, START_BPS),
            train: None,
            repair: None,
            is_narrow: false,
        }
    }

    /// Opens feedback of the peer, which shows that it is at the other end of `route`; `None` if it is not authentic.
    /// `close_rtcp` wants it back.
    pub fn open_rtcp(&mut self, now: Instant, route: Route, packet: &[u8]) -> Option<Vec<u8>> {
        self.srtp.open_rtcp(packet, &mut self.opened)?;
        self.take_route(now, route);
        Some(std::mem::take(&mut self.opened))
    }

    /// Takes back what was opened, to be used again.
    pub fn close_rtcp(&mut self, opened: Vec<u8>) {
        self.opened = opened;
    }

    /// Counts a packet that is being sent, and gives its transport-wide number.
    pub fn number(&mut self, now: Instant, bytes: usize) -> u16 {
        let cluster = match &mut self.train {
            Some(train) => {
                train.bytes += bytes;
                train.packets += 1;
                train.probe.cluster
            }
            None => 0,
        };
        self.estimator.push(now, bytes, cluster)
    }

    /// Whether there is room for what must get through and no more.
    pub fn is_narrow(&self) -> bool {
        self.is_narrow
    }

    /// The estimate may have changed.
    pub fn on_estimate(&mut self, now: Instant) {
        let estimate_bps = self.estimator.estimate_bps();
        self.pacer.set_estimate(now, estimate_bps);
        self.is_narrow = estimate_bps < NARROW_BPS;
        if self.repair.is_none() {
            let (rate, burst) = self.repair_limits();
            self.repair = Some(Bucket::new(now, rate, burst));
        }
    }

    /// Whether so many bytes may be sent again; if so they are counted.
    pub fn take_repair(&mut self, now: Instant, bytes: usize) -> bool {
        let (rate, burst) = self.repair_limits();
        let Some(repair) = &mut self.repair else { return true };
        repair.resize(rate, burst);
        repair.take_many(now, bytes as f64)
    }

    /// What retransmissions may take: bytes a second, and how many at once.
    fn repair_limits(&self) -> (f64, f64) {
        let estimate_bps = self.estimator.estimate_bps();
        // An estimate far above what is sent was never tried.
        let tried_bps = self.estimator.sent_bps().map_or(estimate_bps, |sent| estimate_bps.min(TRIED * sent));
        let rate = tried_bps as f64 / 8.0 / REPAIR_PART;
        (rate, (rate * REPAIR_SAVED_SECS).max(REPAIR_LEAST_SAVED))
    }

    /// Begins a probe, if it is time for one.
    pub fn start_probe(&mut self, now: Instant) {
        if self.train.is_none() {
            let train = |probe| Train { probe, started: now, bytes: 0, packets: 0 };
            self.train = self.estimator.poll_probe(now).map(train);
        }
    }

    /// Whether a probe is on its way.
    pub fn is_probing(&self) -> bool {
        self.train.is_some()
    }

    /// Whether the probe needs a packet more by now; what was sent meanwhile counts.
    pub fn needs_padding(&mut self, now: Instant) -> bool {
        let Some(Train { probe, started, bytes, packets }) = self.train else {
            return false;
        };
        if bytes >= probe.bytes && packets >= probe.packets {
            self.train = None;
            return false;
        }
        let elapsed = now.saturating_duration_since(started).as_secs_f64();
        bytes as f64 <= probe.bitrate_bps as f64 / 8.0 * elapsed
    }

    /// When the probe needs its next packet.
    pub fn next_padding(&self, now: Instant) -> Option<Instant> {
        self.train.as_ref().map(|_| now + PADDING_INTERVAL)
    }

    /// There is nothing to pad with.
    pub fn end_probe(&mut self) {
        self.train = None;
    }

    /// An authentic packet of the peer came this way. Media follows it, unless it came over a path that was left just
    /// now: then it is late.
    pub fn take_route(&mut self, now: Instant, route: Route) {
        if self.route == route {
            return;
        }
        self.left.retain(|(_, at)| now < *at + LATEST);
        if self.left.iter().any(|(left, _)| *left == route) {
            return;
        }
        if self.left.len() >= MAX_LEFT {
            self.left.remove(0);
        }
        self.left.push((self.route, now));
        self.set_route(route);
    }

    /// Media goes this way from now on.
    pub fn set_route(&mut self, route: Route) {
        (self.route, self.held_until) = (route, None);
    }

    /// The peer has told its clock, and wants to hear of it again.
    pub fn handle_reference(&mut self, now: Instant, reference: Reference) {
        self.reference = Some((now, reference));
    }

    /// A stream has just begun: its first report is not to wait for the others'.
    pub fn hasten_report(&mut self, now: Instant) {
        self.next_report = self.next_report.min(now);
    }

    /// Tells what has come, as far as that is due.
    pub fn acknowledge(&mut self, now: Instant, arrivals: &mut Arrivals, datagrams: &mut Datagrams) {
        for _ in 0..MESSAGES {
            if arrivals.due().is_none_or(|due| due > now) {
                return;
            }
            let buffer = datagrams.buffer();
            let start = buffer.len();
            arrivals.write(now, self.reporter, buffer);
            self.srtp.seal_rtcp(buffer, start);
            datagrams.finish(self.route);
        }
        arrivals.skip();
    }

    /// Sends reports on what was sent since the last time, when it is time. It needs no timer: who is sent nothing needs
    /// no report.
    pub fn report(&mut self, now: Instant, reports: impl Iterator<Item = SenderReport>, datagrams: &mut Datagrams) {
        if now < self.next_report {
            return;
        }
        self.next_report = now + REPORT_INTERVAL;
        let mut reports = reports.peekable();
        while reports.peek().is_some() {
            let buffer = datagrams.buffer();
            let start = buffer.len();
            write_head(self.reporter, buffer);
            let most = (COMPOUND_BYTES - HEAD_BYTES - ANSWER_BYTES) / SENDER_REPORT_BYTES;
            reports.by_ref().take(most).for_each(|report| report.write(buffer));
            if let Some((came, reference)) = self.reference.take() {
                write_answer(self.reporter, reference, now.saturating_duration_since(came), buffer);
            }
            self.srtp.seal_rtcp(buffer, start);
            datagrams.finish(self.route);
        }
    }
}

/// Wall time as NTP has it: seconds in the upper half, fractions below.
pub fn ntp(unix: Duration) -> u64 {
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + NTP_UNIX) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_counts_from_1900_in_binary_fractions() {
        assert_eq!(ntp(Duration::from_millis(1_500)), (NTP_UNIX + 1) << 32 | 1 << 31);
    }
}
