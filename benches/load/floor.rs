//! The machine's floor for the same bytes: what nobody who seals and sends can beat.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use aq_server::io::udp::Udp;
use aq_server::server::Transmit;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use str0m::net::Protocol;

use crate::process::SERVER_CORE;

/// Bytes of a sealed video packet on the wire.
const PACKET: usize = 1_200;

/// Packets for each measurement.
const PACKETS: usize = 60_000;

/// Microseconds of processor time for each packet.
pub struct Floors {
    /// AES-128-GCM, then segmented sends of 4.
    pub runs_of_4: f64,
    /// AES-128-GCM, then segmented sends of 8.
    pub runs_of_8: f64,
    /// One `sendto` for each packet, unsealed.
    pub bare: f64,
}

/// Measures on the server's core, to receivers that are awake.
pub fn measure(receivers: &[SocketAddr]) -> Floors {
    let receivers = receivers.to_vec();
    let thread = std::thread::spawn(move || {
        pin();
        Floors { runs_of_4: segmented(&receivers, 4), runs_of_8: segmented(&receivers, 8), bare: bare(&receivers) }
    });
    thread.join().expect("the floor can be measured")
}

fn segmented(receivers: &[SocketAddr], run: usize) -> f64 {
    let mut udp = Udp::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 bytes"));
    let local = udp.local_addr();
    let start = cpu();
    let mut sent = 0;
    // As the server does: a batch to all receivers, then one flush.
    while sent < PACKETS {
        for receiver in receivers {
            for _ in 0..run {
                let mut packet = vec![1; PACKET];
                let nonce = Nonce::assume_unique_for_key([sent as u8; 12]);
                let (head, body) = packet.split_at_mut(12);
                let body = &mut body[..PACKET - 12 - 16];
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(head), body).expect("sealed");
                packet[PACKET - 16..].copy_from_slice(tag.as_ref());
                udp.send(Transmit {
                    proto: Protocol::Udp,
                    source: local,
                    destination: *receiver,
                    contents: packet.into(),
                });
                sent += 1;
            }
        }
        while !udp.flush() {}
    }
    (cpu() - start).as_secs_f64() * 1e6 / sent as f64
}

fn bare(receivers: &[SocketAddr]) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let packet = [1; PACKET];
    let start = cpu();
    let mut sent = 0;
    while sent < PACKETS {
        for receiver in receivers {
            for _ in 0..4 {
                let _ = socket.send_to(&packet, receiver);
                sent += 1;
            }
        }
    }
    (cpu() - start).as_secs_f64() * 1e6 / sent as f64
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
