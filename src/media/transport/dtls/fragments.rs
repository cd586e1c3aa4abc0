//! The handshake fragments received from a peer so far, tracked to reject forged ones.

/// Content types of records (RFC 5246 section 6.2.1), and the size of their header in DTLS (RFC 6347 section 4.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const RECORD_HEADER: usize = 13;

/// Size of a handshake message header: type, length, message_seq, fragment offset and length (RFC 6347 section 4.2.2).
pub(super) const MESSAGE_HEADER: usize = 12;

/// Types of a client's unencrypted messages, by message_seq: ClientHello, Certificate, ClientKeyExchange and
/// CertificateVerify. The server requests a certificate, and no cookie.
const OF_CLIENT: [u8; 4] = [1, 11, 16, 15];

/// Types of a server's unencrypted messages: ServerHello, HelloVerifyRequest, NewSessionTicket, Certificate,
/// ServerKeyExchange, CertificateRequest, ServerHelloDone and CertificateStatus.
const OF_SERVER: [u8; 8] = [2, 3, 4, 11, 12, 13, 14, 22];

/// Types of the last unencrypted messages: CertificateVerify of a client, ServerHelloDone of a server.
const LAST: [u8; 2] = [15, 14];

/// Maximum number of fragments of one message: more than the largest certificate needs on a path with an MTU of 256
/// bytes. More lets a client use more memory.
const MAX_PARTS: usize = 16;

/// The fragments received of each handshake message, by message_seq. dimpl keeps unencrypted fragments and ignores
/// repeated ones, so a single forged fragment would keep the handshake from finishing.
///
/// Therefore dimpl gets only fragments that begin where an earlier one ends, and a ChangeCipherSpec only after all
/// messages. A peer retransmits what was dropped because it arrived out of order. A forged fragment that begins at such
/// an offset, or a forged complete message, still replaces the peer's if it arrives first: only the end of a handshake
/// authenticates its messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Fragments([Message; OF_SERVER.len()]);

#[derive(Clone, Debug, Default)]
struct Message {
    /// Offsets at which fragments may begin, besides 0.
    ends: Vec<u32>,
    is_whole: bool,
    /// Whether the only unencrypted record after it is a ChangeCipherSpec.
    is_last: bool,
}

impl Fragments {
    /// Returns the state after `datagram`, or `None` if dimpl must not get the datagram because a peer that follows the
    /// protocol would not send it. That includes unencrypted application data, which dimpl takes for authentic.
    pub fn with(&self, datagram: &[u8], from_client: bool) -> Option<Self> {
        let mut fragments = self.clone();
        let mut rest = datagram;
        while let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) {
            let length = u16::from_be_bytes([header[11], header[12]]);
            let fragment;
            (fragment, rest) = after.split_at_checked(length.into())?;
            let is_expected = match header[0] {
                _ if is_sealed(header) => true,
                CHANGE_CIPHER_SPEC => fragment == [1] && fragments.has_all(),
                ALERT => true,
                HANDSHAKE => fragments.insert(fragment, from_client),
                _ => false,
            };
            if !is_expected {
                return None;
            }
        }
        // dimpl discards a datagram that ends within a record.
        rest.is_empty().then_some(fragments)
    }

    /// Records the fragments of an unencrypted record. Returns false if it has anything but expected fragments.
    fn insert(&mut self, mut record: &[u8], from_client: bool) -> bool {
        loop {
            let Some((header, after)) = record.split_at_checked(MESSAGE_HEADER) else {
                return false;
            };
            let (kind, number) = (header[0], usize::from(u16::from_be_bytes([header[4], header[5]])));
            let is_expected =
                if from_client { OF_CLIENT.get(number) == Some(&kind) } else { OF_SERVER.contains(&kind) };
            let [length, offset, part] =
                [1, 6, 9].map(|at| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]));
            let Some(after) = after.get(part as usize..).filter(|_| is_expected) else {
                return false;
            };
            if !self.0.get_mut(number).is_some_and(|message| message.insert(kind, length, offset, part)) {
                return false;
            }
            if after.is_empty() {
                return true;
            }
            record = after;
        }
    }

    /// Returns true if all unencrypted messages of the peer have arrived.
    fn has_all(&self) -> bool {
        self.0.iter().take_while(|message| message.is_whole).any(|message| message.is_last)
    }
}

impl Message {
    fn insert(&mut self, kind: u8, length: u32, offset: u32, part: u32) -> bool {
        let end = offset + part;
        let begins = offset == 0 || self.ends.contains(&offset);
        if !begins || end > length || (part == 0 && length > 0) {
            return false;
        }
        if end == length {
            self.is_whole = true;
            self.is_last = LAST.contains(&kind);
        } else if !self.ends.contains(&end) {
            self.ends.push(end);
        }
        self.ends.len() <= MAX_PARTS
    }
}

/// Returns true if a record is encrypted: only epoch 0 has no keys.
fn is_sealed(header: &[u8]) -> bool {
    header[3..5] != [0, 0]
}

/// Returns the length in bytes of the unencrypted records at the start of a datagram of complete records.
pub(super) fn clear_length(datagram: &[u8]) -> usize {
    let mut clear = 0;
    while let Some(header) = datagram[clear..].first_chunk::<RECORD_HEADER>().filter(|header| !is_sealed(&header[..])) {
        clear += RECORD_HEADER + usize::from(u16::from_be_bytes([header[11], header[12]]));
    }
    clear
}
