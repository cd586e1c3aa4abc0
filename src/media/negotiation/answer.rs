//! Reduces SDP answers as clients write them to the lines that the server uses, in the form that str0m's parser
//! accepts.
//!
//! RFC 8866 allows much in an answer that has no meaning here: other line types, unknown and repeated attributes,
//! omitted defaults, session attributes that apply to the m-lines, line ends without CR. str0m's parser rejects most of
//! it. The reduced answer has one line for each used value. Everything else is left unparsed.
//!
//! Answers that RFC 8829 allows but this server does not support are refused with the reason: see [`AnswerRefusal`].

use std::fmt::Write;

use data_encoding::BASE64;
use str0m::media::{Direction, Mid};

use crate::media::negotiation::assignment::MAX_SENDING_M_LINES;
use crate::media::negotiation::sdp::{LINE_ENDS, RIDS, SdpRefusal, check_answer, sections};
use crate::media::rtp::codec::parameter_sets::{MAX_BYTES, SETS};

/// Size limit of a reduced answer in bytes: a fixed part and a part for each m-line. str0m's parser can take 300 ms for
/// a megabyte.
const BYTES: usize = 16 * 1024;
const BYTES_PER_M_LINE: usize = 2 * 1024;

/// Codecs that an offer can have, as in `a=rtpmap`.
const CODECS: [&str; 7] = ["opus", "VP8", "VP9", "H264", "AV1", "rtx", "red"];

/// RTCP feedback types that an offer can have.
const FEEDBACK: [&str; 5] = ["nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"];

/// Fingerprint hash functions that str0m computes, in order of preference, with their lengths in bytes.
const HASHES: [(&str, usize); 2] = [("sha-256", 32), ("sha-1", 20)];

/// Maximum number of parameters of one payload type, and of SSRCs of one m-line, that are read. Clients send a tenth of
/// that.
const PARAMETERS: usize = 32;
const SSRCS: usize = 64;

/// Highest header extension id of the one-byte form (RFC 8285 section 4.2).
const MAX_EXTENSION_ID: u8 = 14;

/// An m-line of the offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    mid: Mid,
    is_audio: bool,
    direction: Direction,
}

/// Why an answer is refused before str0m parses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRefusal {
    /// The text exceeds a limit, or its number of m-lines differs from the offer's.
    Bounds(SdpRefusal),
    /// The first line is not `v=0`, or an m-line lacks a field.
    Syntax,
    /// The mid or the kind of an m-line differs from the offer's m-line at the same index.
    Order,
    /// The answer is valid but not supported. The text is the message to the client.
    Unsupported(&'static str),
}

const NO_BUNDLE: AnswerRefusal = AnswerRefusal::Unsupported(
    "The answer puts m-lines on separate transports: only BUNDLE (max-bundle) is supported.",
);
const NO_DTLS: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer accepts an m-line without encryption: only DTLS-SRTP is supported.");
const ICE_LITE: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer comes from an ICE-lite client: only full ICE is supported.");
const NO_ICE: AnswerRefusal = AnswerRefusal::Unsupported("The answer lacks a=ice-ufrag or a=ice-pwd: ICE is required.");
const NO_FINGERPRINT: AnswerRefusal = AnswerRefusal::Unsupported(
    "The answer has no certificate fingerprint with a supported hash: only sha-256 and sha-1 are supported.",
);
const ALL_REJECTED: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer rejects all m-lines and has no transport: accept one m-line as inactive.");

/// Parses the m-lines of an offer.
pub fn offered(offer: &str) -> Vec<Offered> {
    let lines = sections(offer).filter(|section| section.starts_with("m=")).map(|section| {
        let attributes: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("a=")).collect();
        Offered {
            mid: Mid::from(value(&attributes, "mid").unwrap_or_default()),
            is_audio: section.starts_with("m=audio "),
            direction: direction(&attributes).unwrap_or(Direction::SendRecv),
        }
    });
    lines.collect()
}

/// Reduces an answer to the lines that the server uses, for str0m.
///
/// # Errors
/// The answer does not match the offer, or needs something unsupported.
pub fn reduce(answer: &str, offered: &[Offered]) -> Result<String, AnswerRefusal> {
    check_answer(answer, offered.len()).map_err(AnswerRefusal::Bounds)?;
    let (session, sections) = read(answer)?;
    if flag(&session, "ice-lite") {
        return Err(ICE_LITE);
    }
    let group = values(&session, "group").map(|group| group.split_whitespace());
    let group: Option<Vec<&str>> =
        group.clone().find(|group| group.clone().next() == Some("BUNDLE")).map(|group| group.skip(1).collect());
    let mut active = Vec::new();
    for (section, offered) in sections.iter().zip(offered) {
        let mid = value(&section.attributes, "mid");
        if mid.is_some_and(|mid| Mid::from(mid) != offered.mid) || section.is_audio() != offered.is_audio {
            return Err(AnswerRefusal::Order);
        }
        let is_bundled = group.iter().flatten().any(|mid| Mid::from(*mid) == offered.mid);
        if section.has_port || is_bundled {
            if !section.has_dtls() {
                return Err(NO_DTLS);
            }
            if group.is_some() && !is_bundled {
                return Err(NO_BUNDLE);
            }
            active.push(offered.mid);
        }
    }
    if group.is_none() && active.len() > 1 {
        return Err(NO_BUNDLE);
    }
    let is_active = |offered: &Offered| active.contains(&offered.mid);
    let tagged = sections.iter().zip(offered).find(|(_, offered)| is_active(offered));
    let transport = Transport::find(tagged.map(|(section, _)| section), &session, &sections)
        .map_err(|refusal| if tagged.is_none() { ALL_REJECTED } else { refusal })?;
    let mut reduced = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE".to_owned();
    active.iter().for_each(|mid| push(&mut reduced, format_args!(" {mid}")));
    let Transport { ufrag, password, hash, fingerprint, setup } = transport;
    push(&mut reduced, format_args!("\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n"));
    push(&mut reduced, format_args!("a=fingerprint:{hash} {fingerprint}\r\na=setup:{setup}\r\n"));
    for (section, offered) in sections.iter().zip(offered) {
        let kind = if offered.is_audio { "audio" } else { "video" };
        match is_active(offered) {
            true => section.write(kind, offered, &session, &mut reduced),
            false => push(
                &mut reduced,
                format_args!("m={kind} 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:{}\r\na=inactive\r\n", offered.mid),
            ),
        }
    }
    match reduced.len() > BYTES + offered.len() * BYTES_PER_M_LINE {
        true => Err(AnswerRefusal::Bounds(SdpRefusal::TooLong)),
        false => Ok(reduced),
    }
}

/// Returns the H.264 parameter sets in an answer (`sprop-parameter-sets`, RFC 6184 section 8.1) for the m-lines that
/// the client sends on.
pub fn parameter_sets(answer: &str, offered: &[Offered]) -> Vec<(Mid, Vec<Vec<u8>>)> {
    let (_, sections) = read(answer).unwrap_or_default();
    let sent = sections.iter().zip(offered).filter(|(_, offered)| offered.direction.is_receiving());
    let sets = sent.filter_map(|(section, offered)| {
        let parameters = values(&section.attributes, "fmtp").filter_map(of_payload_type);
        let parameters = parameters.flat_map(|(_, parameters)| parameters.split(';')).map(str::trim);
        let sets = parameters.filter_map(|parameter| parameter.strip_prefix("sprop-parameter-sets="));
        let sets = sets.flat_map(|sets| sets.split(',')).filter_map(|set| BASE64.decode(set.trim().as_bytes()).ok());
        let mut room = MAX_BYTES;
        let fits = |set: &Vec<u8>| {
            room = room.saturating_sub(set.len());
            !set.is_empty() && room > 0
        };
        let sets: Vec<Vec<u8>> = sets.filter(fits).take(SETS).collect();
        (!sets.is_empty()).then_some((offered.mid, sets))
    });
    sets.take(MAX_SENDING_M_LINES).collect()
}

/// Returns the m-lines on which the client accepts redundant sound (RFC 2198). str0m has this for all m-lines together
/// only.
pub fn redundant(answer: &str, offered: &[Offered]) -> Vec<Mid> {
    let (_, sections) = read(answer).unwrap_or_default();
    let lines = sections.iter().zip(offered);
    let redundant = lines.filter(|(section, offered)| {
        let is_red = |(_, map): &(u8, String)| map.starts_with("red/");
        offered.is_audio && section.codecs().iter().any(is_red)
    });
    redundant.map(|(_, offered)| offered.mid).collect()
}

/// An m-line and its attributes.
struct Section<'a> {
    kind: &'a str,
    /// Whether its port is not 0.
    has_port: bool,
    proto: &'a str,
    payload_types: Vec<u8>,
    attributes: Vec<&'a str>,
}

/// Upper bound of the memory of one m-line's parameter sets, in bytes.
pub const PARAMETER_SETS_BYTES: usize = MAX_BYTES + 2 * SETS * size_of::<Vec<u8>>();

impl Section<'_> {
    fn is_audio(&self) -> bool {
        self.kind == "audio"
    }

    /// Whether the protocol means DTLS-SRTP; RFC 8829 section 5.1.2 requires all these forms to be accepted.
    fn has_dtls(&self) -> bool {
        self.proto.ends_with("RTP/SAVPF") || self.proto.ends_with("RTP/SAVP")
    }

    fn write(&self, kind: &str, offered: &Offered, session: &[&str], reduced: &mut String) {
        let maps = self.codecs();
        push(reduced, format_args!("m={kind} 9 UDP/TLS/RTP/SAVPF"));
        maps.iter().for_each(|(payload_type, _)| push(reduced, format_args!(" {payload_type}")));
        // str0m requires a payload type, and accepts 0 (PCMU) without `a=rtpmap`.
        let direction = if maps.is_empty() {
            reduced.push_str(" 0");
            Direction::Inactive
        } else {
            let answered = direction(&self.attributes).or_else(|| direction(session)).unwrap_or(Direction::SendRecv);
            agreed(offered.direction, answered)
        };
        push(reduced, format_args!("\r\na=mid:{}\r\na={direction}\r\na=rtcp-mux\r\n", offered.mid));
        for (payload_type, map) in &maps {
            push(reduced, format_args!("a=rtpmap:{payload_type} {map}\r\n"));
        }
        self.write_feedback(&maps, reduced);
        self.write_parameters(&maps, reduced);
        self.write_extensions(session, reduced);
        if direction == Direction::SendOnly {
            self.write_layers(reduced);
            self.write_ssrcs(reduced);
        }
    }

    /// The payload types of codecs that an offer can have, each with its `a=rtpmap` value.
    fn codecs(&self) -> Vec<(u8, String)> {
        let mut maps: Vec<(u8, String)> = Vec::new();
        for map in values(&self.attributes, "rtpmap") {
            let Some((payload_type, map)) = of_payload_type(map) else { continue };
            let mut fields = map.split('/').map(str::trim);
            let name = fields.next().unwrap_or_default();
            let clock_rate = fields.next().and_then(|rate| rate.parse::<u32>().ok()).filter(|rate| *rate > 0);
            let (Some(codec), Some(clock_rate)) =
                (CODECS.iter().find(|codec| codec.eq_ignore_ascii_case(name)), clock_rate)
            else {
                continue;
            };
            let is_listed = self.payload_types.contains(&payload_type);
            if is_listed && !maps.iter().any(|(known, _)| *known == payload_type) {
                // Opus always has two channels in SDP (RFC 7587 section 7).
                let channels = if self.is_audio() { "/2" } else { "" };
                maps.push((payload_type, format!("{codec}/{clock_rate}{channels}")));
            }
        }
        maps.sort_by_key(|(payload_type, _)| self.payload_types.iter().position(|listed| listed == payload_type));
        maps
    }

    fn write_feedback(&self, maps: &[(u8, String)], reduced: &mut String) {
        let mut taken = [[false; FEEDBACK.len()]; 128];
        for value in values(&self.attributes, "rtcp-fb") {
            let Some((of, feedback)) = value.split_once(' ') else { continue };
            let Some(feedback) = FEEDBACK.iter().position(|known| known.split(' ').eq(feedback.split_whitespace()))
            else {
                continue;
            };
            match of.parse::<usize>() {
                Ok(payload_type) if payload_type < taken.len() => taken[payload_type][feedback] = true,
                // All payload types (RFC 4585 section 4.2).
                _ if of == "*" => taken.iter_mut().for_each(|taken| taken[feedback] = true),
                _ => {}
            }
        }
        for (payload_type, _) in maps {
            for (feedback, _) in FEEDBACK.iter().zip(taken[usize::from(*payload_type)]).filter(|(_, taken)| *taken) {
                push(reduced, format_args!("a=rtcp-fb:{payload_type} {feedback}\r\n"));
            }
        }
    }

    fn write_parameters(&self, maps: &[(u8, String)], reduced: &mut String) {
        for (payload_type, map) in maps {
            let own = values(&self.attributes, "fmtp").filter_map(of_payload_type).filter(|(of, _)| of == payload_type);
            let own = own.flat_map(|(_, parameters)| parameters.split(';')).map(str::trim);
            if map.starts_with("red/") {
                let is_list = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'/');
                if let Some(list) = own.clone().find(|text| !text.is_empty() && is_list(text)) {
                    push(reduced, format_args!("a=fmtp:{payload_type} {list}\r\n"));
                }
                continue;
            }
            let mut parameters: Vec<(&str, &str)> = Vec::new();
            for parameter in own {
                let Some((key, value)) = parameter.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
                else {
                    continue;
                };
                let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
                let is_new = !parameters.iter().any(|(known, _)| *known == key);
                if is_word(key) && is_word(value) && !value.contains('=') && is_new && parameters.len() < PARAMETERS {
                    parameters.push((key, value));
                }
            }
            if !parameters.is_empty() {
                let parameters: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
                push(reduced, format_args!("a=fmtp:{payload_type} {}\r\n", parameters.join(";")));
            }
        }
    }

    /// Writes header extensions. Those of the session apply to all m-lines (RFC 8285 section 5).
    fn write_extensions(&self, session: &[&str], reduced: &mut String) {
        let mut taken = [false; MAX_EXTENSION_ID as usize + 1];
        for extension in values(&self.attributes, "extmap").chain(values(session, "extmap")) {
            let mut fields = extension.split_whitespace();
            let id = fields.next().and_then(|id| id.split('/').next()?.parse::<u8>().ok());
            let id = id.filter(|id| (1..=MAX_EXTENSION_ID).contains(id));
            if let (Some(id), Some(uri)) = (id, fields.next())
                && !std::mem::replace(&mut taken[usize::from(id)], true)
            {
                push(reduced, format_args!("a=extmap:{id} {uri}\r\n"));
            }
        }
    }

    /// Writes the offered simulcast layers that the client sends.
    fn write_layers(&self, reduced: &mut String) {
        let sent = |rid: &&&str| {
            values(&self.attributes, "rid").any(|value| value.split_whitespace().take(2).eq([**rid, "send"]))
        };
        let rids: Vec<&&str> = RIDS.iter().filter(sent).collect();
        rids.iter().for_each(|rid| push(reduced, format_args!("a=rid:{rid} send\r\n")));
        let layers = values(&self.attributes, "simulcast").find_map(|value| {
            // RFC 8853 has a list after each direction; its drafts put `rid=` before the list.
            let mut words = value.split_whitespace().skip_while(|word| *word != "send").skip(1);
            Some(words.next()?.trim_start_matches("rid=").split(';'))
        });
        // Of alternatives the first is used. A tilde marks a layer that starts paused.
        let layers = layers.into_iter().flatten().filter_map(|layer| layer.split(',').next());
        let is_known = |layer: &&str| rids.iter().any(|rid| ***rid == *layer.trim_start_matches('~'));
        let layers: Vec<&str> = layers.filter(is_known).take(RIDS.len()).collect();
        if !layers.is_empty() {
            push(reduced, format_args!("a=simulcast:send {}\r\n", layers.join(";")));
        }
    }

    /// Writes the SSRCs of the client's streams and their retransmission streams.
    fn write_ssrcs(&self, reduced: &mut String) {
        let mut ssrcs: Vec<u32> = Vec::new();
        for value in values(&self.attributes, "ssrc") {
            let ssrc = value.split_whitespace().next().and_then(|ssrc| ssrc.parse().ok());
            if let Some(ssrc) = ssrc.filter(|ssrc| ssrcs.len() < SSRCS && !ssrcs.contains(ssrc)) {
                ssrcs.push(ssrc);
                push(reduced, format_args!("a=ssrc:{ssrc} cname:-\r\n"));
            }
        }
        for value in values(&self.attributes, "ssrc-group").take(SSRCS) {
            let mut words = value.split_whitespace();
            let is_rtx = words.next().is_some_and(|semantics| semantics.eq_ignore_ascii_case("FID"));
            let pair: Vec<u32> = words.filter_map(|ssrc| ssrc.parse().ok()).take(3).collect();
            if let (true, [ssrc, rtx_ssrc]) = (is_rtx, pair.as_slice()) {
                push(reduced, format_args!("a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\n"));
            }
        }
    }
}

/// The ICE and DTLS parameters of an answer; one transport carries all m-lines.
struct Transport<'a> {
    ufrag: &'a str,
    password: &'a str,
    hash: &'static str,
    fingerprint: &'a str,
    setup: &'a str,
}

impl<'a> Transport<'a> {
    /// Finds each parameter in the first active m-line, else in the session, else in any m-line.
    fn find(
        tagged: Option<&Section<'a>>,
        session: &[&'a str],
        sections: &[Section<'a>],
    ) -> Result<Self, AnswerRefusal> {
        let levels = || {
            let tagged = tagged.map(|section| section.attributes.as_slice());
            tagged.into_iter().chain([session]).chain(sections.iter().map(|section| section.attributes.as_slice()))
        };
        let word = |name| {
            levels().filter_map(move |level| value(level, name)).find(|value| !value.contains(char::is_whitespace))
        };
        let (Some(ufrag), Some(password)) = (word("ice-ufrag"), word("ice-pwd")) else {
            return Err(NO_ICE);
        };
        let fingerprint = levels().find_map(|level| {
            HASHES.iter().find_map(|(hash, bytes)| {
                let of_hash = values(level, "fingerprint").filter_map(|value| value.split_once(' '));
                let mut of_hash =
                    of_hash.filter(|(name, _)| name.eq_ignore_ascii_case(hash)).map(|(_, hex)| hex.trim());
                Some((*hash, of_hash.find(|hex| is_fingerprint(hex, *bytes))?))
            })
        });
        let (hash, fingerprint) = fingerprint.ok_or(NO_FINGERPRINT)?;
        // Without `a=setup` the answerer is active, as RFC 8842 section 5.3 recommends.
        let setup = word("setup").filter(|setup| *setup == "passive").unwrap_or("active");
        Ok(Self { ufrag, password, hash, fingerprint, setup })
    }
}

/// Splits an answer into session attributes and m-lines.
fn read(answer: &str) -> Result<(Vec<&str>, Vec<Section<'_>>), AnswerRefusal> {
    let mut lines = answer.split(LINE_ENDS).map(str::trim_end).filter(|line| !line.is_empty());
    if lines.next() != Some("v=0") {
        return Err(AnswerRefusal::Syntax);
    }
    let (mut session, mut sections) = (Vec::new(), Vec::<Section<'_>>::new());
    for line in lines {
        if let Some(attribute) = line.strip_prefix("a=") {
            sections.last_mut().map_or(&mut session, |section| &mut section.attributes).push(attribute);
        } else if let Some(media) = line.strip_prefix("m=") {
            let mut fields = media.split_whitespace();
            let (Some(kind), Some(port), Some(proto)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(AnswerRefusal::Syntax);
            };
            let payload_types =
                fields.filter_map(|field| field.parse().ok()).filter(|payload_type| *payload_type < 128);
            let payload_types = payload_types.take(128).collect();
            let has_port = port.split('/').next() != Some("0");
            sections.push(Section { kind, has_port, proto, payload_types, attributes: Vec::new() });
        }
    }
    Ok((session, sections))
}

/// Returns the negotiated direction, seen from the client (RFC 3264 section 6.1). An omitted direction (`sendrecv`) may
/// exceed the offered one.
fn agreed(offered: Direction, answered: Direction) -> Direction {
    match (offered.is_receiving() && answered.is_sending(), offered.is_sending() && answered.is_receiving()) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    }
}

fn direction(attributes: &[&str]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match *attribute {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

fn is_fingerprint(hex: &str, bytes: usize) -> bool {
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.split(':').count() == bytes && hex.split(':').all(is_byte)
}

/// Splits a value that starts with a payload type.
fn of_payload_type(value: &str) -> Option<(u8, &str)> {
    let (payload_type, rest) = value.split_once(char::is_whitespace)?;
    Some((payload_type.parse().ok()?, rest.trim()))
}

fn flag(attributes: &[&str], name: &str) -> bool {
    attributes.contains(&name)
}

fn value<'a>(attributes: &[&'a str], name: &str) -> Option<&'a str> {
    values(attributes, name).next()
}

fn values<'a, 'b>(attributes: &'b [&'a str], name: &'b str) -> impl Iterator<Item = &'a str> + Clone + use<'a, 'b> {
    let of_name = attributes.iter().filter_map(move |attribute| attribute.strip_prefix(name)?.strip_prefix(':'));
    of_name.map(str::trim).filter(|value| !value.is_empty())
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    //! Answers of nine WebRTC stacks, and variations allowed by RFC 8866 and RFC 8829, handled by a `Peer`.

    use std::time::{Duration, Instant};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use str0m::media::{MediaKind, Mid};

    use super::*;
    use crate::clock::Wall;
    use crate::config::VideoCodec;
    use crate::id::{Names, PeerId, TrackId};
    use crate::media::fault::PeerError;
    use crate::media::inputs;
    use crate::media::negotiation::Agreed;
    use crate::media::negotiation::profile::Profile;
    use crate::media::peer::Peer;
    use crate::media::transport::allowance::Allowance;
    use crate::track::Source;

    const FINGERPRINT: &str =
        "sha-256 45:AD:5C:82:F8:BE:B5:2A:D1:74:A6:16:D0:50:CD:86:9C:97:9D:BD:06:8C:C9:85:C9:CD:AB:2B:A8:56:03:CD";
    const CANDIDATE: &str = "a=candidate:1 1 udp 2130706431 192.0.2.7 49152 typ host";

    /// Templates of a stack's answer. It has four m-lines: the client sends a microphone and a camera, and receives the
    /// same.
    struct Stack {
        name: &'static str,
        /// The session part. `{mids}` are the mids of all m-lines, `{fp}` is the fingerprint.
        session: &'static str,
        /// The protocol of m-lines.
        proto: &'static str,
        /// Attributes of every m-line. `{mid}` and `{dir}` are its mid and direction.
        media: &'static str,
        audio: &'static str,
        video: &'static str,
        /// Attributes of m-lines on which the client sends.
        sent: &'static str,
    }

    const TRANSPORT: &str = "a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=fingerprint:{fp}|a=setup:active";

    const STACKS: [Stack; 9] = [
        Stack {
            name: "Chromium",
            session: "v=0|o=- 6564425948916445306 2 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE {mids}|a=extmap-allow-mixed|a=msid-semantic: WMS",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 0.0.0.0|a=rtcp:9 IN IP4 0.0.0.0|{transport}|a=ice-options:trickle|a=mid:{mid}|a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid|a={dir}|a=rtcp-mux|a=rtcp-rsize",
            audio: "a=rtpmap:111 opus/48000/2|a=rtcp-fb:111 transport-cc|a=fmtp:111 minptime=10;useinbandfec=1",
            video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack|a=rtcp-fb:96 nack pli|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96",
            sent: "a=msid:s t|a=ssrc-group:FID {ssrc} {ssrc}1|a=ssrc:{ssrc} cname:c|a=ssrc:{ssrc}1 cname:c",
        },
        Stack {
            name: "Firefox",
            session: "v=0|o=mozilla...THIS_IS_SDPARTA-99.0 8155823463327564117 0 IN IP4 0.0.0.0|s=-|t=0 0|a=fingerprint:{fp}|a=group:BUNDLE {mids}|a=ice-options:trickle|a=msid-semantic:WMS *",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 0.0.0.0|a={dir}|a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid|a=ice-pwd:0123456789abcdefghijklmn|a=ice-ufrag:abcd|a=mid:{mid}|a=rtcp-mux|a=setup:active|a=rtcp-rsize",
            audio: "a=fmtp:111 maxplaybackrate=48000;stereo=1;useinbandfec=1|a=rtpmap:111 opus/48000/2",
            video: "a=fmtp:96 max-fs=12288;max-fr=60|a=fmtp:97 apt=96|a=rtcp-fb:96 nack|a=rtcp-fb:96 ccm fir|a=rtpmap:96 VP8/90000|a=rtpmap:97 rtx/90000",
            sent: "a=msid:- {abc}|a=ssrc:{ssrc} cname:{abc}",
        },
        Stack {
            name: "Safari",
            session: "v=0|o=- 1 2 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE {mids}|a=msid-semantic: WMS stream",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 0.0.0.0|b=AS:2500|b=TIAS:2500000|{transport}|a=mid:{mid}|a={dir}|a=rtcp-mux",
            audio: "a=rtpmap:111 opus/48000/2",
            video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 goog-remb",
            sent: "a=ssrc:{ssrc} cname:c|a=ssrc:{ssrc} msid:s t|a=ssrc:{ssrc} mslabel:s",
        },
        Stack {
            name: "GStreamer",
            session: "v=0|o=- 1188110273 0 IN IP4 0.0.0.0|s=-|t=0 0|a=ice-options:trickle|a=group:BUNDLE {mids}|a=group:LS {mids}",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 0.0.0.0|{transport}|{transport}|a=rtcp-mux|a=rtcp-rsize|a=mid:{mid}|a={dir}|a={dir}",
            audio: "a=rtpmap:111 OPUS/48000/2|a=fmtp:111 sprop-stereo=1; sprop-maxcapturerate=48000",
            video: "a=rtpmap:96 VP8/90000|a=framerate:30|a=rtcp-fb:96 nack pli|a=fmtp:96",
            sent: "a=ssrc:{ssrc} msid:user@host webrtctransceiver0|a=ssrc:{ssrc} cname:user@host",
        },
        Stack {
            name: "aiortc",
            session: "v=0|o=- 3900000000 3900000000 IN IP4 0.0.0.0|s=-|t=0 0|a=group:BUNDLE {mids}|a=msid-semantic:WMS *",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 192.0.2.7|a={dir}|a=mid:{mid}|a=rtcp:9 IN IP4 0.0.0.0|a=rtcp-mux|{candidate}|{candidate}|a=end-of-candidates|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=fingerprint:{fp}|a=fingerprint:sha-384 00:11|a=fingerprint:sha-512 00:11|a=setup:active",
            audio: "a=rtpmap:111 opus/48000/2",
            video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96",
            sent: "a=msid:s t|a=ssrc:{ssrc} cname:c",
        },
        Stack {
            name: "Pion",
            session: "v=0|o=- 1 1 IN IP4 0.0.0.0|s=-|t=0 0|a=msid-semantic:WMS*|a=fingerprint:{fp}|a=extmap-allow-mixed|a=group:BUNDLE {mids}",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 0.0.0.0|a=setup:active|a=mid:{mid}|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=rtcp-mux|a=rtcp-rsize|{candidate} ufrag abcd|a=end-of-candidates|a={dir}",
            audio: "a=rtpmap:111 opus/48000/2|a=fmtp:111 minptime=10;useinbandfec=1",
            video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack|a=rtcp-fb:96 nack pli",
            sent: "a=ssrc:{ssrc} cname:s|a=ssrc:{ssrc} msid:s t|a=msid:s t",
        },
        Stack {
            name: "libdatachannel",
            session: "v=0|o=rtc 3906371 0 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE {mids}|a=msid-semantic:WMS *|a=setup:active|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=ice-options:ice2,trickle|a=fingerprint:{fp}",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 0.0.0.0|a=mid:{mid}|a={dir}|a=rtcp-mux",
            audio: "a=rtpmap:111 opus/48000/2|a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1",
            video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack",
            sent: "a=ssrc:{ssrc} cname:video",
        },
        Stack {
            name: "libmediasoup",
            session: "v=0|o=libmediasoupclient 10000 1 IN IP4 0.0.0.0|s=-|t=0 0|a=ice-options:renomination|a=msid-semantic: WMS *|a=fingerprint:sha-512 00:11|a=fingerprint:{fp}|a=group:BUNDLE {mids}",
            proto: "UDP/TLS/RTP/SAVPF",
            media: "c=IN IP4 127.0.0.1|a=rtpmap:120 foo/0|a=mid:{mid}|a={dir}|{candidate}|a=end-of-candidates|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=setup:active|a=rtcp-mux|a=rtcp-rsize",
            audio: "a=rtpmap:111 opus/48000|a=fmtp:111",
            video: "a=rtpmap:96 vp8/90000|a=rtcp-fb:* nack|a=rtcp-fb:96 nack |a=extmap-allow-mixed",
            sent: "a=ssrc:{ssrc} cname:c|a=ssrc-group:SIM {ssrc}",
        },
        Stack {
            name: "Janus",
            session: "v=0|o=- 1 1 IN IP4 198.51.100.1|s=VideoRoom 1234|i=a room|u=https://example.org|e=a@example.org|p=+1 617 555-6011|c=IN IP4 198.51.100.1|b=CT:128|t=0 0|r=604800 3600 0 90000|z=0 0|k=clear:x|a=group:BUNDLE {mids}|a=msid-semantic: WMS janus",
            proto: "RTP/SAVPF",
            media: "i=a title|c=IN IP4 198.51.100.1|b=TIAS:128000|k=prompt|a={dir}|a=mid:{mid}|a=rtcp-mux|{transport}|a=ice-options:trickle|{candidate}|a=end-of-candidates",
            audio: "a=rtpmap:111 opus/48000/2",
            video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack",
            sent: "a=msid:janus janus0|a=ssrc:{ssrc} cname:janus|a=ssrc:{ssrc} label:janus0",
        },
    ];

    /// For each m-line of the offer, whether it is audio and whether the client sends on it.
    const LINES: [(bool, bool); 4] = [(true, true), (false, true), (true, false), (false, false)];

    impl Stack {
        fn answer(&self, mids: &[String]) -> String {
            let mut answer = self.session.to_owned();
            for (index, (mid, (is_audio, is_sent))) in mids.iter().zip(LINES).enumerate() {
                let (kind, payload_types) = if is_audio { ("audio", "111 0 8") } else { ("video", "96 97 100") };
                let codecs = if is_audio { self.audio } else { self.video };
                let direction = if is_sent { "sendonly" } else { "recvonly" };
                let media = self.media.replace("{mid}", mid).replace("{dir}", direction);
                answer += &format!("|m={kind} 9 {} {payload_types}|{media}|{codecs}", self.proto);
                if is_sent {
                    answer += &format!("|{}", self.sent.replace("{ssrc}", &format!("{}", 1_000 + index)));
                }
            }
            let answer = answer.replace("{transport}", TRANSPORT).replace("{candidate}", CANDIDATE);
            answer.replace("{mids}", &mids.join(" ")).replace("{fp}", FINGERPRINT).replace('|', "\r\n") + "\r\n"
        }
    }

    /// A peer that has sent an offer with four m-lines, and their mids.
    struct Fixture {
        peer: Peer,
        profile: Profile,
        names: Names,
        now: Instant,
        mids: Vec<String>,
    }

    impl Fixture {
        fn new() -> Self {
            let now = Instant::now();
            let wall = Wall { at: now, unix: Duration::ZERO, utc_offset_secs: 0 };
            let profile = Profile::new(&[VideoCodec::Vp8, VideoCodec::Vp9], &[], wall);
            let mut names = Names::new([1; 32]);
            let mut peer = Peer::new(now, &profile, Allowance::new(now, 1_000, 1_000), false, &mut names);
            peer.negotiation.publish(now, MediaKind::Audio, Source::Microphone);
            peer.negotiation.publish(now, MediaKind::Video, Source::Camera);
            for (mid, kind) in [("a", MediaKind::Audio), ("v", MediaKind::Video)] {
                let publisher = PeerId { slot: 1, generation: 0 };
                peer.negotiation.subscribe(now, TrackId { publisher, mid: Mid::from(mid) }, kind);
            }
            let offer = peer.build_offer(now, &mut names).expect("peer can offer").expect("peer has m-lines to offer");
            let mids: Vec<String> = offered(&offer).iter().map(|line| line.mid.to_string()).collect();
            assert_eq!(mids.len(), LINES.len());
            Self { peer, profile, names, now, mids }
        }

        fn answer(&mut self, answer: &str) -> Result<Vec<Agreed>, PeerError> {
            self.peer.handle_answer(self.now, answer, &self.profile, &mut self.names)
        }

        fn assert_all(&mut self, answer: &str) {
            let agreed = match self.answer(answer) {
                Ok(agreed) => agreed,
                Err(error) => panic!("{error} in {answer}"),
            };
            let published = agreed.iter().filter(|agreed| matches!(agreed, Agreed::Publishing { .. })).count();
            let subscribed = agreed.iter().filter(|agreed| matches!(agreed, Agreed::Subscribed { .. })).count();
            assert_eq!((published, subscribed, agreed.len()), (2, 2, 4), "{agreed:?} in {answer}");
        }
    }

    #[test]
    fn parameter_sets_are_read_from_m_lines_on_which_the_client_sends() {
        let line = |mid: &'static str, direction| Offered { mid: Mid::from(mid), is_audio: false, direction };
        let offered = [line("0", Direction::RecvOnly), line("1", Direction::SendOnly), line("2", Direction::RecvOnly)];
        let many = "AAAA,".repeat(40);
        for (parameters, expected) in [
            (
                "packetization-mode=1; sprop-parameter-sets=Z0Lg,aM48gA==;x=1",
                vec![vec![0x67, 0x42, 0xe0], vec![0x68, 0xce, 0x3c, 0x80]],
            ),
            ("sprop-parameter-sets=Z0Lg,*,,", vec![vec![0x67, 0x42, 0xe0]]),
            ("sprop-parameter-sets=", vec![]),
            ("packetization-mode=1", vec![]),
            (&format!("sprop-parameter-sets={many}"), vec![vec![0; 3]; SETS]),
            (&format!("sprop-parameter-sets={}", BASE64.encode(&[7; MAX_BYTES])), vec![]),
        ] {
            let section = format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=fmtp:96 {parameters}\r\n");
            let sets = super::parameter_sets(&format!("v=0\r\n{section}{section}"), &offered);
            let expected = if expected.is_empty() { vec![] } else { vec![(Mid::from("0"), expected)] };
            assert_eq!(sets, expected, "{parameters}");
        }
        assert_eq!(super::parameter_sets("nothing", &offered), []);
    }

    #[test]
    fn redundancy_is_read_from_each_m_line() {
        let line =
            |mid: &'static str, is_audio| Offered { mid: Mid::from(mid), is_audio, direction: Direction::SendOnly };
        let offered = [line("0", true), line("1", true), line("2", false), line("3", true)];
        let audio = |types: &str| {
            format!("m=audio 9 UDP/TLS/RTP/SAVPF {types}\r\na=rtpmap:63 RED/48000/2\r\na=rtpmap:111 opus/48000/2\r\n")
        };
        let answer = ["v=0\r\n", &audio("111"), &audio("111 63"), "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", &audio("63")];
        assert_eq!(super::redundant(&answer.concat(), &offered), [Mid::from("1"), Mid::from("3")]);
        assert_eq!(super::redundant("nothing", &offered), []);
    }

    #[test]
    fn answers_of_nine_stacks_are_accepted() {
        for stack in &STACKS {
            let mut fixture = Fixture::new();
            let answer = stack.answer(&fixture.mids);
            assert!(answer.contains("m="), "{}", stack.name);
            fixture.assert_all(&answer);
        }
    }

    #[test]
    fn a_rejected_m_line_needs_no_mid_and_no_codec() {
        // Pion rejects m-lines of a kind without a codec in this way.
        let mut fixture = Fixture::new();
        let answer = STACKS[0].answer(&fixture.mids);
        let group = |mids: &[String]| format!("a=group:BUNDLE {}", mids.join(" "));
        let answer = answer.replace(&group(&fixture.mids), &group(&fixture.mids[..3]));
        let last = answer.rfind("m=video").expect("answer has video m-lines");
        let answer = format!("{}m=video 0 UDP/TLS/RTP/SAVPF 0\r\n", &answer[..last]);
        let agreed = fixture.answer(&answer).expect("answer that rejects one m-line is valid");
        assert!(agreed.iter().any(|agreed| matches!(agreed, Agreed::Refused { .. })), "{agreed:?}");
        assert_eq!(agreed.iter().filter(|agreed| matches!(agreed, Agreed::Subscribed { .. })).count(), 1);
    }

    #[test]
    fn simulcast_layers_are_read_in_every_form() {
        let offer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:x\r\na=recvonly\r\n";
        for simulcast in
            ["send q;h;f", " send q;h;f", "send q,x;h;f", "send rid=q;h;f", "recv x send q;h;f", "send q;h;f;z"]
        {
            let answer = format!(
                "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n{}\r\na=rtpmap:96 VP8/90000\r\na=sendonly\r\na=rid:q send \
             pt=96;max-width=320\r\na=rid:h send\r\na=rid:f send\r\na=rid:z-1 send\r\na=simulcast:{simulcast}\r\n",
                TRANSPORT.replace("{fp}", FINGERPRINT).replace('|', "\r\n"),
            );
            let reduced = reduce(&answer, &offered(offer)).expect("answer is valid");
            let expected = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n";
            assert!(reduced.contains(expected), "{simulcast:?} {reduced}");
        }
    }

    #[test]
    fn refusals_name_the_unsupported_feature() {
        let unsupported = |change: &dyn Fn(&str) -> String| {
            let mut fixture = Fixture::new();
            let answer = change(&STACKS[0].answer(&fixture.mids));
            match fixture.answer(&answer) {
                Err(error) => {
                    assert!(!error.is_fault() || error.code() == "bad-answer", "{error}");
                    (error.code(), error.message())
                }
                Ok(_) => panic!("{answer}"),
            }
        };
        let without = |answer: &str, part: &str| -> String {
            answer.split_inclusive('\n').filter(|line| !line.contains(part)).collect()
        };
        for (change, named) in [
            (&|answer: &str| without(answer, "BUNDLE") as _, "BUNDLE"),
            (&|answer: &str| without(answer, "a=ice-"), "a=ice-ufrag"),
            (&|answer: &str| without(answer, "a=fingerprint"), "fingerprint"),
            (&|answer: &str| answer.replace(FINGERPRINT, "sha-512 00:11"), "fingerprint"),
            (&|answer: &str| answer.replace(FINGERPRINT, &FINGERPRINT[..50]), "fingerprint"),
            (&|answer: &str| answer.replace("UDP/TLS/RTP/SAVPF", "RTP/AVPF"), "DTLS"),
            (&|answer: &str| answer.replace("a=msid-semantic", "a=ice-lite\r\na=msid-semantic"), "ICE-lite"),
        ] as [(&dyn Fn(&str) -> String, &str); 7]
        {
            let (code, message) = unsupported(change);
            assert_eq!(code, "unsupported-answer", "{named}");
            assert!(message.contains(named), "{message}");
        }
        let swapped = |answer: &str| answer.replace("m=audio", "m=text");
        assert_eq!(unsupported(&swapped).0, "bad-answer");
    }

    /// Lines that RFC 8866 allows anywhere and that are not used; some resemble used ones.
    const NOISE: [&str; 30] = [
        "b=AS:500",
        "b=TIAS:1000",
        "k=clear:x",
        "i=text",
        "e=a@example.org",
        "p=+1",
        "r=7d 1h 0",
        "z=0 0",
        "u=https://example.org",
        "c=IN IP4 0.0.0.0",
        "y=0",
        "",
        "a=unknown",
        "a=unknown:value",
        "a=ssrc:77 foo",
        "a=ssrc:x cname:y",
        "a=ssrc-group:FID 1",
        "a=rtcp-fb:96 x y",
        "a=rtcp-fb:300 nack",
        "a=extmap:14/sendrecv urn:x",
        "a=extmap:300 urn:x",
        "a=group:LS 0",
        "a=fingerprint:sha-512 AA",
        "a=fingerprint:md5 xyz",
        "a=candidate:garbage",
        "a=rid:~ send",
        "a=rtpmap:200 x/0",
        "a=fmtp:96",
        "a=fmtp:96 x",
        "a=setup:holdconn",
    ];

    proptest! {
        #![proptest_config(inputs(256))]

        /// The same is negotiated for each valid form of an answer.
        #[test]
        fn variations_negotiate_the_same(
            stack in 0..STACKS.len(),
            noise in vec((any::<prop::sample::Index>(), 0..NOISE.len()), 0..12),
            repeated in vec(any::<prop::sample::Index>(), 0..6),
            moved in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
            omitted in vec(any::<bool>(), 4),
            has_cr in any::<bool>(),
            is_lower in any::<bool>(),
        ) {
            let mut fixture = Fixture::new();
            let answer = STACKS[stack].answer(&fixture.mids);
            let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
            let [mid, direction, mux, setup] = omitted[..] else { unreachable!() };
            lines.retain(|line| {
                let is_omitted = mid && line.starts_with("a=mid:")
                    || direction && ["a=sendonly", "a=recvonly"].contains(&line.as_str())
                    || mux && line == "a=rtcp-mux"
                    || setup && line.starts_with("a=setup:");
                !is_omitted
            });
            // Attributes are reordered within their section.
            for (from, to) in moved {
                let (from, to) = (from.index(lines.len()), to.index(lines.len()));
                let (low, high) = (from.min(to), from.max(to));
                if lines[low..=high].iter().all(|line| line.starts_with("a=")) {
                    lines.swap(low, high);
                }
            }
            for at in repeated {
                let at = at.index(lines.len());
                if lines[at].starts_with("a=") {
                    lines.insert(at, lines[at].clone());
                }
            }
            for (at, line) in noise {
                lines.insert(1 + at.index(lines.len()), NOISE[line].to_owned());
            }
            let mut answer = lines.join(if has_cr { "\r\n" } else { "\n" });
            if is_lower {
                answer = answer.replace(FINGERPRINT, &FINGERPRINT.to_lowercase());
                answer = answer.replace("a=fingerprint:sha-256", "a=fingerprint:SHA-256");
            }
            fixture.assert_all(&answer);
        }

        /// For any text, the reduced answer is stable, and str0m can parse it.
        #[test]
        fn reduced_text_can_be_parsed(parts in vec((0..NOISE.len(), any::<u8>(), "[ -~]{0,12}"), 0..40)) {
            let mut fixture = Fixture::new();
            let mut answer = STACKS[0].answer(&fixture.mids);
            for (line, at, text) in parts {
                let at = answer.len() * usize::from(at) / 256;
                answer.insert_str(at, &if at.is_multiple_of(2) { format!("\r\n{}\r\n", NOISE[line]) } else { text });
            }
            let offered = fixture.peer.offered();
            if let Ok(reduced) = reduce(&answer, offered) {
                prop_assert_eq!(reduce(&reduced, offered), Ok(reduced.clone()));
                if let Err(PeerError::BadAnswer(why)) = fixture.answer(&answer) {
                    prop_assert!(false, "{why}\n{reduced}");
                }
            }
        }
    }
}
