//! The media profile offered to every peer: payload types, header extensions, one certificate, ICE-lite.
//!
//! All peers share it, so a payload type has the same meaning for all, and packets are forwarded unchanged.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, Pt};
use str0m::rtp::{Extension, ExtensionMap, ExtensionSerializer, ExtensionValues};
use str0m::{Candidate, RtcConfig};

use crate::clock::Wall;
use crate::config::VideoCodec;
use crate::media::negotiation::sdp::UNREAD_TRANSPORT_CC;
use crate::media::rtp::elements::{Elements, Ids};
use crate::media::transport::dtls;

/// Payload types of video codecs and their RTX, in the dynamic range (RFC 3551 section 6).
pub const VIDEO_PAYLOAD_TYPES: Range<u8> = 96..104;

/// Interval of receiver reports for video. A shorter one reports sooner, a longer one costs less for each publisher.
const RTCP_INTERVAL_VIDEO: Duration = Duration::from_secs(2);

/// Constrained Baseline profile, level 3.1 (RFC 6184 section 8.1): supported by every browser.
const H264_CONSTRAINED_BASELINE: u32 = 0x42e01f;

/// <https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension>
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Id of the audio level extension (RFC 6464).
const AUDIO_LEVEL_ID: u8 = 1;

/// Id of the extension with the transport-wide sequence number, for arrival feedback
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub const TRANSPORT_CC_ID: u8 = 3;

/// Id of the MID extension (RFC 8843).
pub const MID_ID: u8 = 4;

/// Id of the dependency descriptor extension.
pub const DEPENDENCY_ID: u8 = 8;

/// Ids of the extensions that describe media and are forwarded to subscribers.
pub const MEDIA_IDS: Ids = Ids(1 << AUDIO_LEVEL_ID | 1 << 5 | 1 << 6 | 1 << DEPENDENCY_ID | 1 << 13);

/// The settings from which every peer is created.
pub struct Profile {
    config: RtcConfig,
    candidates: Vec<Candidate>,
    extensions: ExtensionMap,
    wall: Wall,
}

impl Profile {
    /// Creates the process's certificate and the codec table, with `codecs` in order of preference. Offers announce the
    /// addresses `candidates`. Sender reports count from `wall` for the life of the process: a change of the wall clock
    /// would break the synchronization of sound and video.
    pub fn new(codecs: &[VideoCodec], candidates: &[SocketAddr], wall: Wall) -> Self {
        let provider = Arc::new(dtls::crypto_provider());
        let mut config = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&provider))
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_stats_interval(None)
            // str0m sends no media, but requires a buffer of at least one packet.
            .set_send_buffer_audio(1)
            .set_send_buffer_video(1)
            .set_rtcp_report_interval_video(RTCP_INTERVAL_VIDEO)
            .set_extension_map(extensions())
            .clear_codecs()
            .enable_opus(true, true);
        let certificate = provider.dtls_provider.generate_certificate();
        config = config.set_dtls_cert(certificate.expect("the crypto library generates P-256 keys"));
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
            // The payload type of RTX is the next one.
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
        let mut profile = Self { config, candidates: Vec::new(), extensions: extensions(), wall };
        profile.set_candidates(candidates);
        profile
    }

    /// Replaces the addresses announced in offers to new peers.
    pub fn set_candidates(&mut self, candidates: &[SocketAddr]) {
        self.candidates = candidates.iter().filter_map(|addr| Candidate::host(*addr, "udp").ok()).collect();
    }

    /// The str0m settings of one peer.
    pub fn config(&self) -> RtcConfig {
        self.config.clone()
    }

    /// The forwarded extensions that a peer's answer has accepted.
    pub fn accepted(&self, answered: &ExtensionMap) -> Ids {
        let mut accepted = Ids::default();
        for (id, extension) in answered.iter() {
            let is_known = MEDIA_IDS.contains(id) || [MID_ID, TRANSPORT_CC_ID].contains(&id);
            if is_known && self.extensions.lookup(id).is_some_and(|ours| ours.as_uri() == extension.as_uri()) {
                accepted.insert(id);
            }
        }
        accepted
    }

    /// Unix time for sender reports.
    pub fn unix(&self, now: Instant) -> Duration {
        self.wall.unix + now.saturating_duration_since(self.wall.at)
    }

    /// The addresses announced in every offer.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The announced address for a local address: itself if it is announced, else the announced address of the same
    /// family, which is its public address behind NAT.
    pub fn announced(&self, local: SocketAddr) -> SocketAddr {
        let mut same_family = None;
        for candidate in &self.candidates {
            let addr = candidate.addr();
            if addr == local {
                return local;
            }
            if addr.is_ipv4() == local.is_ipv4() {
                same_family.get_or_insert(addr);
            }
        }
        same_family.unwrap_or(local)
    }
}

/// The codecs that a peer accepts on an m-line, with the payload types of each and of its RTX. It is small and flat
/// because it is searched for each packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct PayloadTypes {
    codecs: [Option<(Pt, Option<Pt>)>; 5],
    /// Payload type of redundant audio (RFC 2198), if accepted.
    pub red: Option<Pt>,
}

impl PayloadTypes {
    /// Adds a codec.
    pub fn insert(&mut self, codec: Codec, pt: Pt, rtx: Option<Pt>) {
        if let Some(index) = index_of(codec) {
            self.codecs[index].get_or_insert((pt, rtx));
        }
    }

    /// The payload type of a codec, if accepted.
    pub fn find(&self, codec: Codec) -> Option<Pt> {
        self.codecs[index_of(codec)?].map(|(pt, _)| pt)
    }

    /// The first accepted payload type of RTX.
    pub fn any_rtx(&self) -> Option<Pt> {
        self.codecs.iter().flatten().find_map(|(_, rtx)| *rtx)
    }

    /// The payload type of RTX for a codec, if accepted.
    pub fn find_rtx(&self, codec: Codec) -> Option<Pt> {
        self.codecs[index_of(codec)?]?.1
    }
}

/// The audio level of a packet in decibels below the maximum, if the publisher sends it (RFC 6464 section 3).
pub fn audio_level(elements: &Elements) -> Option<u8> {
    elements.find(AUDIO_LEVEL_ID)?.first().map(|byte| byte & 0x7f)
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

fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    map.set(AUDIO_LEVEL_ID, Extension::AudioLevel);
    map.set(TRANSPORT_CC_ID, Extension::with_serializer(UNREAD_TRANSPORT_CC, Unread { of_audio: true }));
    map.set(MID_ID, Extension::RtpMid);
    map.set(5, Extension::AbsoluteCaptureTime);
    map.set(6, Extension::PlayoutDelay);
    map.set(DEPENDENCY_ID, Extension::with_serializer(DEPENDENCY_DESCRIPTOR, Unread { of_audio: false }));
    map.set(10, Extension::RtpStreamId);
    map.set(11, Extension::RepairedRtpStreamId);
    map.set(13, Extension::VideoOrientation);
    map
}

/// An extension that is negotiated but not read by str0m. All are for video.
#[derive(Debug)]
struct Unread {
    /// Whether it is for audio too.
    of_audio: bool,
}

impl ExtensionSerializer for Unread {
    fn write_to(&self, _: &mut [u8], _: &ExtensionValues) -> usize {
        0
    }

    fn parse_value(&self, _: &[u8], _: &mut ExtensionValues) -> bool {
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        self.of_audio
    }

    fn requires_two_byte_form(&self, _: &ExtensionValues) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_extensions_that_describe_media_are_forwarded() {
        let passes = |extension: &Extension| {
            let uri = extension.as_uri();
            ["audio-level", "capture-time", "playout-delay", "dependency-descriptor", "video-orientation"]
                .iter()
                .any(|part| uri.contains(part))
        };
        let map = extensions();
        assert_eq!(map.iter().count(), 9);
        for (id, extension) in map.iter() {
            assert_eq!(MEDIA_IDS.contains(id), passes(extension), "{id} {extension:?}");
        }
        assert_eq!(map.lookup(MID_ID), Some(&Extension::RtpMid));
    }

    #[test]
    fn only_extensions_answered_with_their_offered_id_are_accepted() {
        let profile = Profile::new(&[], &[], Wall { at: Instant::now(), unix: Duration::ZERO, utc_offset_secs: 0 });
        let mut answered = ExtensionMap::empty();
        answered.set(1, Extension::AudioLevel);
        answered.set(MID_ID, Extension::RtpMid);
        answered.set(TRANSPORT_CC_ID, Extension::with_serializer(UNREAD_TRANSPORT_CC, Unread { of_audio: true }));
        answered.set(6, Extension::AbsoluteCaptureTime);
        assert_eq!(profile.accepted(&answered), Ids(1 << 1 | 1 << TRANSPORT_CC_ID | 1 << MID_ID));
    }
}
