//! Checks that a decoder as strict as a browser's accepts everything that a browser received.

use std::collections::BTreeMap;

use str0m::format::Codec;
use str0m::rtp::RtpPacket;

use crate::decoder::body::Body;
use crate::decoder::{Decoder, Packet};
use crate::encoding::Dependency;
use crate::media::Stamp;
use crate::sim::Sim;

impl Sim {
    /// Feeds everything received since `packets` are recorded to one decoder per SSRC, and panics if a decoder rejects
    /// a packet. Returns the decoders.
    pub fn assert_decodable(&self, name: &str) -> Vec<Decoder> {
        let packets = self.browser(name).packets.as_ref().expect("packets are recorded");
        let videos = packets.iter().filter(|(stamp, _)| !stamp.source.is_audio());
        let with_bodies = videos.map(|(stamp, packet)| {
            let mut payload = packet.payload.to_vec();
            body(stamp).into_iter().for_each(|body| body.write(&mut payload));
            (packet, payload)
        });
        decode(name, Codec::Vp8, with_bodies)
    }

    /// The same for the packets of another codec than VP8 in `encoded`.
    pub fn assert_encoded_decodable(&self, name: &str, codec: Codec) -> Vec<Decoder> {
        let packets = self.browser(name).encoded.as_ref().expect("encoded packets are recorded");
        decode(name, codec, packets.iter().map(|packet| (packet, packet.payload.to_vec())))
    }
}

fn decode<'a>(name: &str, codec: Codec, packets: impl Iterator<Item = (&'a RtpPacket, Vec<u8>)>) -> Vec<Decoder> {
    let mut streams = BTreeMap::<(u32, u64), _>::new();
    streams.extend(packets.map(|packet| ((*packet.0.header.ssrc, *packet.0.seq_no), packet)));
    let mut decoders = BTreeMap::<u32, Decoder>::new();
    for ((ssrc, seq_no), (packet, payload)) in streams {
        let decoder = decoders.entry(ssrc).or_insert_with(|| Decoder::new(codec));
        let dependency = packet.header.ext_vals.user_values.get().map(|Dependency(value)| value.as_slice());
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        let packet = Packet { seq_no, timestamp, marker, payload: &payload, dependency };
        decoder.handle(&packet).unwrap_or_else(|reason| panic!("{name}: {reason}"));
    }
    decoders.into_values().collect()
}

/// The body that the first packet of a picture carries.
fn body(stamp: &Stamp) -> Option<Body> {
    let stream = stamp.publisher << 4 | (stamp.source as u32) << 2 | u32::from(stamp.layer);
    let references = (!stamp.keyframe).then(|| stamp.frame - u32::from(stamp.reference));
    (stamp.index == 0).then(|| Body { stream, frame: stamp.frame, references: references.into_iter().collect() })
}
