//! Textual changes of offers and size limits of answers.

use str0m::media::Mid;

use crate::media::publish::layer::RIDS;

/// Line ends of an answer: CR, LF, or both. Empty lines do not count.
pub const LINE_ENDS: [char; 2] = ['\r', '\n'];

/// Limit of the lines of an answer: a fixed part and a part for each offered m-line.
const LINES: usize = 200;
const LINES_PER_M_LINE: usize = 60;

/// Limit of the bytes of an answer: a fixed part and a part for each offered m-line, with 2 KiB for its attributes and
/// 4 KiB for candidates. Clients without trickle ICE repeat all candidates in every m-line, and a machine with many
/// interfaces has 40 of 90 bytes each.
const BYTES: usize = 16 * 1024;
const BYTES_PER_M_LINE: usize = 6 * 1024;

/// Why an answer is refused before it is parsed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum SdpRefusal {
    /// The answer has more bytes than the offer justifies.
    TooLong,
    /// The answer has more lines than the offer justifies.
    TooManyLines,
    /// The number of m-lines differs from the offer's.
    MLines,
}

/// Checks the size of an answer to an offer of `offered` m-lines, in linear time. Candidates are limited by their bytes
/// only: they are never parsed.
pub fn check_answer(sdp: &str, offered: usize) -> Result<(), SdpRefusal> {
    if sdp.len() > BYTES + offered * BYTES_PER_M_LINE {
        return Err(SdpRefusal::TooLong);
    }
    let (mut lines, mut m_lines) = (0, 0);
    for line in sdp.split(LINE_ENDS) {
        lines += usize::from(!line.is_empty() && !is_candidate(line));
        m_lines += usize::from(line.starts_with("m="));
    }
    if lines > LINES + offered * LINES_PER_M_LINE {
        Err(SdpRefusal::TooManyLines)
    } else if m_lines != offered {
        Err(SdpRefusal::MLines)
    } else {
        Ok(())
    }
}

/// Adds simulcast layers to the m-lines `mids` of an offer, where they are missing.
///
/// Observed behavior of browsers:
/// - Chromium 156 accepts the layers if this offer creates the m-line's transceiver and `replaceTrack` attaches the
///   track after `setRemoteDescription`. A track that the page added by `addTrack` before is not sent at all: Chromium
///   creates a new transceiver for an m-line with layers. A keyframe request for one layer makes a keyframe of each.
///   Requests within 300 ms after another, for any layer, are dropped.
/// - Firefox 153 accepts them in both cases, and also while it has no track. It reports as sent on the smallest layer up
///   to ten times the bytes of its pictures: the rest is padding.
/// - Both stop encoding a layer that `setParameters` makes inactive, and restart it with a keyframe.
pub fn with_simulcast(offer: &str, mids: &[Mid]) -> String {
    let mut result = String::with_capacity(offer.len() + 100 * mids.len());
    for section in sections(offer) {
        result.push_str(section);
        let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:"));
        let is_asked = mids.iter().any(|asked| mid == Some(asked)) && !section.contains("\na=simulcast:");
        if is_asked {
            for rid in RIDS {
                result.push_str(&format!("a=rid:{rid} recv\r\n"));
            }
            result.push_str(&format!("a=simulcast:recv {}\r\n", RIDS.join(";")));
        }
    }
    result
}

/// Copies the candidates of an offer's first m-line to every m-line. When an offer adds a transport, some clients read
/// the candidates of another m-line than the first of the BUNDLE group: aiortc with `max-bundle` reads those of the
/// last.
pub fn with_repeated_candidates(offer: &str) -> String {
    let candidates: String = offer.split_inclusive('\n').filter(|line| is_candidate(line)).collect();
    let mut result = String::with_capacity(offer.len() + candidates.len() * offer.matches("\nm=").count());
    for section in sections(offer) {
        result.push_str(section);
        if section.starts_with("m=") && !section.lines().any(is_candidate) {
            result.push_str(&candidates);
        }
    }
    result
}

/// Moves redundant audio (RFC 2198) behind the codec, except on m-lines on which only the client sends. A receiving
/// client may use the first payload type only (GStreamer's webrtcbin) and would play nothing. For a sending client it
/// stays first: libwebrtc sends redundancy only if it precedes the codec.
pub fn with_codec_before_redundancy(offer: &str) -> String {
    let mut result = String::with_capacity(offer.len());
    for section in sections(offer) {
        let (line, attributes) = section.split_once("\r\n").unwrap_or((section, ""));
        let red = attributes.lines().find_map(|line| {
            let (payload_type, map) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
            map.starts_with("red/").then_some(payload_type)
        });
        let is_sent_by_client = attributes.lines().any(|line| line == "a=recvonly");
        let Some(red) = red.filter(|_| line.starts_with("m=audio ") && !is_sent_by_client) else {
            result.push_str(section);
            continue;
        };
        // The first three fields are the kind, port and protocol.
        let rest = line.split(' ').enumerate().filter(|(field, value)| *field < 3 || *value != red);
        rest.for_each(|(_, value)| {
            result.push_str(value);
            result.push(' ');
        });
        result.push_str(red);
        result.push_str("\r\n");
        result.push_str(attributes);
    }
    result
}

/// URI of the extension with the transport-wide sequence number.
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// The URI under which str0m negotiates it, so that str0m does not read it itself. See `media::publish::arrivals`.
pub const UNREAD_TRANSPORT_CC: &str = "unread:transport-wide-cc";

/// Replaces the URI that str0m negotiates in an offer by the standard one.
pub fn with_standard_transport_cc(sdp: &str) -> String {
    sdp.replace(UNREAD_TRANSPORT_CC, TRANSPORT_CC)
}

/// Replaces the standard URI in an answer by the one that str0m negotiates.
pub fn with_unread_transport_cc(sdp: &str) -> String {
    sdp.replace(TRANSPORT_CC, UNREAD_TRANSPORT_CC)
}

fn is_candidate(line: &str) -> bool {
    line.starts_with("a=candidate:")
}

/// Splits SDP into the session part and one part for each m-line.
pub fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    let starts = sdp.match_indices("\nm=").map(|(at, _)| at + 1);
    let mut begin = 0;
    starts.chain([sdp.len()]).map(move |end| &sdp[std::mem::replace(&mut begin, end)..end])
}

/// Size limit in bytes of a WebSocket message with an answer to `offered` m-lines, JSON escapes included.
pub fn message_limit(offered: usize) -> usize {
    (64 * 1024).max(BYTES + offered * BYTES_PER_M_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulcast_is_added_where_it_is_missing() {
        let line = |mid: &str| format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\n");
        let layers = "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n";
        let offer = format!("v=0\r\n{}{}{}{layers}", line("a"), line("ab"), line("c"));
        let expected = format!("v=0\r\n{}{}{layers}{}{layers}", line("a"), line("ab"), line("c"));
        assert_eq!(with_simulcast(&offer, &[Mid::from("ab"), Mid::from("c")]), expected);
        assert_eq!(with_simulcast(&expected, &[Mid::from("ab"), Mid::from("c")]), expected);
    }

    #[test]
    fn candidates_are_repeated_in_every_m_line() {
        let candidates = "a=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\na=candidate:2 1 udp 1 192.0.2.8 9 typ host\r\n";
        let line = |mid: &str| format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\n");
        let offer = format!("v=0\r\n{}{candidates}{}{}", line("a"), line("b"), line("c"));
        let expected = format!("v=0\r\n{}{candidates}{}{candidates}{}{candidates}", line("a"), line("b"), line("c"));
        assert_eq!(with_repeated_candidates(&offer), expected);
        assert_eq!(with_repeated_candidates(&expected), expected);
    }

    #[test]
    fn limits_depend_on_the_offer() {
        let m = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
        let candidate = "a=candidate:0123456789abcdef0123456789abcdef 1 udp 2130706431 192.0.2.1 49152 typ host\r\n";
        let section = format!("{m}{}", candidate.repeat(40));
        for (sdp, offered, expected) in [
            (m.repeat(2), 2, Ok(())),
            (m.to_owned(), 2, Err(SdpRefusal::MLines)),
            (m.repeat(3), 2, Err(SdpRefusal::MLines)),
            ("a=x\n".repeat(LINES + 1), 0, Err(SdpRefusal::TooManyLines)),
            // As many candidates as 40 interfaces have, for any number of m-lines.
            (section.clone(), 1, Ok(())),
            (section.repeat(200), 200, Ok(())),
            ("x".repeat(23_000), 1, Err(SdpRefusal::TooLong)),
        ] {
            assert_eq!(check_answer(&sdp, offered), expected);
        }
    }

    #[test]
    fn redundancy_follows_the_codec_where_the_client_receives() {
        let section = |kind: &str, types: &str, direction: &str| {
            format!(
                "m={kind} 9 UDP/TLS/RTP/SAVPF {types}\r\na={direction}\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n"
            )
        };
        for (kind, types, direction, expected) in [
            ("audio", "63 111", "sendonly", "111 63"),
            ("audio", "63 111", "inactive", "111 63"),
            ("audio", "63 111", "recvonly", "63 111"),
            ("audio", "63 9 111", "sendonly", "9 111 63"),
            ("video", "63 96", "sendonly", "63 96"),
        ] {
            let head = "v=0\r\ns=-\r\n";
            let offer = [head, &section(kind, types, direction), &section("video", "96", "sendonly")].concat();
            let other = [head, &section(kind, expected, direction), &section("video", "96", "sendonly")].concat();
            assert_eq!(with_codec_before_redundancy(&offer), other);
        }
        assert_eq!(with_codec_before_redundancy("m=audio 9 RTP/SAVPF 111"), "m=audio 9 RTP/SAVPF 111");
    }
}
