//! Reduces SDP answers as clients write them to the lines that the server uses, in the form that str0m's parser
//! accepts.
//!
//! RFC 8866 allows much in an answer that is not used here: other line types, unknown and repeated attributes, omitted
//! defaults, session attributes that apply to the m-lines, line ends without CR. str0m's parser rejects most of it. The
//! reduced answer has one line for each used value. Everything else is not parsed.
//!
//! Answers that RFC 8829 allows but this server does not support are refused with the reason: see [`AnswerRefusal`].

pub mod refusal;
mod section;
mod transport;

use data_encoding::BASE64;
use str0m::media::Mid;

use self::refusal::{ALL_REJECTED, AnswerRefusal, ICE_LITE, NO_BUNDLE, NO_DTLS};
use self::section::{push, read};
use self::transport::Transport;
use crate::media::negotiation::assignment::MAX_SENDING_M_LINES;
use crate::media::negotiation::attributes::{flag, of_payload_type, value, values};
use crate::media::negotiation::offered::Offered;
use crate::media::negotiation::sdp::{SdpRefusal, check_answer};
use crate::media::rtp::codec::parameter_sets::{MAX_BYTES, SETS};

/// Upper bound of the memory of one m-line's parameter sets, in bytes.
pub const PARAMETER_SETS_BYTES: usize = MAX_BYTES + 2 * SETS * size_of::<Vec<u8>>();

/// Size limit of a reduced answer in bytes: a fixed part and a part for each m-line. str0m's parser can take 300 ms for
/// a megabyte.
const BYTES: usize = 16 * 1024;
const BYTES_PER_M_LINE: usize = 2 * 1024;

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
        if is_active(offered) {
            section.write(kind, offered, &session, &mut reduced);
        } else {
            let mid = offered.mid;
            let text = format_args!("m={kind} 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\na=inactive\r\n");
            push(&mut reduced, text);
        }
    }
    if reduced.len() > BYTES + offered.len() * BYTES_PER_M_LINE {
        return Err(AnswerRefusal::Bounds(SdpRefusal::TooLong));
    }
    Ok(reduced)
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

/// Returns the m-lines on which the client accepts redundant audio (RFC 2198). str0m reports this only for all m-lines
/// together.
pub fn redundant(answer: &str, offered: &[Offered]) -> Vec<Mid> {
    let (_, sections) = read(answer).unwrap_or_default();
    let redundant = sections.iter().zip(offered).filter(|(section, offered)| {
        let is_red = |(_, map): &(u8, String)| map.starts_with("red/");
        offered.is_audio && section.codecs().iter().any(is_red)
    });
    redundant.map(|(_, offered)| offered.mid).collect()
}

#[cfg(test)]
mod tests;
