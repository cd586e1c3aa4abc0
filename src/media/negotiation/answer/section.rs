//! One m-line of an answer, and its reduced form.

use std::fmt::Write;

use str0m::media::Direction;

use super::refusal::AnswerRefusal;
use crate::media::negotiation::attributes::{direction, of_payload_type, values};
use crate::media::negotiation::offered::Offered;
use crate::media::negotiation::sdp::LINE_ENDS;
use crate::media::publish::layer::RIDS;

/// Codecs that an offer can have, as in `a=rtpmap`.
const CODECS: [&str; 7] = ["opus", "VP8", "VP9", "H264", "AV1", "rtx", "red"];

/// RTCP feedback types that an offer can have.
const FEEDBACK: [&str; 5] = ["nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"];

/// Maximum number of parameters of one payload type, and of SSRCs of one m-line, that are read. Clients send a tenth of
/// these.
const PARAMETERS: usize = 32;
const SSRCS: usize = 64;

/// Highest header extension id of the one-byte form (RFC 8285 section 4.2).
const MAX_EXTENSION_ID: u8 = 14;

/// An m-line and its attributes.
pub(super) struct Section<'a> {
    kind: &'a str,
    /// Whether its port is not 0.
    pub(super) has_port: bool,
    proto: &'a str,
    payload_types: Vec<u8>,
    pub(super) attributes: Vec<&'a str>,
}

impl Section<'_> {
    pub(super) fn is_audio(&self) -> bool {
        self.kind == "audio"
    }

    /// Whether the protocol means DTLS-SRTP; RFC 8829 section 5.1.2 requires all these forms to be accepted.
    pub(super) fn has_dtls(&self) -> bool {
        self.proto.ends_with("RTP/SAVPF") || self.proto.ends_with("RTP/SAVP")
    }

    pub(super) fn write(&self, kind: &str, offered: &Offered, session: &[&str], reduced: &mut String) {
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
    pub(super) fn codecs(&self) -> Vec<(u8, String)> {
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
        // The first of several alternatives is used. A tilde marks a layer that starts paused.
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

/// Splits an answer into session attributes and m-lines.
pub(super) fn read(answer: &str) -> Result<(Vec<&str>, Vec<Section<'_>>), AnswerRefusal> {
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

/// Appends formatted text.
pub(super) fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a string cannot fail");
}
