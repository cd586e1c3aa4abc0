//! The media socket: receives in batches, sends in runs, and queues or drops datagrams while the socket is full.

mod socket;

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use crate::media::negotiation::profile::VIDEO_PAYLOAD_TYPES;
use crate::media::transport::datagrams::{Datagrams, Segments};
pub use socket::Datagram;
use socket::{SEND_BATCH, Socket};

/// Datagrams queued while the socket is full. Above it the oldest are dropped, video first: late video is useless, and
/// lost video is retransmitted or concealed, while lost audio is heard. More add delay, fewer lose bursts.
const QUEUE: usize = 2_048;

/// Datagrams kept when a full queue is trimmed. Dropping them one at a time would scan the queue for each.
const QUEUE_LEFT: usize = QUEUE * 3 / 4;

/// Consecutive refused runs after which segmentation offload is disabled.
const REFUSED_RUNS: u32 = 64;

/// A bound UDP socket, for one address family or both, with its send queue.
pub struct Udp {
    socket: Socket,
    /// Datagrams to send when the socket is writable again.
    pending: Datagrams,
    segmentation: bool,
    /// Consecutive runs that the system refused although it accepted their first datagram alone.
    refused_runs: u32,
    /// Counters of what was sent and dropped.
    pub counters: Counters,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Successful send calls.
    pub send_calls: u64,
    /// Messages sent: runs of one or more datagrams.
    pub runs: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams dropped because the queue was full or the system refused them.
    pub dropped: u64,
}

/// How much of a `Datagrams` has been sent.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Runs sent as a whole.
    runs: usize,
    /// Bytes sent of the next run.
    bytes: usize,
}

impl Udp {
    /// Binds a socket. The IPv6 wildcard receives IPv4 too.
    ///
    /// # Errors
    /// Fails if the system refuses the address or an option.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::bind(addr)?;
        Ok(Self {
            segmentation: socket.can_segment(),
            socket,
            pending: Datagrams::default(),
            refused_runs: 0,
            counters: Counters::default(),
        })
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Returns the socket, for registration with the poll.
    pub fn source(&mut self) -> &mut UdpSocket {
        self.socket.source()
    }

    /// Whether datagrams are queued because the socket was full: call `flush` when it is writable.
    pub fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Receives at most one batch and calls `handle` with each datagram. Returns true if there may be more.
    ///
    /// # Errors
    /// Fails if the socket is broken. Errors of earlier sends, which ICMP reports here, are ignored.
    pub fn receive(&mut self, handle: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        self.socket.receive(handle)
    }

    /// Sends datagrams, after the queued ones. Those that the socket does not take are queued.
    pub fn send(&mut self, datagrams: &Datagrams) {
        let progress = if self.pending.is_empty() { self.send_from(datagrams) } else { Progress::default() };
        enqueue(datagrams, progress, &mut self.pending);
        if self.pending.len() > QUEUE {
            let excess = self.pending.len() - QUEUE_LEFT;
            self.counters.dropped += excess as u64;
            self.pending = without(&self.pending, excess);
        }
    }

    /// Sends queued datagrams until the socket is full. Returns true if the queue is empty.
    pub fn flush(&mut self) -> bool {
        let mut pending = std::mem::take(&mut self.pending);
        let progress = self.send_from(&pending);
        enqueue(&pending, progress, &mut self.pending);
        if self.pending.is_empty() {
            pending.clear();
            self.pending = pending;
        }
        self.pending.is_empty()
    }

    /// Sends until nothing is left or the socket is full.
    fn send_from(&mut self, datagrams: &Datagrams) -> Progress {
        let (mut progress, mut plain) = (Progress::default(), false);
        while progress.runs < datagrams.runs(0).len() {
            match self.send_some(datagrams, &mut progress, plain) {
                Ok(was_run) => {
                    // A device without segmentation offload refuses runs here, while it takes single datagrams
                    // (udp(7)). One refused run may be due to its destination; many in a row are not.
                    self.refused_runs = if was_run { 0 } else { self.refused_runs + u32::from(plain) };
                    self.segmentation &= self.refused_runs < REFUSED_RUNS;
                    plain = false;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINTR) => {}
                    // The error concerns this destination: count the datagram as lost.
                    _ if plain => {
                        self.counters.dropped += 1;
                        progress.advance(datagrams, 1);
                        plain = false;
                    }
                    // The run was refused: try its first datagram alone.
                    _ => plain = true,
                },
            }
        }
        progress
    }

    /// Makes one system call; with `plain` it sends the first datagram alone. Returns true if a run of several was
    /// sent.
    fn send_some(&mut self, datagrams: &Datagrams, progress: &mut Progress, plain: bool) -> io::Result<bool> {
        let rest = rest(datagrams, *progress);
        let (messages, sent) = if self.segmentation && !plain {
            let messages = self.socket.send(rest.clone())?;
            (messages, rest.take(messages).map(|run| run.len()).sum())
        } else {
            let most = if plain { 1 } else { SEND_BATCH };
            let messages = self.socket.send(rest.flat_map(Segments::split).take(most))?;
            (messages, messages)
        };
        progress.advance(datagrams, sent);
        self.counters.send_calls += 1;
        self.counters.runs += messages as u64;
        self.counters.sent += sent as u64;
        Ok(sent > messages)
    }
}

impl Progress {
    /// Adds `sent` datagrams.
    fn advance(&mut self, datagrams: &Datagrams, mut sent: usize) {
        for run in rest(datagrams, *self) {
            if sent < run.len() {
                self.bytes += sent * run.segment;
                return;
            }
            sent -= run.len();
            *self = Self { runs: self.runs + 1, bytes: 0 };
        }
    }
}

/// Iterates over the runs, or parts of them, that are not sent yet.
fn rest(datagrams: &Datagrams, progress: Progress) -> impl Iterator<Item = Segments<'_>> + Clone {
    let mut skipped = progress.bytes;
    datagrams.runs(progress.runs).map(move |run| run.skip(std::mem::take(&mut skipped)))
}

/// Queues the datagrams that are not sent yet.
fn enqueue(datagrams: &Datagrams, progress: Progress, pending: &mut Datagrams) {
    for datagram in rest(datagrams, progress).flat_map(Segments::split) {
        pending.push(datagram.route, datagram.bytes);
    }
}

/// Returns the queue without `excess` datagrams: the oldest video goes first, then the oldest of the rest.
fn without(pending: &Datagrams, excess: usize) -> Datagrams {
    let video = pending.iter().filter(|(_, contents)| is_video(contents)).count().min(excess);
    let (mut video, mut others) = (video, excess - video);
    let mut kept = Datagrams::default();
    for (route, contents) in pending.iter() {
        let left = if is_video(contents) { &mut video } else { &mut others };
        if *left > 0 {
            *left -= 1;
        } else {
            kept.push(route, contents);
        }
    }
    kept
}

/// Returns true for a video packet, by its RTP payload type (RFC 3550 section 5.1, RFC 5761 section 4). RTCP, STUN and
/// DTLS are not video.
fn is_video(contents: &[u8]) -> bool {
    match contents {
        [first, second, ..] => first >> 6 == 2 && VIDEO_PAYLOAD_TYPES.contains(&(second & 0x7f)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::media::transport::route::Route;

    /// Receives until there are `count` datagrams: source, destination and contents.
    fn receive(udp: &mut Udp, count: usize) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut found = Vec::new();
        while found.len() < count && Instant::now() < deadline {
            udp.receive(|datagram| {
                found.push((datagram.source, datagram.destination, datagram.contents.to_vec()));
            })
            .unwrap();
        }
        found
    }

    fn bind() -> Udp {
        Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn route(from: &Udp, to: &Udp) -> Route {
        Route { remote: to.local_addr(), local: from.local_addr() }
    }

    /// Returns datagrams of video frames and audio for two destinations.
    fn burst(routes: [Route; 2]) -> Datagrams {
        let mut burst = Datagrams::default();
        for route in routes {
            for (number, length) in [1100, 1100, 1100, 400, 90, 1100, 1100, 1200, 7].into_iter().enumerate() {
                burst.push(route, &vec![number as u8; length]);
            }
        }
        burst
    }

    #[test]
    fn bursts_arrive_whole_and_in_order_with_and_without_batches_and_segmentation() {
        for (segmentation, batches) in [(true, true), (false, true), (true, false), (false, false)] {
            let (mut sender, mut ann, mut bob) = (bind(), bind(), bind());
            sender.segmentation &= segmentation;
            for udp in [&mut sender, &mut ann, &mut bob] {
                udp.socket.batches &= batches;
            }
            let segmented = sender.segmentation;
            let sent = burst([route(&sender, &ann), route(&sender, &bob)]);
            sender.send(&sent);
            assert!(sender.flush());
            let local = sender.local_addr();
            for udp in [&mut ann, &mut bob] {
                let remote = udp.local_addr();
                let expected: Vec<_> = sent.iter().filter(|(route, _)| route.remote == remote).collect();
                let received = receive(udp, expected.len());
                assert_eq!(received.len(), expected.len());
                for ((source, destination, contents), (_, sent)) in received.iter().zip(expected) {
                    assert_eq!((*source, *destination), (local, remote));
                    assert_eq!(contents[..], *sent);
                }
            }
            assert_eq!(sender.counters.sent, 18);
            assert_eq!(sender.counters.send_calls, 1);
            assert_eq!(sender.counters.runs, if segmented { 8 } else { 18 });
        }
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_the_request_came_to() {
        for (wildcard, batches) in [("0.0.0.0:0", true), ("[::]:0", true), ("0.0.0.0:0", false), ("[::]:0", false)] {
            let mut server = Udp::bind(wildcard.parse().unwrap()).unwrap();
            server.socket.batches &= batches;
            let mut client = bind();
            for requested in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
                let requested = SocketAddr::new(requested.parse().unwrap(), server.local_addr().port());
                let mut datagrams = Datagrams::default();
                datagrams.push(Route { remote: requested, local: client.local_addr() }, &[1; 20]);
                client.send(&datagrams);
                let (source, destination, _) = receive(&mut server, 1).remove(0);
                assert_eq!((source, destination), (client.local_addr(), requested), "{wildcard}");
                datagrams.clear();
                for _ in 0..2 {
                    datagrams.push(Route { remote: source, local: destination }, &[2; 20]);
                }
                server.send(&datagrams);
                for (source, ..) in receive(&mut client, 2) {
                    assert_eq!(source, requested, "{wildcard}");
                }
            }
        }
    }

    #[test]
    fn one_bad_destination_does_not_affect_the_others() {
        for batches in [true, false] {
            let (mut sender, mut ann) = (bind(), bind());
            sender.socket.batches &= batches;
            let good = route(&sender, &ann);
            let nowhere = Route { remote: "127.0.0.1:0".parse().unwrap(), ..good };
            let mut datagrams = Datagrams::default();
            datagrams.push(nowhere, &[0; 9]);
            datagrams.push(Route { local: "192.0.2.99:1".parse().unwrap(), ..good }, &[0; 9]);
            datagrams.push(good, &[0; 70_000]);
            datagrams.push(good, &[7; 9]);
            sender.send(&datagrams);
            assert_eq!(sender.counters.dropped, 3);
            assert_eq!(receive(&mut ann, 1)[0].2, [7; 9]);
            // Refused datagrams do not cost the others their runs.
            datagrams.clear();
            for _ in 0..8 {
                datagrams.push(nowhere, &[0; 9]);
            }
            for _ in 0..4 {
                datagrams.push(good, &[7; 9]);
            }
            let before = sender.counters.runs;
            sender.send(&datagrams);
            assert_eq!(receive(&mut ann, 4).len(), 4);
            assert_eq!(sender.counters.runs - before, if sender.segmentation { 1 } else { 4 });
        }
    }

    /// Receives datagrams of a burst and returns their numbers.
    #[cfg(target_os = "linux")]
    fn numbers(udp: &mut Udp, count: usize) -> Vec<u8> {
        receive(udp, count).into_iter().map(|(.., contents)| contents[0]).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn datagrams_that_the_system_refuses_are_dropped_and_counted_and_the_rest_is_sent() {
        use libc::{
            EACCES, ECONNREFUSED, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS, ENOMEM, EPERM,
        };
        let errors =
            [EACCES, ECONNREFUSED, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS, ENOMEM, EPERM];
        for (error, batches) in errors.into_iter().flat_map(|error| [(error, true), (error, false)]) {
            let (mut sender, mut ann, mut bob) = (bind(), bind(), bind());
            sender.socket.batches = batches;
            let segmentation = sender.segmentation;
            let burst = burst([route(&sender, &ann), route(&sender, &bob)]);
            let each: Vec<u8> = (0..9).collect();
            // The system refuses one destination.
            sender.socket.refusal = Some((Some(ann.local_addr()), error));
            sender.send(&burst);
            assert_eq!((sender.counters.dropped, sender.counters.sent), (9, 9), "{error}");
            assert_eq!(numbers(&mut bob, 9), each, "{error}");
            // It refuses all of them, for longer than it takes to give up segmentation.
            sender.socket.refusal = Some((None, error));
            for _ in 0..REFUSED_RUNS {
                sender.send(&burst);
            }
            assert!(sender.flush(), "refused datagrams are not queued");
            assert_eq!(sender.counters.dropped, 9 + 18 * u64::from(REFUSED_RUNS), "{error}");
            sender.socket.refusal = None;
            sender.send(&burst);
            assert_eq!((numbers(&mut ann, 9), numbers(&mut bob, 9)), (each.clone(), each), "{error}");
            assert_eq!(sender.segmentation, segmentation, "{error}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn datagrams_queued_while_the_socket_is_full_are_sent_later_in_order() {
        let (mut sender, mut ann, mut bob) = (bind(), bind(), bind());
        let burst = burst([route(&sender, &ann), route(&sender, &bob)]);
        sender.socket.refusal = Some((Some(bob.local_addr()), libc::EAGAIN));
        sender.send(&burst);
        sender.send(&burst);
        assert!(!sender.flush());
        assert_eq!((sender.counters.sent, sender.counters.dropped), (9, 0), "later datagrams are queued behind");
        sender.socket.refusal = None;
        assert!(sender.flush());
        let twice: Vec<u8> = (0..9).chain(0..9).collect();
        assert_eq!((numbers(&mut ann, 18), numbers(&mut bob, 18)), (twice.clone(), twice));
        sender.socket.refusal = Some((None, libc::EAGAIN));
        for sent in 1..=200 {
            sender.send(&burst);
            assert!(sender.pending.len() <= QUEUE);
            assert_eq!(sender.counters.dropped + sender.pending.len() as u64, 18 * sent);
        }
        assert!(sender.counters.dropped > 0);
    }

    #[test]
    fn without_segmentation_datagrams_are_sent_one_by_one_and_none_is_lost() {
        let (mut sender, mut ann) = (bind(), bind());
        if !sender.segmentation {
            return;
        }
        sender.socket.refuse_runs();
        let mut datagrams = Datagrams::default();
        for number in 0..4 {
            datagrams.push(route(&sender, &ann), &[number; 1_000]);
        }
        for _ in 0..REFUSED_RUNS {
            sender.send(&datagrams);
            let received: Vec<_> = receive(&mut ann, 4).into_iter().map(|(.., contents)| contents[0]).collect();
            assert_eq!(received, [0, 1, 2, 3]);
        }
        assert!(!sender.segmentation, "segmentation is disabled");
        assert_eq!((sender.counters.dropped, sender.counters.sent), (0, 4 * u64::from(REFUSED_RUNS)));
    }

    #[test]
    fn the_oldest_video_is_dropped_before_audio() {
        let addr: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let (audio, video, rtcp) = ([0x80, 111], [0x80, 96], [0x80, 200]);
        let mut queue = Datagrams::default();
        for (number, [first, second]) in [audio, video, rtcp, video, audio, video].into_iter().enumerate() {
            queue.push(Route { remote: addr, local: addr }, &[first, second, number as u8]);
        }
        let numbers = |queue: &Datagrams| queue.iter().map(|(_, contents)| contents[2]).collect::<Vec<_>>();
        let queue = without(&queue, 2);
        assert_eq!(numbers(&queue), [0, 2, 4, 5]);
        assert_eq!(numbers(&without(&queue, 2)), [2, 4]);
    }
}
