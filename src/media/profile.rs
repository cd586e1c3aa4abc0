//! The media profile that every peer is offered: payload types, header extensions, one certificate, ICE-lite.
//!
//! One profile for all, so that a payload type means the same to everybody and packets pass unchanged.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, Pt};
use str0m::rtp::{Extension, ExtensionMap, ExtensionSerializer, ExtensionValues};
use str0m::{Candidate, RtcConfig};

use crate::config::VideoCodec;
use crate::media::dtls;

/// Payload types of video and its repair; dynamic ones (RFC 3551 section 6).
pub const VIDEO_PAYLOAD_TYPES: Range<u8> = 96..104;

/// Interval of receiver and sender reports for video. Shorter reports sooner, longer costs less per subscriber.
const RTCP_INTERVAL_VIDEO: Duration = Duration::from_secs(2);

/// Constrained baseline, level 3.1 (RFC 6184 section 8.1): what every browser has.
const H264_CONSTRAINED_BASELINE: u32 = 0x42e01f;

/// <https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension>
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Bytes of a dependency descriptor that are passed on. With a full template structure one has about 80; more
/// than this is meant to make the forwarded packet too large for the path.
const MAX_DEPENDENCY_DESCRIPTOR: usize = 128;

/// What every peer of this process is made from.
pub struct Profile {
    config: RtcConfig,
    candidates: Vec<Candidate>,
}

impl Profile {
    /// Makes the process's certificate and the table of codecs, `codecs` in the order of preference.
    /// `candidates` are the addresses that offers announce.
    pub fn new(codecs: &[VideoCodec], candidates: &[SocketAddr]) -> Self {
        let provider = Arc::new(dtls::crypto_provider());
        let mut config = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&provider))
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_stats_interval(None)
            // Audio is not nackable, and video gets its buffer when it is subscribed to; str0m wants at least one.
            .set_send_buffer_audio(1)
            .set_send_buffer_video(1)
            .set_rtcp_report_interval_video(RTCP_INTERVAL_VIDEO)
            .set_extension_map(extensions())
            .clear_codecs()
            .enable_opus(true, false);
        let certificate = provider.dtls_provider.generate_certificate();
        config = config.set_dtls_cert(certificate.expect("the crypto library makes P-256 keys"));
        for (index, codec) in codecs.iter().enumerate() {
            let (codec, format) = match codec {
                VideoCodec::Vp8 => (Codec::Vp8, FormatParams::default()),
                VideoCodec::Vp9 => (Codec::Vp9, FormatParams { profile_id: Some(0), ..Default::default() }),
                VideoCodec::H264 => (
                    Codec::H264,
                    FormatParams {
                        level_asymmetry_allowed: Some(true),
                        packetization_mode: Some(1),
                        profile_level_id: Some(H264_CONSTRAINED_BASELINE),
                        ..Default::default()
                    },
                ),
                VideoCodec::Av1 => (Codec::Av1, FormatParams::default()),
            };
            // RTX follows its codec.
            let pt = VIDEO_PAYLOAD_TYPES.start + 2 * index as u8;
            config.codec_config().add_config(
                pt.into(),
                Some((pt + 1).into()),
                codec,
                Frequency::NINETY_KHZ,
                None,
                format,
            );
        }
        let candidates = candidates.iter().filter_map(|addr| Candidate::host(*addr, "udp").ok()).collect();
        Self { config, candidates }
    }

    /// The settings of one peer.
    pub fn config(&self) -> RtcConfig {
        self.config.clone()
    }

    /// The addresses that every offer announces.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
}

/// The codecs that a peer agreed to receive on a line, each with its payload type; small and dense, since it is
/// asked for each packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct PayloadTypes([Option<Pt>; 5]);

impl PayloadTypes {
    /// Adds a codec.
    pub fn insert(&mut self, codec: Codec, pt: Pt) {
        if let Some(index) = index_of(codec) {
            self.0[index].get_or_insert(pt);
        }
    }

    /// The payload type for a codec, if the peer takes it.
    pub fn find(&self, codec: Codec) -> Option<Pt> {
        self.0[index_of(codec)?]
    }
}

fn index_of(codec: Codec) -> Option<usize> {
    match codec {
        Codec::Opus => Some(0),
        Codec::Vp8 => Some(1),
        Codec::Vp9 => Some(2),
        Codec::H264 => Some(3),
        Codec::Av1 => Some(4),
        _ => None,
    }
}

/// The header extensions of a forwarded packet: what describes the media goes through, what describes the
/// publisher's transport (mid, rid, transport-wide numbers, send times) does not.
pub fn forwarded_extensions(incoming: &ExtensionValues) -> ExtensionValues {
    ExtensionValues {
        audio_level: incoming.audio_level,
        voice_activity: incoming.voice_activity,
        video_orientation: incoming.video_orientation,
        abs_capture_time: incoming.abs_capture_time,
        play_delay_min: incoming.play_delay_min,
        play_delay_max: incoming.play_delay_max,
        user_values: incoming.user_values.clone(),
        ..Default::default()
    }
}

fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    map.set(1, Extension::AudioLevel);
    map.set(3, Extension::TransportSequenceNumber);
    map.set(4, Extension::RtpMid);
    map.set(5, Extension::AbsoluteCaptureTime);
    map.set(6, Extension::PlayoutDelay);
    map.set(8, Extension::with_serializer(DEPENDENCY_DESCRIPTOR, DependencyDescriptorSerializer));
    map.set(10, Extension::RtpStreamId);
    map.set(11, Extension::RepairedRtpStreamId);
    map.set(13, Extension::VideoOrientation);
    map
}

/// A dependency descriptor as it came, to be passed on unread.
#[derive(Debug, PartialEq, Eq)]
struct DependencyDescriptor(Vec<u8>);

#[derive(Debug)]
struct DependencyDescriptorSerializer;

impl ExtensionSerializer for DependencyDescriptorSerializer {
    fn write_to(&self, buf: &mut [u8], values: &ExtensionValues) -> usize {
        let Some(DependencyDescriptor(bytes)) = values.user_values.get() else {
            return 0;
        };
        match buf.get_mut(..bytes.len()) {
            Some(to) => {
                to.copy_from_slice(bytes);
                bytes.len()
            }
            None => 0,
        }
    }

    fn parse_value(&self, buf: &[u8], values: &mut ExtensionValues) -> bool {
        let plausible = !buf.is_empty() && buf.len() <= MAX_DEPENDENCY_DESCRIPTOR;
        if plausible {
            values.user_values.set(DependencyDescriptor(buf.to_vec()));
        }
        plausible
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }

    // One-byte extensions hold 1 to 16 bytes (RFC 8285 section 4.2).
    fn requires_two_byte_form(&self, values: &ExtensionValues) -> bool {
        let length = |DependencyDescriptor(bytes): &DependencyDescriptor| bytes.len();
        values.user_values.get().is_some_and(|value| length(value) > 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_descriptor_passes_unread_and_the_transport_of_the_publisher_does_not() {
        let serializer = DependencyDescriptorSerializer;
        for length in [1, 3, 16, 17, MAX_DEPENDENCY_DESCRIPTOR] {
            let bytes: Vec<u8> = (0..length as u8).collect();
            let mut incoming = ExtensionValues { transport_cc: Some(7), mid: Some("a".into()), ..Default::default() };
            assert!(serializer.parse_value(&bytes, &mut incoming));
            let forwarded = forwarded_extensions(&incoming);
            assert_eq!((forwarded.transport_cc, forwarded.mid), (None, None));
            assert_eq!(serializer.requires_two_byte_form(&forwarded), length > 16);
            let mut written = [0; 256];
            assert_eq!(serializer.write_to(&mut written, &forwarded), length);
            assert_eq!(written[..length], bytes);
            assert_eq!(serializer.write_to(&mut [0; 256][..length - 1], &forwarded), 0, "no room, no value");
        }
        let too_long = [0; MAX_DEPENDENCY_DESCRIPTOR + 1];
        for bytes in [&[][..], &too_long] {
            assert!(!serializer.parse_value(bytes, &mut ExtensionValues::default()));
        }
    }
}
