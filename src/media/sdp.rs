//! SDP as text: what is added to an offer, and the bounds of an answer.

use str0m::media::Mid;

/// The simulcast layers that are asked for, the smallest first (RFC 8851, RFC 8853): a quarter, half and all of the
/// picture's width and height.
pub const RIDS: [&str; 3] = ["q", "h", "f"];

/// CR, LF, or both end a line of an answer; empty lines do not count.
pub const LINE_ENDS: [char; 2] = ['\r', '\n'];

/// Lines of an answer beside its m-lines, and lines for each m-line that was offered.
const LINES: usize = 200;
const LINES_PER_M_LINE: usize = 60;

/// Bytes of an answer beside its m-lines, and for each m-line that was offered: 2 KiB for what the m-line needs, and
/// 4 KiB for candidates. Clients without trickle repeat all of theirs in every m-line, and a machine with many
/// interfaces has forty, of 90 bytes each.
const BYTES: usize = 16 * 1024;
const BYTES_PER_M_LINE: usize = 6 * 1024;

/// Why an answer is refused unparsed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum SdpRefusal {
    /// More bytes than an answer to that offer can need.
    TooLong,
    /// More lines than an answer to that offer can need.
    TooManyLines,
    /// Another number of m-lines than was offered.
    MLines,
}

/// Checks the text of an answer to an offer of `offered` m-lines; linear in the bytes it reads, and reads no
/// more than an honest answer has. The number of candidates is bounded by their bytes alone: they are never
/// parsed.
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

/// The offer that asks for simulcast layers on the lines of `mids`, where it does not yet.
///
/// What browsers make of it, found by trying:
/// - Chromium 156 takes the layers if the line's transceiver was made by this offer and its track is attached after
///   `setRemoteDescription`, by `replaceTrack`. A track of a page that called `addTrack` before is not sent at all:
///   Chromium gives a line with layers a transceiver of its own. A request for a keyframe of one layer makes one of
///   each, and requests within 300 ms after another, of whatever layer, are dropped.
/// - Firefox 153 takes them in both ways, and answers with them already while it has no track. It counts as sent of the
///   smallest layer up to ten times what its pictures need: the rest is padding.
/// - Both stop encoding a layer that `setParameters` makes inactive, and begin it again with a keyframe.
pub fn with_simulcast(offer: &str, mids: &[Mid]) -> String {
    let mut asking = String::with_capacity(offer.len() + 100 * mids.len());
    for section in sections(offer) {
        asking.push_str(section);
        let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:"));
        let is_asked = mids.iter().any(|asked| mid == Some(asked)) && !section.contains("\na=simulcast:");
        if is_asked {
            for rid in RIDS {
                asking.push_str(&format!("a=rid:{rid} recv\r\n"));
            }
            asking.push_str(&format!("a=simulcast:recv {}\r\n", RIDS.join(";")));
        }
    }
    asking
}

/// The offer with the candidates of its first m-line in every m-line. Some clients read those of another m-line than the
/// first of the BUNDLE group, in an offer that adds a transport: aiortc with `max-bundle` reads those of the last.
pub fn with_repeated_candidates(offer: &str) -> String {
    let candidates: String = offer.split_inclusive('\n').filter(|line| is_candidate(line)).collect();
    let mut repeating = String::with_capacity(offer.len() + candidates.len() * offer.matches("\nm=").count());
    for section in sections(offer) {
        repeating.push_str(section);
        if section.starts_with("m=") && !section.lines().any(is_candidate) {
            repeating.push_str(&candidates);
        }
    }
    repeating
}

/// The offer with redundant audio (RFC 2198) behind the codec on all m-lines but those that the client alone sends on. A
/// client may take the first payload type only (webrtcbin of GStreamer), and would hear nothing. Where the client sends,
/// redundancy stays in front: libwebrtc sends it if it comes before the codec.
pub fn with_codec_before_redundancy(offer: &str) -> String {
    let mut reordered = String::with_capacity(offer.len());
    for section in sections(offer) {
        let (line, attributes) = section.split_once("\r\n").unwrap_or((section, ""));
        let red = attributes.lines().find_map(|line| {
            let (payload_type, map) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
            map.starts_with("red/").then_some(payload_type)
        });
        let is_sent_by_client = attributes.lines().any(|line| line == "a=recvonly");
        let Some(red) = red.filter(|_| line.starts_with("m=audio ") && !is_sent_by_client) else {
            reordered.push_str(section);
            continue;
        };
        // Kind, port and protocol come before the payload types.
        let rest = line.split(' ').enumerate().filter(|(field, value)| *field < 3 || *value != red);
        rest.for_each(|(_, value)| {
            reordered.push_str(value);
            reordered.push(' ');
        });
        reordered.push_str(red);
        reordered.push_str("\r\n");
        reordered.push_str(attributes);
    }
    reordered
}

/// The element with the transport-wide number of a packet, as SDP calls it.
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// The same for str0m, which would read it under its own name. See `bandwidth::arrivals`.
pub const UNREAD_TRANSPORT_CC: &str = "unread:transport-wide-cc";

/// An offer of str0m's with the name of what it does not read.
pub fn named(sdp: &str) -> String {
    sdp.replace(UNREAD_TRANSPORT_CC, TRANSPORT_CC)
}

/// An answer for str0m, which is not to read that.
pub fn unnamed(sdp: &str) -> String {
    sdp.replace(TRANSPORT_CC, UNREAD_TRANSPORT_CC)
}

fn is_candidate(line: &str) -> bool {
    line.starts_with("a=candidate:")
}

/// The part before the first m-line, then each m-line with what belongs to it.
pub fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    let starts = sdp.match_indices("\nm=").map(|(at, _)| at + 1);
    let mut begin = 0;
    starts.chain([sdp.len()]).map(move |end| &sdp[std::mem::replace(&mut begin, end)..end])
}

/// The largest WebSocket message that an honest answer to `offered` m-lines makes, JSON escapes included.
pub fn message_limit(offered: usize) -> usize {
    (64 * 1024).max(BYTES + offered * BYTES_PER_M_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_asked_for_where_they_are_not_yet() {
        let line = |mid: &str| format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\n");
        let asking = "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n";
        let offer = format!("v=0\r\n{}{}{}{asking}", line("a"), line("ab"), line("c"));
        let expected = format!("v=0\r\n{}{}{asking}{}{asking}", line("a"), line("ab"), line("c"));
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
    fn bounds_follow_the_offer() {
        let m = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
        let candidate = "a=candidate:0123456789abcdef0123456789abcdef 1 udp 2130706431 192.0.2.1 49152 typ host\r\n";
        let repeating = format!("{m}{}", candidate.repeat(40));
        for (sdp, offered, expected) in [
            (m.repeat(2), 2, Ok(())),
            (m.to_owned(), 2, Err(SdpRefusal::MLines)),
            (m.repeat(3), 2, Err(SdpRefusal::MLines)),
            ("a=x\n".repeat(LINES + 1), 0, Err(SdpRefusal::TooManyLines)),
            // As many candidates as forty interfaces have, whatever the number of m-lines.
            (repeating.clone(), 1, Ok(())),
            (repeating.repeat(200), 200, Ok(())),
            ("x".repeat(23_000), 1, Err(SdpRefusal::TooLong)),
        ] {
            assert_eq!(check_answer(&sdp, offered), expected);
        }
    }

    #[test]
    fn redundancy_comes_behind_the_codec_where_the_client_receives() {
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
