//! SRTP for one peer, in addition to str0m's: seals forwarded packets and opens the feedback on them.
//!
//! str0m copies, queues and records each packet that it sends; this module seals a packet in its send buffer. Both use
//! the same session keys (RFC 5764 section 4.2), so they must not share an SSRC: sealing two packets with the same
//! nonce would reveal GCM's authentication key (RFC 7714 section 8.1). This module seals the SSRCs of the m-lines on
//! which the server sends and of its sender reports; str0m uses none of them (see `Peer`).
//!
//! The caller chooses sequence numbers but is not trusted with them: a window for each SSRC remembers the sealed ones,
//! and sealing one of them again panics.

mod cipher;
mod window;

use aws_lc_rs::aead::Aad;
use aws_lc_rs::hmac;
use rustc_hash::FxHashMap;
use str0m::crypto::dtls::SrtpProfile;

use self::cipher::{Cipher, CmSha1, RTCP_LABELS, RTP_LABELS, apply_cm, gcm_nonce};
use self::window::{Freshness, Window};

/// Upper bound of the bytes that sealing adds to an RTP packet: the tag of AES-GCM (RFC 7714 section 14.2).
pub const SRTP_OVERHEAD: usize = 16;

// Bytes of the tag of AES-GCM, and of the truncated HMAC-SHA1 (RFC 3711 section 8.2).
const GCM_TAG: usize = 16;
const HMAC_TAG: usize = 10;

/// Unencrypted bytes of an SRTCP packet: its header and the sender's SSRC.
const RTCP_CLEAR: usize = 8;

/// Index of the first SRTCP packet. str0m counts its own from 0, so no index is used twice even if both had the same
/// SSRC.
const FIRST_RTCP_INDEX: u32 = 1 << 30;

/// Maximum number of the peer's RTCP senders with replay protection; above it, the oldest is forgotten. Chromium has
/// one for each source, Firefox one for each m-line.
const MAX_REMOTE_SENDERS: usize = 128;

/// Maximum number of SSRCs sealed with one peer's keys.
pub const MAX_SSRCS: usize = 10_000;

/// The E flag before the SRTCP index, set in encrypted packets (RFC 3711 section 3.4).
const ENCRYPTED: u32 = 1 << 31;

/// The keying material that a DTLS handshake exported for SRTP.
pub struct Exported {
    /// The negotiated profile.
    pub profile: SrtpProfile,
    /// Client's key, server's key, client's salt, server's salt.
    pub material: Vec<u8>,
    /// Whether the server was the DTLS client.
    pub is_client: bool,
}

/// The keys for outgoing packets and for incoming feedback.
pub struct Srtp {
    rtp: Cipher,
    /// The sealed sequence numbers of each SSRC, for the life of the keys.
    sealed: Vec<(u32, Window)>,
    /// Index in `sealed` of each SSRC.
    indices: FxHashMap<u32, u32>,
    /// Index in `sealed` of the last SSRC: consecutive packets often share it.
    last: usize,
    rtcp: Cipher,
    /// Index of the next SRTCP packet to send.
    rtcp_index: u32,
    remote_rtp: Cipher,
    remote_rtcp: Cipher,
    /// Highest SRTCP index of each of the peer's RTCP senders.
    remote_indices: Vec<([u8; 4], u32)>,
}

impl Srtp {
    /// Upper bound of the heap memory of one `Srtp`.
    pub const MAX_BYTES: usize = 2 * MAX_SSRCS * size_of::<(u32, Window)>()
        + (MAX_SSRCS * 8 / 7).next_power_of_two() * (size_of::<(u32, u32)>() + 1);

    /// Derives the session keys. Returns `None` for a profile that str0m does not offer.
    pub fn new(exported: &Exported) -> Option<Self> {
        let (key_len, salt_len) = match exported.profile {
            SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
            SrtpProfile::AEAD_AES_128_GCM => (16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            _ => return None,
        };
        let keys = exported.material.get(..2 * key_len)?;
        let salts = exported.material.get(2 * key_len..2 * (key_len + salt_len))?;
        let master = |of_client: bool| {
            let side = usize::from(!of_client);
            (&keys[side * key_len..][..key_len], &salts[side * salt_len..][..salt_len])
        };
        let cipher = |(key, salt), labels| Cipher::derive(exported.profile, key, salt, labels);
        Some(Self {
            rtp: cipher(master(exported.is_client), &RTP_LABELS),
            sealed: Vec::new(),
            indices: FxHashMap::default(),
            last: 0,
            rtcp: cipher(master(exported.is_client), &RTCP_LABELS),
            rtcp_index: FIRST_RTCP_INDEX,
            remote_rtp: cipher(master(!exported.is_client), &RTP_LABELS),
            remote_rtcp: cipher(master(!exported.is_client), &RTCP_LABELS),
            remote_indices: Vec::new(),
        })
    }

    /// Seals the RTP packet from `start` to the end of the buffer. `header` is the length of its header with
    /// extensions, `seq_no` its extended sequence number. Returns false if `seq_no` is below the window and may have
    /// been sealed before; then the packet must not be sent.
    ///
    /// # Panics
    /// Panics if `seq_no` was sealed before with this SSRC. The packet stays unsealed, and `fault::guarded` ends the
    /// peer.
    #[must_use]
    pub fn seal_rtp(&mut self, buffer: &mut Vec<u8>, start: usize, header: usize, seq_no: u64) -> bool {
        let ssrc = u32::from_be_bytes(ssrc_at(&buffer[start..], 8));
        let freshness = match self.sealed.get_mut(self.last) {
            Some((last, window)) if *last == ssrc => window.insert(seq_no),
            _ => self.window(ssrc).insert(seq_no),
        };
        match freshness {
            Freshness::Fresh => self.seal_any_rtp(buffer, start, header, seq_no),
            Freshness::Unknown => return false,
            Freshness::Sealed => panic!("SSRC {ssrc} seals packet {seq_no} twice"),
        }
        true
    }

    /// Returns the window of an SSRC, and makes it the last.
    fn window(&mut self, ssrc: u32) -> &mut Window {
        self.last = match self.indices.get(&ssrc) {
            Some(index) => *index as usize,
            None => {
                let index = self.sealed.len();
                self.indices.insert(ssrc, index as u32);
                self.sealed.push((ssrc, Window::default()));
                index
            }
        };
        &mut self.sealed[self.last].1
    }

    /// Like `seal_rtp` for any sequence number, for tests of attacks. The server never calls it.
    #[inline]
    pub fn seal_any_rtp(&self, buffer: &mut Vec<u8>, start: usize, header: usize, seq_no: u64) {
        let (head, body) = buffer[start..].split_at_mut(header);
        let ssrc = ssrc_at(head, 8);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let mut tail = [0; 6];
                tail.copy_from_slice(&seq_no.to_be_bytes()[2..]);
                let nonce = gcm_nonce(salt, ssrc, tail);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&*head), body);
                buffer.extend_from_slice(tag.expect("a packet is shorter than the limit of GCM").as_ref());
            }
            Cipher::CmSha1(keys) => {
                let CmSha1 { key, auth, salt } = &**keys;
                apply_cm(key, salt, ssrc, seq_no, body);
                let mut context = hmac::Context::with_key(auth);
                context.update(&buffer[start..]);
                context.update(&((seq_no >> 16) as u32).to_be_bytes());
                buffer.extend_from_slice(&context.sign().as_ref()[..HMAC_TAG]);
            }
        }
    }

    /// Seals the compound RTCP packet from `start` to the end of the buffer.
    pub fn seal_rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) {
        let index = self.rtcp_index;
        self.rtcp_index = (index + 1) & !ENCRYPTED;
        let trailer = (ENCRYPTED | index).to_be_bytes();
        let (head, body) = buffer[start..].split_at_mut(RTCP_CLEAR);
        let ssrc = ssrc_at(head, 4);
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, rtcp_tail(index));
                let aad = rtcp_aad(head, trailer);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body);
                buffer.extend_from_slice(tag.expect("a packet is shorter than the limit of GCM").as_ref());
                buffer.extend_from_slice(&trailer);
            }
            Cipher::CmSha1(keys) => {
                let CmSha1 { key, auth, salt } = &**keys;
                apply_cm(key, salt, ssrc, u64::from(index), body);
                buffer.extend_from_slice(&trailer);
                let tag = hmac::sign(auth, &buffer[start..]);
                buffer.extend_from_slice(&tag.as_ref()[..HMAC_TAG]);
            }
        }
    }

    /// Whether an SRTP packet of the peer is authentic with this rollover counter, which is 0 for the first packet of
    /// an SSRC. Costs a decryption and an allocation.
    pub fn is_authentic(&self, packet: &[u8], rollover: u32) -> bool {
        self.try_open(packet, rollover.to_be_bytes()).is_some()
    }

    fn try_open(&self, packet: &[u8], [a, b, c, d]: [u8; 4]) -> Option<()> {
        let header = header_len(packet)?;
        let (head, ssrc) = (packet.get(..header)?, ssrc_at(packet, 8));
        match &self.remote_rtp {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, [a, b, c, d, packet[2], packet[3]]);
                key.open_in_place(nonce, Aad::from(head), &mut packet[header..].to_vec()).ok()?;
            }
            Cipher::CmSha1(keys) => {
                let (signed, tag) = packet.split_last_chunk::<HMAC_TAG>()?;
                let mut context = hmac::Context::with_key(&keys.auth);
                context.update(signed);
                context.update(&[a, b, c, d]);
                let expected = context.sign();
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..HMAC_TAG], tag).ok()?;
            }
        }
        Some(())
    }

    /// Decrypts an SRTCP packet of the peer into `plain`. Returns `None` if it is not authentic, or not newer than the
    /// last of the same sender: it is reordered or replayed, and useless as feedback.
    pub fn open_rtcp(&mut self, packet: &[u8], plain: &mut Vec<u8>) -> Option<()> {
        let index = self.try_open_rtcp(packet, plain)?;
        let ssrc = ssrc_at(packet, 4);
        if let Some((_, highest)) = self.remote_indices.iter_mut().find(|(of, _)| *of == ssrc) {
            return (index > *highest).then(|| *highest = index);
        }
        if self.remote_indices.len() >= MAX_REMOTE_SENDERS {
            self.remote_indices.remove(0);
        }
        self.remote_indices.push((ssrc, index));
        Some(())
    }

    /// Decrypts an SRTCP packet into `plain`, and returns its index if it is authentic.
    fn try_open_rtcp(&self, packet: &[u8], plain: &mut Vec<u8>) -> Option<u32> {
        plain.clear();
        let head = packet.get(..RTCP_CLEAR)?;
        plain.extend_from_slice(head);
        let ssrc = ssrc_at(head, 4);
        let index = match &self.remote_rtcp {
            Cipher::Gcm { key, salt } => {
                let (sealed, trailer) = packet.split_last_chunk::<4>()?;
                let index = u32::from_be_bytes(*trailer);
                let nonce = gcm_nonce(salt, ssrc, rtcp_tail(index & !ENCRYPTED));
                if index & ENCRYPTED == 0 {
                    // Authenticated only (RFC 7714 section 9.3), which no browser sends.
                    return None;
                }
                let aad = rtcp_aad(head, *trailer);
                plain.extend_from_slice(sealed.get(RTCP_CLEAR..)?);
                let length = plain.len().checked_sub(GCM_TAG)?;
                key.open_in_place(nonce, Aad::from(aad), &mut plain[RTCP_CLEAR..]).ok()?;
                plain.truncate(length);
                index & !ENCRYPTED
            }
            Cipher::CmSha1(keys) => {
                let CmSha1 { key, auth, salt } = &**keys;
                let (signed, tag) = packet.split_last_chunk::<HMAC_TAG>()?;
                let (sealed, trailer) = signed.split_last_chunk::<4>()?;
                let index = u32::from_be_bytes(*trailer);
                let expected = hmac::sign(auth, signed);
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..HMAC_TAG], tag).ok()?;
                if index & ENCRYPTED == 0 {
                    return None;
                }
                plain.extend_from_slice(sealed.get(RTCP_CLEAR..)?);
                apply_cm(key, salt, ssrc, u64::from(index & !ENCRYPTED), &mut plain[RTCP_CLEAR..]);
                index & !ENCRYPTED
            }
        };
        Some(index)
    }
}

/// Length of an RTP header with CSRCs and extensions (RFC 3550 section 5.1); it may exceed the packet.
fn header_len(packet: &[u8]) -> Option<usize> {
    let first = packet.first()?;
    let fixed = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 == 0 {
        return Some(fixed);
    }
    let words = packet.get(fixed + 2..fixed + 4)?;
    Some(fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]])))
}

fn ssrc_at(packet: &[u8], at: usize) -> [u8; 4] {
    packet[at..at + 4].try_into().expect("4 bytes")
}

fn rtcp_tail(index: u32) -> [u8; 6] {
    let [a, b, c, d] = index.to_be_bytes();
    [0, 0, a, b, c, d]
}

fn rtcp_aad(head: &[u8], trailer: [u8; 4]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..RTCP_CLEAR].copy_from_slice(head);
    aad[RTCP_CLEAR..].copy_from_slice(&trailer);
    aad
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
    use aws_lc_rs::cipher::{AES_128, EncryptingKey, UnboundCipherKey};

    use super::cipher::keystream;
    use super::*;
    use crate::media::rtp::packet::{HAS_EXTENSIONS, write_header};
    use crate::media::rtp::rtcp;

    fn bytes(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(hex.replace([' ', '\n'], "").as_bytes()).unwrap()
    }

    fn exported(profile: SrtpProfile, is_client: bool) -> Exported {
        Exported { profile, material: (0..88).collect(), is_client }
    }

    const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

    #[test]
    fn keys_are_derived_as_in_rfc_3711_appendix_b_3() {
        let (key, salt) = (bytes("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes("0EC675AD498AFEEBB6960B3AABE6"));
        let Cipher::CmSha1(keys) = Cipher::derive(SrtpProfile::AES128_CM_SHA1_80, &key, &salt, &RTP_LABELS) else {
            panic!("expected counter mode");
        };
        let CmSha1 { key, auth, salt } = *keys;
        assert_eq!(salt[..], bytes("30CBBC08863D8C85D49DB34A9AE1"));
        let expected = UnboundCipherKey::new(&AES_128, &bytes("C61E7A93744F39EE10734AFE3FF7A087")).unwrap();
        let expected = EncryptingKey::ctr(expected).unwrap();
        let (mut one, mut other) = ([0; 40], [0; 40]);
        keystream(&key, [3; 16], &mut one);
        keystream(&expected, [3; 16], &mut other);
        assert_eq!(one, other);
        let auth_key = bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4");
        let expected = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth_key);
        assert_eq!(hmac::sign(&auth, b"x").as_ref(), hmac::sign(&expected, b"x").as_ref());
    }

    #[test]
    fn gcm_seals_as_in_rfc_7714_section_16() {
        let key = bytes("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
        let salt = bytes("517569642070726f2071756f").try_into().unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        let (mut srtp, _) = pair(SrtpProfile::AEAD_AES_256_GCM);
        srtp.rtp = Cipher::Gcm { key, salt };
        let mut packet = bytes(
            "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573",
        );
        assert!(srtp.seal_rtp(&mut packet, 0, 12, 0xf17b));
        let sealed = bytes(
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        );
        assert_eq!(packet, sealed);
    }

    fn pair(profile: SrtpProfile) -> (Srtp, Srtp) {
        (Srtp::new(&exported(profile, false)).unwrap(), Srtp::new(&exported(profile, true)).unwrap())
    }

    #[test]
    fn only_unmodified_feedback_can_be_opened() {
        for profile in PROFILES {
            let (mut ours, mut theirs) = pair(profile);
            for length in [8, 12, 28, 200] {
                let report: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
                let mut sealed = vec![0xaa; 3];
                sealed.extend_from_slice(&report);
                ours.seal_rtcp(&mut sealed, 3);
                let mut plain = Vec::new();
                assert!(theirs.open_rtcp(&sealed[3..], &mut plain).is_some(), "{profile:?} {length}");
                assert_eq!(plain, report);
                assert!(theirs.open_rtcp(&sealed[3..], &mut plain).is_none(), "a replay");
                assert!(ours.open_rtcp(&sealed[3..], &mut plain).is_none(), "the other direction has different keys");
                for at in 3..sealed.len() {
                    let mut changed = sealed.clone();
                    changed[at] ^= 1;
                    assert!(theirs.try_open_rtcp(&changed[3..], &mut plain).is_none(), "{profile:?} {length} {at}");
                    assert!(theirs.try_open_rtcp(&sealed[3..at], &mut plain).is_none(), "{profile:?} {length} {at}");
                }
            }
            assert_eq!(ours.rtcp_index, FIRST_RTCP_INDEX + 4, "each packet has its own index");
        }
    }

    /// Firefox has an RTCP sender for each m-line: 40 of them must not evict each other.
    #[test]
    fn replays_of_each_of_many_senders_are_refused() {
        let (mut ours, mut theirs) = pair(SrtpProfile::AEAD_AES_128_GCM);
        let sealed = (0..40).map(|sender| {
            let mut packet = Vec::new();
            rtcp::write_head(sender, &mut packet);
            ours.seal_rtcp(&mut packet, 0);
            packet
        });
        let (sealed, mut plain) = (sealed.collect::<Vec<_>>(), Vec::new());
        assert!(sealed.iter().all(|packet| theirs.open_rtcp(packet, &mut plain).is_some()));
        assert!(sealed.iter().all(|packet| theirs.open_rtcp(packet, &mut plain).is_none()), "replays");
    }

    #[test]
    fn a_packet_is_authentic_with_its_own_rollover_counter_only() {
        for profile in PROFILES {
            let (mut ours, theirs) = pair(profile);
            // A plain header, one with two CSRCs, and one with a header extension.
            for (flags, rest) in
                [(0, &[][..]), (2, &[9; 8]), (HAS_EXTENSIONS, &[0xbe, 0xde, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0])]
            {
                let length = 12 + rest.len();
                let mut of = |seq_no: u64, body: usize| {
                    let mut packet = Vec::new();
                    write_header(flags, 0, seq_no, 0, 0x0102_0300 | length as u32, &mut packet);
                    packet.extend(rest);
                    packet.extend((0..body).map(|byte| byte as u8));
                    assert!(ours.seal_rtp(&mut packet, 0, length, seq_no));
                    packet
                };
                for (sealed, rollover) in [(of(7, 100), 0), (of(65_535, 0), 0), (of(0x1_0203_0007, 9), 0x1_0203)] {
                    assert!(theirs.is_authentic(&sealed, rollover), "{profile:?} {length}");
                    for at in 0..sealed.len() {
                        let mut changed = sealed.clone();
                        changed[at] ^= 1;
                        assert!(!theirs.is_authentic(&changed, rollover), "{profile:?} {length} {at}");
                        assert!(!theirs.is_authentic(&sealed[..at], rollover), "{profile:?} {length} {at}");
                    }
                }
                let second = of(0x1_0203_0008, 10);
                for rollover in [0, 0x1_0202, 0x1_0204] {
                    assert!(!theirs.is_authentic(&second, rollover), "the rollover counter is 0x1_0203");
                }
            }
        }
    }

    #[test]
    fn alternating_ssrcs_have_separate_windows() {
        let (mut srtp, _) = pair(SrtpProfile::AEAD_AES_128_GCM);
        let mut seal = |ssrc: u32, seq_no| {
            let mut packet = Vec::new();
            write_header(0, 96, seq_no, 0, ssrc, &mut packet);
            srtp.seal_rtp(&mut packet, 0, 12, seq_no)
        };
        for seq_no in 0..300 {
            assert!([0, 1, 2].into_iter().all(|ssrc| seal(ssrc, 1_000 + seq_no)), "{seq_no}");
        }
        for ssrc in [1, 0, 2] {
            assert!(!seal(ssrc, 1_100), "below the window");
            let twice = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seal(ssrc, 1_290)));
            assert!(twice.is_err(), "{ssrc}");
        }
    }
}
