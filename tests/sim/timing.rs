//! Audio and video of one participant stay in sync.

use std::time::{Instant, SystemTime};

use str0m::rtp::RtpPacket;

use crate::media::{Camera, Microphone, Source};
use crate::sim::Sim;
use crate::story::{millis, secs};

#[test]
fn lip_sync_survives_a_difference_in_path_delay() {
    let mut sim = Sim::new(40);
    sim.join("ann");
    sim.begin_at("ann", Camera, 1_000);
    let slow = sim.browser_mut("ann").sending_ssrc(Camera).expect("the camera is sent");
    sim.links[0].up.detours.insert(slow, millis(150));
    sim.join("bob");
    // Wait until it settles: the publisher reports every second, the server every few seconds.
    sim.run(secs(12));
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.browser_mut("bob").sender_reports.clear();
    sim.run(secs(10));
    let audio = skews(&sim, Microphone);
    let video = skews(&sim, Camera);
    assert!(!audio.is_empty() && !video.is_empty(), "the subscriber must receive reports of both sources");
    for one in &audio {
        for two in &video {
            let skew = (one - two).abs();
            assert!(skew < 0.040, "audio and video are {skew} s apart");
        }
    }
}

/// For each report on a source, the error of the capture time that it implies for a packet, in seconds.
fn skews(sim: &Sim, source: Source) -> Vec<f64> {
    let bob = sim.browser("bob");
    let is_of_source = |stamp: &crate::media::Stamp| stamp.source == source;
    let (stamp, packet) = bob
        .packets
        .as_ref()
        .expect("packets are recorded")
        .iter()
        .rev()
        .find(|(stamp, _)| is_of_source(stamp))
        .expect("the source was received");
    let captured: Instant = sim.publication("ann", source).captured[stamp.frame as usize];
    let truth = sim.captured()(captured);
    let reports = bob.sender_reports.iter().filter(|report| report.sender_info.ssrc == packet.header.ssrc);
    reports
        .map(|report| {
            seconds_between(
                reported(packet, report.sender_info.rtp_time.numer() as u32, report.sender_info.ntp_time, source),
                truth,
            )
        })
        .collect()
}

/// The capture time of the packet according to the sender report's RTP and NTP times (RFC 3550 section 6.4.1).
fn reported(packet: &RtpPacket, rtp_time: u32, ntp_time: SystemTime, source: Source) -> SystemTime {
    let clock_rate = if source.is_audio() { 48_000.0 } else { 90_000.0 };
    let after = f64::from(packet.header.timestamp.wrapping_sub(rtp_time) as i32) / clock_rate;
    match after >= 0.0 {
        true => ntp_time + std::time::Duration::from_secs_f64(after),
        false => ntp_time - std::time::Duration::from_secs_f64(-after),
    }
}

fn seconds_between(one: SystemTime, two: SystemTime) -> f64 {
    match one.duration_since(two) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
