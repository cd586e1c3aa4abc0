//! A tap on the server's datagrams, before any network: what was sealed, in which order, and from where.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::network::rtp_header;

/// How long a check is consent to more than answers (RFC 7675 section 5.1).
const CONSENT: Duration = Duration::from_secs(15);

/// Everything that the server sent to one address.
#[derive(Default)]
pub struct Tap {
    /// By the receiving browser's number and SSRC.
    pub sealed: BTreeMap<(u32, u32), Sealed>,
    /// Pairs of remote and local address that were used towards the server.
    asked: BTreeSet<(SocketAddr, SocketAddr)>,
    /// The checks that browsers made, by hash, and whose.
    checks: BTreeMap<u64, usize>,
    /// By remote address.
    remotes: BTreeMap<SocketAddr, Remote>,
}

/// What passed between the server and one address.
#[derive(Default)]
struct Remote {
    bytes_in: usize,
    bytes_out: usize,
    /// The server has answered a check that came from there, which it does only where the check shows the password.
    is_validated: bool,
    /// When the last check came from there.
    checked: Option<Instant>,
    /// Who made checks that came from there.
    makers: BTreeSet<usize>,
}

/// The packets of one outgoing SSRC.
#[derive(Default)]
pub struct Sealed {
    /// Extended sequence number of the first and the highest packet.
    pub first: u64,
    pub last: u64,
    pub bytes: usize,
    /// By extended sequence number; a hash of the whole encrypted packet.
    packets: BTreeMap<u64, u64>,
}

impl Sealed {
    /// Numbers between first and last that were never sent.
    pub fn missing(&self) -> u64 {
        self.last - self.first + 1 - self.packets.len() as u64
    }
}

impl Tap {
    /// The browser with this number sends a check, which has the right password.
    pub fn handle_check(&mut self, tag: usize, contents: &[u8]) {
        self.checks.insert(hash(contents), tag);
    }

    /// Addresses from which a check came that one of these browsers had made.
    pub fn checked(&self, is_meant: impl Fn(usize) -> bool) -> usize {
        self.remotes.values().filter(|remote| remote.makers.iter().any(|tag| is_meant(*tag))).count()
    }

    /// A datagram reached the server.
    pub fn handle_ingress(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, contents: &[u8]) {
        let remote = self.remotes.entry(source).or_default();
        remote.bytes_in += contents.len();
        if is_stun(contents) {
            remote.checked = Some(now);
            remote.makers.extend(self.checks.get(&hash(contents)));
        }
        self.asked.insert((source, destination));
    }

    /// The server sends a datagram to the browser with this number.
    pub fn handle_egress(
        &mut self,
        now: Instant,
        tag: u32,
        source: SocketAddr,
        destination: SocketAddr,
        contents: &[u8],
    ) {
        assert!(self.asked.contains(&(destination, source)), "{source} answers {destination}, which never wrote to it");
        assert!(contents.len() <= 1_472, "a datagram of {} bytes is fragmented", contents.len());
        let remote = self.remotes.entry(destination).or_default();
        if !remote.is_validated {
            // RFC 8489 section 5: a success response of the method Binding.
            assert!(contents.starts_with(&[1, 1]), "no answer to a check for {destination}, which never passed one");
            remote.bytes_out += contents.len();
            let (bytes_in, bytes_out) = (remote.bytes_in, remote.bytes_out);
            assert!(bytes_out <= bytes_in, "{bytes_out} bytes for {bytes_in} of {destination}");
            remote.is_validated = true;
        }
        let has_consent = remote.checked.is_some_and(|checked| now <= checked + CONSENT);
        assert!(has_consent || is_stun(contents), "{destination} gets what it has shown no consent for lately");
        let Some((ssrc, seq_no)) = rtp_header(contents) else {
            return;
        };
        let sealed = self.sealed.entry((tag, ssrc)).or_default();
        if sealed.packets.is_empty() {
            assert!(seq_no < 1 << 15, "SSRC {ssrc} starts at {seq_no}: its rollover counter is not signaled");
            (sealed.first, sealed.last) = (u64::from(seq_no), u64::from(seq_no));
        }
        let ahead = seq_no.wrapping_sub(sealed.last as u16) as i16;
        let extended = sealed.last.checked_add_signed(i64::from(ahead)).expect("before the beginning of the stream");
        assert!(extended >= sealed.first, "SSRC {ssrc} went back before its first packet");
        sealed.last = sealed.last.max(extended);
        sealed.bytes += contents.len();
        let before = sealed.packets.insert(extended, hash(contents));
        // RFC 7714 section 8.2: an index that is used for two packets gives the key away.
        assert!(before.is_none_or(|before| before == hash(contents)), "SSRC {ssrc}: {extended} was sealed twice");
    }
}

/// RFC 7983: the first byte of STUN is 0 to 3.
fn is_stun(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| *first <= 3)
}

fn hash(contents: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}
