//! The transport to one connected peer: keys, route, bitrate estimate, and the RTCP that the server sends.

use std::time::{Duration, Instant};

use crate::limits::bucket::Bucket;
use crate::media::bandwidth::estimator::Estimator;
use crate::media::bandwidth::history::History;
use crate::media::bandwidth::pacer::Pacer;
use crate::media::bandwidth::train::Probe;
use crate::media::publish::arrivals::Arrivals;
use crate::media::rtp::rtcp::{
    DLRR_BYTES, HEAD_BYTES, Reference, SENDER_REPORT_BYTES, SenderReport, write_dlrr, write_head,
};
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::route::Route;
use crate::media::transport::srtp::Srtp;

/// Interval between sender reports. A shorter one synchronizes audio and video sooner, a longer one costs less for each
/// subscriber.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Estimate until the first probe completes after some 100 ms: enough for audio and thumbnails. A higher value fills
/// the queue of a slow path with keyframes that it can't carry, a lower one starts with fewer pictures.
const START_BPS: u64 = 300_000;

/// Estimate below which audio is sent without redundancy: three voices with it take 300 kbit/s. A lower value crowds
/// out video, a higher one takes the redundancy from subscribers on lossy Wi-Fi.
const NARROW_BPS: u64 = 800_000;

/// Retransmissions may take 1/`RETRANSMISSION_DIVISOR` of the estimate, with a burst of `RETRANSMISSION_BURST_SECS`
/// seconds of that rate. More would worsen the loss of a congested path, less does not make up for 10 % of random loss.
const RETRANSMISSION_DIVISOR: f64 = 4.0;
const RETRANSMISSION_BURST_SECS: f64 = 0.25;

/// The retransmission budget is computed from the estimate, but from at most this multiple of the sent bitrate. A lower
/// value leaves short bursts of lost packets without retransmission, a higher one fills a path with the packets of an
/// outage.
const MAX_SENT_MULTIPLE: u64 = 2;

/// Smallest burst of retransmissions in bytes: two packets. With less, the largest packet would never be retransmitted
/// on a slow path.
const MIN_RETRANSMISSION_BURST: f64 = 3_000.0;

/// Interval between two packets, or bursts, of a probe. A shorter one is smoother and wakes the event loop more often.
const PADDING_INTERVAL: Duration = Duration::from_millis(3);

/// Maximum number of arrival feedback messages sent at once. One is enough unless arrival times or sequence numbers are
/// far apart; a peer that sends such packets must not get more messages than it sends.
const MESSAGES: usize = 8;

/// Size limit of one compound packet of sender reports, in bytes.
const COMPOUND_BYTES: usize = 1_100;

/// Time after a change of the route for which packets from the previous one count as late. With a shorter time a late
/// packet moves media back to a dead path; with a longer one media stays on the wrong path if the peer returns.
const LATE_TIME: Duration = Duration::from_secs(1);

/// Maximum number of previous routes remembered: as many as a peer has addresses.
const MAX_PREVIOUS_ROUTES: usize = 8;

/// Seconds from 1900, the NTP epoch, to 1970 (RFC 5905 section 6).
const NTP_UNIX: u64 = 2_208_988_800;

/// Largest datagram read, in bytes.
const DATAGRAM_BYTES: usize = 2_048;

/// The sending half of one peer's transport.
pub struct Egress {
    /// The SRTP keys.
    pub srtp: Srtp,
    /// The route to the validated address that media is sent to.
    pub route: Route,
    /// Previous routes, and when each was left.
    previous_routes: Vec<(Route, Instant)>,
    /// When consent for `route` expires, as cached at the last look-up.
    pub consent_until: Option<Instant>,
    /// The SSRC from which reports are sent; no stream uses it.
    reporter: u32,
    next_report: Instant,
    /// The peer's last reference time and its arrival, to be answered with the next report (RFC 3611 section 4.5).
    reference: Option<(Instant, Reference)>,
    /// Buffer for decrypted RTCP.
    opened: Vec<u8>,
    /// The bitrate estimate of the path.
    pub estimator: Estimator,
    /// The pacer of video packets.
    pub pacer: Pacer,
    /// The running probe.
    train: Option<Train>,
    /// The retransmission budget in bytes; unlimited until there is an estimate.
    retransmissions: Option<Bucket>,
    is_narrow: bool,
}

/// A running probe.
#[derive(Clone, Copy)]
struct Train {
    probe: Probe,
    started: Instant,
    bytes: usize,
    packets: u32,
}

impl Egress {
    /// Upper bound of the memory of one `Egress`.
    pub const MAX_BYTES: usize = size_of::<Self>()
        + Srtp::MAX_BYTES
        + History::MAX_BYTES
        + 2 * DATAGRAM_BYTES
        + 2 * MAX_PREVIOUS_ROUTES * size_of::<(Route, Instant)>();

    /// Creates the transport of a peer that has just connected.
    pub fn new(now: Instant, srtp: Srtp, route: Route, reporter: u32) -> Self {
        Self {
            srtp,
            route,
            previous_routes: Vec::new(),
            consent_until: None,
            reporter,
            next_report: now,
            reference: None,
            opened: Vec::new(),
            estimator: Estimator::new(now, START_BPS),
            pacer: Pacer::new(now, START_BPS),
            train: None,
            retransmissions: None,
            is_narrow: false,
        }
    }

    /// Decrypts an RTCP packet of the peer, and makes `route` the route to the peer. Returns `None` if the packet is
    /// not authentic. The caller gives the buffer back with `close_rtcp`.
    pub fn open_rtcp(&mut self, now: Instant, route: Route, packet: &[u8]) -> Option<Vec<u8>> {
        self.srtp.open_rtcp(packet, &mut self.opened)?;
        self.take_route(now, route);
        Some(std::mem::take(&mut self.opened))
    }

    /// Takes back the buffer of `open_rtcp`.
    pub fn close_rtcp(&mut self, opened: Vec<u8>) {
        self.opened = opened;
    }

    /// Counts a packet to be sent, and returns its transport-wide sequence number.
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

    /// Whether the path is too narrow for redundancy.
    pub fn is_narrow(&self) -> bool {
        self.is_narrow
    }

    /// Applies the estimate, which may have changed.
    pub fn on_estimate(&mut self, now: Instant) {
        let estimate_bps = self.estimator.estimate_bps();
        self.pacer.set_estimate(now, estimate_bps, self.estimator.is_measured());
        self.is_narrow = estimate_bps < NARROW_BPS;
        if self.retransmissions.is_none() {
            let (rate, burst) = self.retransmission_limits();
            self.retransmissions = Some(Bucket::new(now, rate, burst));
        }
    }

    /// Takes `bytes` from the retransmission budget. Returns false if it has fewer.
    pub fn take_retransmission(&mut self, now: Instant, bytes: usize) -> bool {
        let (rate, burst) = self.retransmission_limits();
        let Some(bucket) = &mut self.retransmissions else { return true };
        bucket.resize(rate, burst);
        bucket.take_many(now, bytes as f64)
    }

    /// The retransmission budget: bytes per second, and burst in bytes.
    fn retransmission_limits(&self) -> (f64, f64) {
        let estimate_bps = self.estimator.estimate_bps();
        // An estimate far above the sent bitrate is untested.
        let tried_bps =
            self.estimator.sent_bps().map_or(estimate_bps, |sent| estimate_bps.min(MAX_SENT_MULTIPLE * sent));
        let rate = tried_bps as f64 / 8.0 / RETRANSMISSION_DIVISOR;
        (rate, (rate * RETRANSMISSION_BURST_SECS).max(MIN_RETRANSMISSION_BURST))
    }

    /// Starts a probe if one is due.
    pub fn start_probe(&mut self, now: Instant) {
        if self.train.is_none() {
            let train = |probe| Train { probe, started: now, bytes: 0, packets: 0 };
            self.train = self.estimator.poll_probe(now).map(train);
        }
    }

    /// Whether a probe is running.
    pub fn is_probing(&self) -> bool {
        self.train.is_some()
    }

    /// Returns true if the probe needs another packet now. Media sent since its start counts as well. Ends a complete
    /// probe.
    pub fn poll_padding(&mut self, now: Instant) -> bool {
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

    /// When the running probe needs its next packet.
    pub fn next_padding(&self, now: Instant) -> Option<Instant> {
        self.train.as_ref().map(|_| now + PADDING_INTERVAL)
    }

    /// Ends the probe because no padding can be sent.
    pub fn end_probe(&mut self) {
        self.train = None;
    }

    /// Sends media to the source of an authentic packet from now on. A packet from a route that was left less than
    /// `LATE_TIME` ago is late and changes nothing.
    #[inline]
    pub fn take_route(&mut self, now: Instant, route: Route) {
        if self.route != route {
            self.take_other_route(now, route);
        }
    }

    #[cold]
    fn take_other_route(&mut self, now: Instant, route: Route) {
        self.previous_routes.retain(|(_, at)| now < *at + LATE_TIME);
        if self.previous_routes.iter().any(|(previous, _)| *previous == route) {
            return;
        }
        if self.previous_routes.len() >= MAX_PREVIOUS_ROUTES {
            self.previous_routes.remove(0);
        }
        self.previous_routes.push((self.route, now));
        self.set_route(route);
    }

    /// Sends media over `route` from now on.
    pub fn set_route(&mut self, route: Route) {
        self.route = route;
        self.consent_until = None;
    }

    /// Stores the peer's reference time for the answer in the next report.
    pub fn handle_reference(&mut self, now: Instant, reference: Reference) {
        self.reference = Some((now, reference));
    }

    /// Makes reports due now, for a stream that has just started.
    pub fn hasten_report(&mut self, now: Instant) {
        self.next_report = self.next_report.min(now);
    }

    /// Sends the due arrival feedback on the peer's packets.
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

    /// Sends the sender reports if they are due. This needs no timer: without media there is nothing to report.
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
            let max_reports = (COMPOUND_BYTES - HEAD_BYTES - DLRR_BYTES) / SENDER_REPORT_BYTES;
            reports.by_ref().take(max_reports).for_each(|report| report.write(buffer));
            if let Some((received, reference)) = self.reference.take() {
                write_dlrr(self.reporter, reference, now.saturating_duration_since(received), buffer);
            }
            self.srtp.seal_rtcp(buffer, start);
            datagrams.finish(self.route);
        }
    }
}

/// Converts Unix time to an NTP timestamp: seconds in the upper 32 bits, fraction in the lower.
pub fn ntp(unix: Duration) -> u64 {
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + NTP_UNIX) << 32 | fraction
}

#[cfg(test)]
impl Egress {
    /// A transport with AES-256-GCM, which tests change as they need.
    pub fn sample(now: Instant) -> Self {
        let profile = str0m::crypto::dtls::SrtpProfile::AEAD_AES_256_GCM;
        let exported = crate::media::transport::srtp::Exported { profile, material: vec![3; 88], is_client: false };
        let [remote, local] = [1, 2].map(|host| std::net::SocketAddr::from(([192, 0, 2, host], u16::from(host))));
        Self::new(now, Srtp::new(&exported).expect("the profile is known"), Route { remote, local }, 5)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn ntp_counts_from_1900_in_binary_fractions() {
        assert_eq!(ntp(Duration::from_millis(1_500)), (NTP_UNIX + 1) << 32 | 1 << 31);
    }

    #[test]
    fn the_largest_packet_is_retransmitted_over_the_slowest_path_at_a_limited_rate() {
        for (estimate, at_once, in_a_second) in [(50_000, 2, 1), (1_000_000, 5, 5)] {
            let start = Instant::now();
            let mut egress = Egress::sample(start);
            egress.estimator.handle_remb(estimate);
            egress.on_estimate(start);
            let mut taken = |ms| {
                let now = start + Duration::from_millis(ms);
                (0..100).take_while(|_| egress.take_retransmission(now, 1_400)).count()
            };
            assert_eq!((taken(0), taken(1_000)), (at_once, in_a_second), "{estimate}");
        }
    }

    #[test]
    fn late_packets_from_a_left_path_keep_the_route_and_later_ones_take_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let route = |port| Route { remote: SocketAddr::from(([192, 0, 2, 1], port)), ..Egress::sample(start).route };
        let mut egress = Egress::sample(start);
        egress.route = route(1);
        for (ms, from, expected) in [
            (0, 1, 1),
            (10, 2, 2),
            // A packet sent before the path changed.
            (50, 1, 2),
            (60, 2, 2),
            (400, 1, 2),
            (420, 3, 3),
            (450, 2, 3),
            (480, 1, 3),
            // The first path is used again.
            (1_600, 1, 1),
            (1_700, 3, 1),
        ] {
            egress.take_route(at(ms), route(from));
            assert_eq!(egress.route, route(expected), "{ms} ms");
        }
        // A change for lack of consent takes effect at once, also to a recently left route.
        egress.set_route(route(3));
        assert_eq!(egress.route, route(3));
    }
}
