//! A tap on the server's datagrams before the network: which packets it encrypted, in which order, and from which
//! address it sent them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::network::rtp_header;

/// How long a connectivity check is valid as consent to anything but responses (RFC 7675 section 5.1).
const CONSENT: Duration = Duration::from_secs(15);

/// The datagrams that the server sent and received.
#[derive(Default)]
pub struct Tap {
    /// By the tag of the receiving browser and the SSRC.
    pub sealed: BTreeMap<(u32, u32), Sealed>,
    /// Pairs of remote and local address on which the server has received something.
    asked: BTreeSet<(SocketAddr, SocketAddr)>,
    /// The hash of each connectivity check that browsers made, with the browser's tag.
    checks: BTreeMap<u64, usize>,
    /// By remote address.
    remotes: BTreeMap<SocketAddr, Remote>,
}

/// The datagrams between the server and one remote address.
#[derive(Default)]
struct Remote {
    bytes_in: usize,
    bytes_out: usize,
    /// The server has answered a check from this address, which it does only if the check proves knowledge of the
    /// password.
    is_validated: bool,
    /// When the last check arrived from this address.
    checked: Option<Instant>,
    /// The browsers that made the checks that arrived from this address.
    makers: BTreeSet<usize>,
}

/// The packets of one outgoing SSRC.
#[derive(Default)]
pub struct Sealed {
    /// Extended sequence number of the first and the highest packet.
    pub first: u64,
    pub last: u64,
    pub bytes: usize,
    /// A hash of each encrypted packet, by extended sequence number.
    packets: BTreeMap<u64, u64>,
}

impl Sealed {
    /// Sequence numbers between the first and the last that were never sent.
    pub fn missing(&self) -> u64 {
        self.last - self.first + 1 - self.packets.len() as u64
    }
}

impl Tap {
    /// Records a check with the right password that browser `tag` sends.
    pub fn handle_check(&mut self, tag: usize, contents: &[u8]) {
        self.checks.insert(hash(contents), tag);
    }

    /// Number of addresses from which a check arrived that a browser accepted by `is_meant` had made.
    pub fn checked(&self, is_meant: impl Fn(usize) -> bool) -> usize {
        self.remotes.values().filter(|remote| remote.makers.iter().any(|tag| is_meant(*tag))).count()
    }

    /// Records a datagram that reaches the server.
    pub fn handle_ingress(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, contents: &[u8]) {
        let remote = self.remotes.entry(source).or_default();
        remote.bytes_in += contents.len();
        if is_stun(contents) {
            remote.checked = Some(now);
            remote.makers.extend(self.checks.get(&hash(contents)));
        }
        self.asked.insert((source, destination));
    }

    /// Checks a datagram that the server sends to browser `tag`.
    pub fn handle_egress(
        &mut self,
        now: Instant,
        tag: u32,
        source: SocketAddr,
        destination: SocketAddr,
        contents: &[u8],
    ) {
        assert!(self.asked.contains(&(destination, source)), "{source} sends to {destination}, which never sent to it");
        assert!(contents.len() <= 1_472, "a datagram of {} bytes would be fragmented", contents.len());
        let remote = self.remotes.entry(destination).or_default();
        if !remote.is_validated {
            // A success response to a Binding request (RFC 8489 section 5).
            assert!(contents.starts_with(&[1, 1]), "sent media to {destination}, which never sent a valid check");
            remote.bytes_out += contents.len();
            let (bytes_in, bytes_out) = (remote.bytes_in, remote.bytes_out);
            assert!(
                bytes_out <= bytes_in,
                "{bytes_out} bytes sent to unvalidated {destination} for {bytes_in} received"
            );
            remote.is_validated = true;
        }
        let has_consent = remote.checked.is_some_and(|checked| now <= checked + CONSENT);
        assert!(has_consent || is_stun(contents), "sent media to {destination} without recent consent");
        let Some((ssrc, seq_no)) = rtp_header(contents) else {
            return;
        };
        let sealed = self.sealed.entry((tag, ssrc)).or_default();
        if sealed.packets.is_empty() {
            assert!(seq_no < 1 << 15, "SSRC {ssrc} starts at {seq_no}: its rollover counter is not signaled");
            (sealed.first, sealed.last) = (u64::from(seq_no), u64::from(seq_no));
        }
        let ahead = seq_no.wrapping_sub(sealed.last as u16) as i16;
        let extended =
            sealed.last.checked_add_signed(i64::from(ahead)).expect("the sequence number does not precede the stream");
        assert!(extended >= sealed.first, "SSRC {ssrc} went back before its first packet");
        sealed.last = sealed.last.max(extended);
        sealed.bytes += contents.len();
        let before = sealed.packets.insert(extended, hash(contents));
        // Two packets with one index would reveal the authentication key (RFC 7714 section 8.2).
        assert!(
            before.is_none_or(|before| before == hash(contents)),
            "SSRC {ssrc}: {extended} was used for two packets"
        );
    }
}

/// Whether the datagram is STUN: its first byte is 0 to 3 (RFC 7983).
fn is_stun(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| *first <= 3)
}

fn hash(contents: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}
