//! Measures the server's CPU time for signaling: joins, an offer and its answer, a chat message.
//!
//! Run it with `cargo bench --bench signal`; options after `--`: `--quick` for a few seconds, `--json FILE` for JSON.
//! The server runs without I/O, and only its own work is timed. A join is the upgrade, the welcome, the first offer, its
//! answer and the `joined` event to the room, without DTLS. Each figure is the median of many.

mod wire;
#[allow(dead_code, reason = "media is for another bench")]
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aq_server::id::ConnId;
use aq_server::server::{Input, Output};
use clap::Parser;
use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::{Candidate, Rtc};

use wire::{frame, take_frame};
use world::World;

/// First connection number of measured participants; the world's own clients have lower numbers.
const VISITORS: u64 = 1_000_000;

/// What signaling costs.
#[derive(Parser)]
#[command(name = "signal", bin_name = "cargo bench --bench signal --")]
struct Flags {
    /// Fewer and smaller rooms, in less than 15 seconds
    #[arg(long)]
    quick: bool,
    /// Write all figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// One participant that joins, answers and leaves, with the server's times.
struct Visit {
    /// From the connection to the first offer.
    offer: Duration,
    answer: Duration,
    /// m-lines of that offer.
    lines: usize,
    /// Number of participants that received the `joined` event.
    told: usize,
}

fn main() {
    let flags = Flags::parse();
    let visits = if flags.quick { 20 } else { 100 };
    let mut figures = Vec::new();

    println!("{:<12} {:>16} {:>16}", "m-lines", "offer, us", "answer, us");
    let lines: &[usize] = if flags.quick { &[2, 10, 20, 50] } else { &[2, 10, 20, 50, 100] };
    figures.extend(lines.iter().map(|lines| offers(*lines, visits)));

    println!(
        "\n{:<12} {:>16} {:>16} {:>16} {:>16}",
        "room of", "joins/s", "join, us", "chat line, us", "ns a receiver"
    );
    figures.extend([10, 100, 1_000].map(|size| room(size, visits)));

    if let Some(path) = flags.json {
        let text = serde_json::to_string_pretty(&figures).expect("numbers and names");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Measures the first offer, with `lines` m-lines, to a participant that joins a room of publishers.
fn offers(lines: usize, visits: u64) -> Value {
    // Each participant, the new one included, has an m-line for a microphone and one for a camera.
    let mut world = filled(lines / 2 - 1, true);
    let visits: Vec<Visit> = (0..visits).map(|visit| visit_of(&mut world, visit)).collect();
    for visit in &visits {
        assert_eq!(visit.lines, lines, "the offer has the measured number of m-lines");
    }
    let (offer, answer) = (median(visits.iter().map(|visit| visit.offer)), median(visits.iter().map(|v| v.answer)));
    println!("{lines:<12} {:>16.0} {:>16.0}", micros(offer), micros(answer));
    json!({ "m_lines": lines, "offer_us": micros(offer), "answer_us": micros(answer) })
}

/// Measures joins and chat in a room with `size` subscribers.
fn room(size: usize, visits: u64) -> Value {
    let mut world = filled(size, false);
    let visits: Vec<Visit> = (0..visits).map(|visit| visit_of(&mut world, visit)).collect();
    for visit in &visits {
        assert_eq!(visit.told, size, "every participant receives `joined`");
    }
    let join = median(visits.iter().map(|visit| visit.offer + visit.answer));
    let line = median((0..visits.len()).map(|line| chat(&mut world, line)));
    let (joins, each) = (1.0 / join.as_secs_f64(), line.as_nanos() as f64 / (size - 1) as f64);
    println!("{size:<12} {joins:>16.0} {:>16.0} {:>16.1} {each:>16.0}", micros(join), micros(line));
    json!({
        "room": size, "joins_per_s": joins, "join_us": micros(join), "chat_line_us": micros(line),
        "chat_ns_per_receiver": each,
    })
}

/// Creates a room of participants that have joined and answered.
fn filled(size: usize, publishing: bool) -> World {
    let mut world = World::new();
    for _ in 0..size {
        world.join("r", publishing, false, false);
        settle(&mut world);
    }
    assert_eq!(world.server.stats().offers, size as u64, "every participant received an offer");
    world
}

/// Lets one participant join, answer and leave.
fn visit_of(world: &mut World, visit: u64) -> Visit {
    let conn = ConnId(VISITORS + visit);
    let remote = SocketAddr::from(([127, 0, 0, 1], 1_024));
    let head = "GET /aq_server/websocket?room=r&name=visitor HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
                Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (accepted, _) = serve(world, [Input::Accepted { conn, remote, secure: false }]);
    let (offered, mut written_to) = serve(world, [Input::Data { conn, bytes: head.as_bytes() }, Input::Timeout]);
    let sdp = offer(written_to.remove(&conn).expect("an answer to the request"));
    let answer = answer(world.now, &sdp);
    let (answered, refused) = serve(world, [Input::Data { conn, bytes: &answer }]);
    assert!(!refused.contains_key(&conn), "the answer is accepted");
    assert_eq!(world.server.stats().peers_failed, 0, "no peer fails");
    let news = |bytes: &Vec<u8>| texts(bytes.clone()).iter().any(|text| text["event"] == "joined");
    let written_to = written_to.values().filter(|bytes| news(bytes)).count();
    serve(world, [Input::Gone { conn }]);
    Visit { offer: accepted + offered, answer: answered, lines: sdp.matches("\r\nm=").count(), told: written_to }
}

/// Measures one chat message. The author changes each time because of the rate limit.
fn chat(world: &mut World, line: usize) -> Duration {
    let writer = world.clients[line % world.clients.len()].conn;
    let text = format!("line {line}");
    let bytes = frame(json!({ "event": "chat", "data": text }).to_string().as_bytes());
    let (spent, written_to) = serve(world, [Input::Data { conn: writer, bytes: &bytes }]);
    assert!(!written_to.contains_key(&writer), "the author does not receive the message");
    assert_eq!(written_to.len(), world.clients.len() - 1, "every other participant receives it");
    for bytes in written_to.into_values() {
        assert_eq!(texts(bytes).iter().filter(|said| said["message"] == text.as_str()).count(), 1, "once");
    }
    // A participant may write 20 chat messages in a burst, and 10 per second on average.
    world.now += Duration::from_millis(100) / world.clients.len() as u32;
    spent
}

/// Passes inputs to the server as its event loop does. Returns the time it took and the bytes written per connection.
fn serve<const N: usize>(world: &mut World, inputs: [Input<'_>; N]) -> (Duration, BTreeMap<ConnId, Vec<u8>>) {
    let (now, server) = (world.now, &mut world.server);
    let mut written = Vec::new();
    let start = Instant::now();
    for input in inputs {
        server.handle_input(now, input);
        while let Some(output) = server.poll_output() {
            if let Output::Data { conn, bytes } = output {
                server.handle_input(now, Input::Written { conn, bytes: bytes.len() });
                written.push((conn, bytes));
            }
        }
    }
    let spent = start.elapsed();
    let mut written_to: BTreeMap<ConnId, Vec<u8>> = BTreeMap::new();
    for (conn, bytes) in written {
        written_to.entry(conn).or_default().extend_from_slice(&bytes);
    }
    (spent, written_to)
}

/// Lets the world's own clients receive and answer.
fn settle(world: &mut World) {
    world.server.handle_input(world.now, Input::Timeout);
    world.settle();
}

/// The SDP of the offer in the bytes sent to a participant.
fn offer(mut bytes: Vec<u8>) -> String {
    assert!(bytes.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&bytes));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    bytes.drain(..end + 4);
    let texts = texts(bytes);
    let offer = texts.iter().find(|text| text["event"] == "offer").expect("an offer");
    let description: Value = serde_json::from_str(offer["data"].as_str().expect("text")).expect("JSON");
    description["sdp"].as_str().expect("SDP").to_owned()
}

/// The answer of a participant that accepts all m-lines as inactive, as a WebSocket frame.
fn answer(now: Instant, sdp: &str) -> Vec<u8> {
    let mut rtc = Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true).build(now);
    let addr = SocketAddr::from(([198, 51, 100, 1], 40_000));
    rtc.add_local_candidate(Candidate::host(addr, "udp").expect("a usable address"));
    let offer = SdpOffer::from_sdp_string(sdp).expect("an offer");
    let answer = rtc.sdp_api().accept_offer(offer).expect("an acceptable offer").to_sdp_string();
    let data = json!({ "type": "answer", "sdp": answer.replace("a=sendonly", "a=inactive") }).to_string();
    frame(json!({ "event": "answer", "data": data }).to_string().as_bytes())
}

/// The messages in the bytes sent to a participant.
fn texts(mut bytes: Vec<u8>) -> Vec<Value> {
    let frames = std::iter::from_fn(|| take_frame(&mut bytes));
    let texts = frames.filter(|(opcode, _)| *opcode == 1);
    texts.map(|(_, payload)| serde_json::from_slice(&payload).expect("JSON")).collect()
}

fn median(durations: impl Iterator<Item = Duration>) -> Duration {
    let mut durations: Vec<Duration> = durations.collect();
    durations.sort_unstable();
    durations[durations.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
