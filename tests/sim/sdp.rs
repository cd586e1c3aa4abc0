//! Reads and edits the few parts of an SDP that a page uses.

/// One m-line.
#[derive(Clone, Debug)]
pub struct Line {
    pub mid: String,
    /// `audio` or `video`.
    pub kind: String,
    pub direction: &'static str,
    /// Port 0: an answer rejected the m-line permanently.
    pub is_rejected: bool,
    /// In order of appearance: for video the media SSRC, then its RTX SSRC.
    pub ssrcs: Vec<u32>,
    pub stream_id: Option<String>,
    /// The requested simulcast layers, in order (RFC 8853 section 5.1).
    pub rids: Vec<String>,
}

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

/// The m-lines of an SDP.
pub fn lines(sdp: &str) -> Vec<Line> {
    sections(sdp).iter().skip(1).map(|section| parse_line(section)).collect()
}

/// Edits the m-lines of an SDP one by one; `None` omits an m-line.
pub fn edit(sdp: &str, mut change: impl FnMut(&Line, &str) -> Option<String>) -> String {
    let sections = sections(sdp);
    let (session, media) = sections.split_first().expect("an SDP has a session part");
    let mut edited = session.clone();
    for section in media {
        edited.extend(change(&parse_line(section), section));
    }
    edited
}

/// The m-line with another direction.
pub fn with_direction(section: &str, direction: &str) -> String {
    let old = direction_of(section);
    section.replace(&format!("a={old}\r\n"), &format!("a={direction}\r\n"))
}

/// The payload types of an m-line.
pub fn payload_types(section: &str) -> Vec<String> {
    let line = section.lines().next().unwrap_or_default();
    line.split_whitespace().skip(3).map(str::to_owned).collect()
}

/// The m-line with a single payload type.
pub fn with_payload_type(section: &str, only: &str) -> String {
    let fields: Vec<&str> = section.split_whitespace().take(3).chain([only]).collect();
    let is_of_another = |line: &&str| {
        let of = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|name| line.strip_prefix(name));
        of.is_some_and(|of| of.split_whitespace().next() != Some(only))
    };
    let rest = section.lines().skip(1).filter(|line| !is_of_another(line));
    std::iter::once(&*fields.join(" ")).chain(rest).map(|line| format!("{line}\r\n")).collect()
}

/// Rejects m-lines: sets port 0 (RFC 8829 section 5.3.1) and removes them from the BUNDLE group.
pub fn with_rejected(sdp: &str, is_rejected: impl Fn(&Line) -> bool) -> String {
    let mut mids = Vec::new();
    let sdp = edit(sdp, |line, section| {
        if !is_rejected(line) {
            return Some(section.to_owned());
        }
        mids.push(line.mid.clone());
        let mut fields = section.splitn(3, ' ');
        let (kind, _, rest) = (fields.next()?, fields.next()?, fields.next()?);
        Some(format!("{kind} 0 {rest}"))
    });
    let lines = sdp.lines().map(|line| match line.starts_with("a=group:BUNDLE") {
        true => {
            line.split(' ').filter(|mid| !mids.iter().any(|rejected| rejected == mid)).collect::<Vec<_>>().join(" ")
        }
        false => line.to_owned(),
    });
    lines.map(|line| line + "\r\n").collect()
}

/// The values of an attribute, at session and media level.
pub fn values<'a>(sdp: &'a str, attribute: &str) -> Vec<&'a str> {
    let prefix = format!("a={attribute}:");
    sdp.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).collect()
}

fn sections(sdp: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        let section = sections.last_mut().expect("there is a session section");
        section.push_str(line);
        section.push_str("\r\n");
    }
    sections
}

fn parse_line(section: &str) -> Line {
    let group = values(section, "ssrc-group");
    let mut ssrcs: Vec<u32> = match group.first().and_then(|group| group.strip_prefix("FID ")) {
        Some(pair) => pair.split(' ').map(|ssrc| ssrc.parse().expect("an SSRC is a number")).collect(),
        None => Vec::new(),
    };
    for value in values(section, "ssrc") {
        let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok()).expect("an SSRC is a number");
        if !ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
    }
    let msid = values(section, "msid");
    let simulcast = values(section, "simulcast");
    let asked = simulcast.first().and_then(|value| value.strip_prefix("recv ")).unwrap_or_default();
    Line {
        mid: values(section, "mid").first().expect("every m-line has a mid").to_string(),
        kind: section[2..].split(' ').next().expect("an m-line has a kind").to_owned(),
        direction: direction_of(section),
        is_rejected: section.split(' ').nth(1) == Some("0"),
        ssrcs,
        stream_id: msid.first().and_then(|msid| msid.split(' ').next()).map(str::to_owned),
        rids: asked.split(';').filter(|rid| !rid.is_empty()).map(str::to_owned).collect(),
    }
}

fn direction_of(section: &str) -> &'static str {
    let is_direction = |direction: &&&str| section.lines().any(|line| line.strip_prefix("a=") == Some(direction));
    DIRECTIONS.iter().find(is_direction).expect("every m-line has a direction")
}
