//! Datagrams from a participant that has the SRTP keys.

use std::net::SocketAddr;
use std::time::Duration;

use aq_server::media::rtp::packet::{HAS_EXTENSIONS, HAS_PADDING, write_header};
use str0m::media::Mid;

use crate::cursor::Cursor;
use crate::world::{Answers, EVE, World};

/// A participant with simulcast, and one without.
pub const NAMES: [&str; 2] = ["eve&simulcast=1", "eve"];

/// Payload types of the offer: Opus, RED, then each video codec and its RTX.
const PAYLOAD_TYPES: [u8; 10] = [111, 63, 96, 97, 98, 99, 100, 101, 102, 103];

/// Format and packet type of RTCP packets: NACK, transport-wide feedback, PLI, FIR, REMB, receiver report, sender report,
/// extended report, BYE.
const REPORTS: [(u8, u8); 9] =
    [(1, 205), (15, 205), (1, 206), (4, 206), (15, 206), (1, 201), (1, 200), (0, 207), (1, 203)];

/// Sends datagrams, sealed or not, in any state of the connection. The first byte chooses the state of Eve: just joined,
/// or connected. A connected Eve is kept for the next input.
pub fn datagrams(data: &[u8]) {
    let mut program = Cursor(data);
    let mut world = World::take(true);
    let state = program.byte();
    if world.clients.len() == EVE {
        world.join("main", NAMES[usize::from(state) % 2], Answers::All);
        world.run(Duration::from_millis(if state >= 128 { 500 } else { state.into() }));
    }
    for _ in 0..64 {
        if program.is_empty() {
            break;
        }
        step(&mut world, EVE, &mut program);
    }
    world.finish_with_eve();
}

/// Sends one datagram, or advances time.
pub fn step(world: &mut World, from: usize, program: &mut Cursor) {
    let source = world.clients[from].addr;
    match program.below(10) {
        0 => world.datagram(source, program.bytes()),
        1 => {
            let stranger = SocketAddr::new(source.ip(), 41_000 + u16::from(program.byte()));
            world.datagram(stranger, program.bytes());
        }
        2 => {
            // A datagram that its `Rtc` has sent, repeated, modified or from another address.
            let sent = &world.clients[from].sent;
            let Some(mut datagram) = sent.get(program.below(sent.len().max(1))).cloned() else { return };
            for _ in 0..program.below(4) {
                let at = usize::from(program.word()) % datagram.len();
                datagram[at] = program.byte();
            }
            let other = program.byte();
            let source = if other < 200 { source } else { SocketAddr::new(source.ip(), 42_000 + u16::from(other)) };
            world.datagram(source, &datagram);
        }
        3 => world.run(Duration::from_millis(u64::from(program.byte()) * 4)),
        4 => {
            let packet = program.bytes().to_vec();
            sealed_rtp(world, from, packet);
        }
        5 | 6 => {
            let packet = media_packet(world, from, program);
            sealed_rtp(world, from, packet);
        }
        7 => {
            let mut compound = Vec::new();
            for _ in 0..=program.below(4) {
                report(world, from, program, &mut compound);
            }
            sealed_rtcp(world, from, compound);
        }
        8 => {
            let mut compound = program.bytes().to_vec();
            if let Some(first) = compound.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            sealed_rtcp(world, from, compound);
        }
        _ => world.show(),
    }
}

/// A packet with any header and payload, mostly with an SSRC that the client sends.
fn media_packet(world: &mut World, from: usize, program: &mut Cursor) -> Vec<u8> {
    let ssrcs = sending_ssrcs(world, from);
    let choice = program.below(8);
    let ssrc = ssrcs.get(choice).copied().unwrap_or(choice as u32);
    let flags = program.byte();
    // Mostly an offered payload type.
    let pt = program.byte();
    let pt = if pt < 0xe0 { pt & 0x80 | PAYLOAD_TYPES[usize::from(pt & 0x7f) % PAYLOAD_TYPES.len()] } else { pt };
    let next = world.clients[from].numbers.entry(ssrc).or_default();
    let seq_no = next.wrapping_add_signed(i16::from(program.byte() as i8));
    *next = (*next).max(seq_no).wrapping_add(1);
    let mut packet = Vec::new();
    write_header(flags & (HAS_PADDING | HAS_EXTENSIONS), pt, seq_no.into(), program.long(), ssrc, &mut packet);
    if flags & HAS_EXTENSIONS != 0 {
        let elements = program.bytes();
        packet.extend(if flags & 1 != 0 { [0x10, 0x00] } else { [0xbe, 0xde] });
        packet.extend((elements.len().div_ceil(4) as u16).to_be_bytes());
        packet.extend(elements);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    packet.extend(program.bytes());
    packet
}

/// Appends an RTCP packet about a received SSRC, or any other SSRC.
fn report(world: &World, from: usize, program: &mut Cursor, compound: &mut Vec<u8>) {
    let any = (u32::from(program.byte()), 0);
    let mut arrived: Vec<(u32, u16)> =
        world.clients[from].arrived.iter().map(|(ssrc, seq_no)| (*ssrc, *seq_no)).collect();
    arrived.push(any);
    let (media, seq_no) = arrived[program.below(arrived.len())];
    let start = compound.len();
    let (count, packet_type) = REPORTS[program.below(REPORTS.len())];
    compound.extend([0x80 | count, packet_type, 0, 0]);
    compound.extend(1_u32.to_be_bytes());
    compound.extend(media.to_be_bytes());
    match (count, packet_type) {
        (15, 206) => compound.extend(b"REMB"),
        (1, 205) => compound.extend(seq_no.wrapping_sub(u16::from(program.byte())).to_be_bytes()),
        _ => {}
    }
    compound.extend(program.bytes());
    compound.resize(compound.len().next_multiple_of(4), 0);
    let words = ((compound.len() - start) / 4 - 1) as u16;
    compound[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn sending_ssrcs(world: &mut World, from: usize) -> Vec<u32> {
    let client = &mut world.clients[from];
    let mids: Vec<Mid> = client.mids.iter().map(|mid| Mid::from(mid.as_str())).collect();
    let Some(rtc) = &mut client.rtc else { return Vec::new() };
    let mut direct = rtc.direct_api();
    let mut ssrcs = Vec::new();
    for mid in mids {
        for rid in [None, Some("q".into()), Some("h".into()), Some("f".into())] {
            if let Some(stream) = direct.stream_tx_by_mid(mid, rid) {
                ssrcs.push(*stream.ssrc());
                ssrcs.extend(stream.rtx().map(|ssrc| *ssrc));
            }
        }
    }
    ssrcs
}

/// Seals and sends `packet` as RTP, if it is long enough for a header.
fn sealed_rtp(world: &mut World, from: usize, mut packet: Vec<u8>) {
    let client = &world.clients[from];
    let Some(keys) = &client.keys else { return };
    if packet.len() < 12 {
        return;
    }
    packet[0] = packet[0] & 0x3f | 0x80;
    let mut header = 12 + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 != 0
        && let Some(words) = packet.get(header + 2..header + 4)
    {
        header += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    let seq_no = u64::from(u16::from_be_bytes([packet[2], packet[3]]));
    let header = header.min(packet.len());
    keys.seal_any_rtp(&mut packet, 0, header, seq_no);
    world.datagram(client.addr, &packet);
}

fn sealed_rtcp(world: &mut World, from: usize, mut compound: Vec<u8>) {
    let client = &mut world.clients[from];
    let (addr, Some(keys)) = (client.addr, &mut client.keys) else { return };
    if compound.len() < 8 {
        return;
    }
    keys.seal_rtcp(&mut compound, 0);
    world.datagram(addr, &compound);
}
