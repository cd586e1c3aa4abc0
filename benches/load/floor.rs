//! The machine's floor for the same bytes: what nobody who seals and sends can beat.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use aq_server::io::udp::Udp;
use aq_server::server::Transmit;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use str0m::net::Protocol;

use crate::process::SERVER_CORE;

/// Bytes of a sealed video packet on the wire.
const PACKET: usize = 1_200;

/// Time for each measurement.
const TIME: Duration = Duration::from_secs(2);

/// Microseconds of processor time for each packet.
pub struct Floors {
    /// AES-256-GCM, then segmented sends of 4.
    pub runs_of_4: f64,
    /// AES-256-GCM, then segmented sends of 8.
    pub runs_of_8: f64,
    /// One `sendto` for each packet, unsealed.
    pub bare: f64,
}

/// Measures on the server's core, to receivers that are awake, at the pace of the load: `audience` receivers get a
/// frame at a time, `rate` packets a second in all. Between two frames the core sleeps as the server's does, so that
/// caches are as cold.
pub fn measure(receivers: &[SocketAddr], audience: usize, rate: f64) -> Floors {
    let receivers = receivers.to_vec();
    let thread = std::thread::spawn(move || {
        pin();
        let pace = Pace { receivers: &receivers, audience, rate };
        Floors { runs_of_4: segmented(&pace, 4), runs_of_8: segmented(&pace, 8), bare: bare(&pace) }
    });
    thread.join().expect("the floor can be measured")
}

/// Who gets how much and when.
struct Pace<'a> {
    receivers: &'a [SocketAddr],
    audience: usize,
    rate: f64,
}

impl Pace<'_> {
    /// Sends bursts of `run` packets to each of an audience for some time; returns microseconds for each packet.
    fn run(&self, run: usize, mut send: impl FnMut(SocketAddr)) -> f64 {
        let burst = run * self.audience;
        let interval = Duration::from_secs_f64(burst as f64 / self.rate);
        let begin = Instant::now();
        let mut next = begin;
        let (mut bursts, start) = (0, cpu());
        while begin.elapsed() < TIME {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += interval;
            let first = bursts * self.audience;
            for index in 0..self.audience {
                send(self.receivers[(first + index) % self.receivers.len()]);
            }
            bursts += 1;
        }
        (cpu() - start).as_secs_f64() * 1e6 / (bursts * burst) as f64
    }
}

fn segmented(pace: &Pace<'_>, run: usize) -> f64 {
    let mut udp = Udp::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes"));
    let local = udp.local_addr();
    let (mut sealed, mut queued) = (0u64, 0);
    pace.run(run, |receiver| {
        for _ in 0..run {
            let mut packet = vec![1; PACKET];
            sealed += 1;
            let mut nonce = [0; 12];
            nonce[..8].copy_from_slice(&sealed.to_be_bytes());
            let (head, body) = packet.split_at_mut(12);
            let body = &mut body[..PACKET - 12 - 16];
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from(head), body).expect("sealed");
            packet[PACKET - 16..].copy_from_slice(tag.as_ref());
            let contents = packet.into();
            udp.send(Transmit { proto: Protocol::Udp, source: local, destination: receiver, contents });
        }
        queued += 1;
        if queued == pace.audience {
            queued = 0;
            while !udp.flush() {}
        }
    })
}

fn bare(pace: &Pace<'_>) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let packet = [1; PACKET];
    pace.run(4, |receiver| {
        for _ in 0..4 {
            let _ = socket.send_to(&packet, receiver);
        }
    })
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

/// Moves this thread to the server's core.
fn pin() {
    let id = std::fs::read_link("/proc/thread-self").expect("Linux");
    let id = id.file_name().expect("a thread").to_string_lossy().into_owned();
    let status = std::process::Command::new("taskset")
        .args(["-p", "-c", &SERVER_CORE.to_string(), &id])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "taskset pins a thread");
}
