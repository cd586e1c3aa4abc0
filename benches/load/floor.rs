//! Reference costs on the same machine for the same packets: the minimum for sealing and sending them, and a plain loop
//! of `sendmsg` calls.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::process::{Used, share_the_servers_core};
use super::shape::{AUDIO_BYTES, Shape};
use super::socket::Socket;

/// Bytes of the RTP header with the server's header extensions, and of the AES-GCM tag.
const HEADER_BYTES: usize = 20;
const TAG_BYTES: usize = 16;

/// Microseconds of CPU time per packet.
#[derive(Clone, Copy)]
pub struct Floors {
    /// AES-256-GCM, then segmented sends of 4.
    pub runs_of_4: f64,
    /// AES-256-GCM, then segmented sends of 8.
    pub runs_of_8: f64,
    /// One `sendmsg` for each packet, unsealed.
    pub bare: f64,
}

/// Packets of one size, sent to each receiver of a stream.
struct Stream {
    bytes: usize,
    per_second: f64,
    /// Packets that a publisher sends at once.
    burst: usize,
}

/// The receivers and what is sent to them.
struct Load {
    receivers: Vec<SocketAddr>,
    /// Receivers of each packet.
    audience: usize,
    streams: Vec<Stream>,
    time: Duration,
}

/// Measures on the server's core, with live receivers and at the pace of the shape: each burst of a publisher is sent to
/// all its subscribers. Between two bursts the thread sleeps as the server does, so that caches are equally cold.
pub fn measure(receivers: Vec<SocketAddr>, shape: &Shape, time: Duration) -> Floors {
    let (video, audio) = shape.forwarded_per_second();
    let (packets, bytes) = shape.frame();
    let sealed = HEADER_BYTES + TAG_BYTES;
    let mut streams = vec![Stream { bytes: bytes + sealed, per_second: video, burst: packets }];
    if audio > 0.0 {
        streams.push(Stream { bytes: AUDIO_BYTES + sealed, per_second: audio, burst: 1 });
    }
    let load = Load { receivers, audience: shape.size - 1, streams, time };
    let thread = std::thread::spawn(move || {
        share_the_servers_core();
        Floors { runs_of_4: load.sealed(4), runs_of_8: load.sealed(8), bare: load.bare() }
    });
    thread.join().expect("the floor can be measured")
}

impl Load {
    fn sealed(&self, run: usize) -> f64 {
        let socket = Socket::bind(Ipv4Addr::UNSPECIFIED).expect("a socket");
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes"));
        let mut sealed = 0u64;
        let mut packets = vec![vec![1; 2_048]; run];
        self.pace(
            |_| run,
            |receiver, bytes, run| {
                for packet in &mut packets[..run] {
                    sealed += 1;
                    let mut nonce = [0; 12];
                    nonce[..8].copy_from_slice(&sealed.to_be_bytes());
                    let (head, body) = packet[..bytes].split_at_mut(HEADER_BYTES);
                    let (body, tag) = body.split_at_mut(bytes - HEADER_BYTES - TAG_BYTES);
                    let nonce = Nonce::assume_unique_for_key(nonce);
                    let made = key.seal_in_place_separate_tag(nonce, Aad::from(head), body).expect("sealed");
                    tag.copy_from_slice(made.as_ref());
                }
                let slices: Vec<IoSlice<'_>> =
                    packets[..run].iter().map(|packet| IoSlice::new(&packet[..bytes])).collect();
                socket.send(Ipv4Addr::LOCALHOST, receiver, &slices);
            },
        )
    }

    fn bare(&self) -> f64 {
        let socket = Socket::bind(Ipv4Addr::UNSPECIFIED).expect("a socket");
        let packet = [1; 2_048];
        self.pace(
            |stream| stream.burst,
            |receiver, bytes, run| {
                for _ in 0..run {
                    socket.send(Ipv4Addr::LOCALHOST, receiver, &[IoSlice::new(&packet[..bytes])]);
                }
            },
        )
    }

    /// Sends bursts of `run` packets to each subscriber for `self.time`. Returns CPU microseconds per packet.
    fn pace(&self, run: impl Fn(&Stream) -> usize, mut send: impl FnMut(SocketAddr, usize, usize)) -> f64 {
        let begin = Instant::now();
        let mut next = vec![begin; self.streams.len()];
        let (mut receiver, mut packets, start) = (0, 0, Used::of("thread-self"));
        while begin.elapsed() < self.time {
            let due = (0..next.len()).min_by_key(|index| next[*index]).expect("a shape sends something");
            std::thread::sleep(next[due].saturating_duration_since(Instant::now()));
            let stream = &self.streams[due];
            let burst = run(stream) * self.audience;
            next[due] += Duration::from_secs_f64(burst as f64 / stream.per_second);
            for _ in 0..self.audience {
                send(self.receivers[receiver], stream.bytes, run(stream));
                receiver = (receiver + 1) % self.receivers.len();
            }
            packets += burst;
        }
        Used::of("thread-self").since(start).cpu.as_secs_f64() * 1e6 / packets as f64
    }
}
