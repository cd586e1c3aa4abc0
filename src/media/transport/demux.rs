//! Finds the peer of a datagram by its source address, or by the ufrag in its STUN username.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use str0m::ice::StunMessage;

use crate::id::PeerId;

/// Two maps to peers: from validated source addresses and from the ufrags of the server's offers.
#[derive(Default)]
pub struct Demux {
    by_address: FxHashMap<SocketAddr, PeerId>,
    by_ufrag: FxHashMap<String, PeerId>,
}

/// The protocol of a datagram on the media port (RFC 7983, RFC 5761 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// STUN.
    Stun,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// DTLS, or a protocol that is not used here.
    Dtls,
}

/// The result of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub enum Match {
    /// The source address is validated for this peer.
    Known(PeerId),
    /// A STUN request whose username names this peer, from an address not validated for it. The check has to be
    /// authenticated first.
    Claimed(PeerId),
    /// No peer.
    Unknown,
}

impl Protocol {
    /// Returns the protocol of a datagram, which its first two bytes show. An empty one counts as STUN, whose parser
    /// rejects it.
    pub fn of(datagram: &[u8]) -> Self {
        match datagram {
            [] | [0..=3, ..] => Self::Stun,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, ..] => Self::Rtp,
            _ => Self::Dtls,
        }
    }
}

impl Demux {
    /// Assigns `ufrag` to `peer`.
    pub fn insert_ufrag(&mut self, ufrag: &str, peer: PeerId) {
        self.by_ufrag.insert(ufrag.to_owned(), peer);
    }

    /// Assigns a validated source address to `peer`. Returns the peer to which it was assigned before.
    pub fn insert_address(&mut self, source: SocketAddr, peer: PeerId) -> Option<PeerId> {
        self.by_address.insert(source, peer)
    }

    /// Removes an address if it is still assigned to `peer`.
    pub fn remove_address(&mut self, source: SocketAddr, peer: PeerId) {
        if self.by_address.get(&source) == Some(&peer) {
            self.by_address.remove(&source);
        }
    }

    /// Removes a ufrag.
    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.by_ufrag.remove(ufrag);
    }

    /// Finds the peer of a datagram with one look-up. Only STUN is parsed, since its source may be new, or reused by
    /// another peer behind the same NAT.
    pub fn find(&self, source: SocketAddr, contents: &[u8]) -> Match {
        let known = self.by_address.get(&source).copied();
        if Protocol::of(contents) != Protocol::Stun {
            return known.map_or(Match::Unknown, Match::Known);
        }
        let Ok(message) = StunMessage::parse(contents) else {
            return Match::Unknown;
        };
        let named = message.split_username().and_then(|(local, _)| self.by_ufrag.get(local).copied());
        match (known, named) {
            (Some(known), Some(named)) if known == named => Match::Known(known),
            (_, Some(named)) => Match::Claimed(named),
            // An ICE-lite server sends no requests, so it expects no responses.
            (_, None) => Match::Unknown,
        }
    }

    /// The peer that validated an address last.
    pub fn holder(&self, source: SocketAddr) -> Option<PeerId> {
        self.by_address.get(&source).copied()
    }

    /// Sizes of both maps, for statistics and leak tests.
    pub fn len(&self) -> (usize, usize) {
        (self.by_address.len(), self.by_ufrag.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;

    fn peer(slot: u32) -> PeerId {
        PeerId { slot, generation: 0 }
    }

    #[test]
    fn the_first_two_bytes_show_the_protocol() {
        for (datagram, expected) in [
            (&[0, 1][..], Protocol::Stun),
            (&[3], Protocol::Stun),
            (&[4, 0], Protocol::Dtls),
            (&[22, 254], Protocol::Dtls),
            (&[127, 200], Protocol::Dtls),
            (&[128, 96], Protocol::Rtp),
            (&[191], Protocol::Rtp),
            (&[128, 191], Protocol::Rtp),
            (&[128, 192], Protocol::Rtcp),
            (&[191, 223], Protocol::Rtcp),
            (&[128, 224], Protocol::Rtp),
            (&[192, 200], Protocol::Dtls),
            (&[], Protocol::Stun),
        ] {
            assert_eq!(Protocol::of(datagram), expected, "{datagram:?}");
        }
    }

    #[test]
    fn media_is_found_by_address_alone() {
        let mut demux = Demux::default();
        let ann = "192.0.2.1:5000".parse().unwrap();
        let bob = "192.0.2.1:5001".parse().unwrap();
        demux.insert_address(ann, peer(1));
        assert_eq!(demux.find(ann, &[0x80, 111, 0, 0]), Match::Known(peer(1)));
        assert_eq!(demux.find(bob, &[0x80, 111, 0, 0]), Match::Unknown);
        // The later peer of an address keeps it when the earlier one leaves.
        demux.insert_address(ann, peer(2));
        demux.remove_address(ann, peer(1));
        assert_eq!(demux.find(ann, &[22]), Match::Known(peer(2)));
        demux.remove_address(ann, peer(2));
        assert_eq!(demux.find(ann, &[22]), Match::Unknown);
    }

    #[test]
    fn malformed_datagrams_belong_to_no_peer() {
        let mut demux = Demux::default();
        let ann = "192.0.2.1:5000".parse().unwrap();
        demux.insert_address(ann, peer(1));
        for contents in [&[][..], &[0], &[0; 20], &[1; 64]] {
            assert_eq!(demux.find(ann, contents), Match::Unknown, "{contents:?}");
        }
    }

    /// A check for the peer with `ufrag`, with zero priority and integrity (RFC 8445 section 7.1.1).
    fn request(ufrag: &str) -> Vec<u8> {
        let name = format!("{ufrag}:us");
        let padded = name.len().next_multiple_of(4);
        let mut request = vec![0, 1, 0, (4 + padded + 8 + 24) as u8, 0x21, 0x12, 0xa4, 0x42];
        request.extend([7; 12]);
        request.extend([0, 6, 0, name.len() as u8]);
        request.extend(name.bytes());
        request.resize(20 + 4 + padded, 0);
        request.extend([0, 0x24, 0, 4, 0, 0, 0, 0]);
        request.extend([0, 8, 0, 20]);
        request.extend([0; 20]);
        request
    }

    proptest! {
        #![proptest_config(inputs(256))]

        /// After any insertions and removals, look-ups return the last assigned peers.
        #[test]
        fn any_datagram_belongs_to_the_peer_of_its_address_or_ufrag(steps in vec((0..4_u8, 0..4_u8, 0..4_u32), 0..60)) {
            let mut demux = Demux::default();
            let (mut addresses, mut ufrags) = (BTreeMap::new(), BTreeMap::new());
            let address = |index: u8| SocketAddr::from(([192, 0, 2, 1], 5_000 + u16::from(index)));
            let ufrag = |index: u8| format!("ufrag{index}");
            for (step, index, slot) in steps {
                match step {
                    0 => {
                        demux.insert_address(address(index), peer(slot));
                        addresses.insert(index, peer(slot));
                    }
                    1 => {
                        demux.remove_address(address(index), peer(slot));
                        if addresses.get(&index) == Some(&peer(slot)) {
                            addresses.remove(&index);
                        }
                    }
                    2 => {
                        demux.insert_ufrag(&ufrag(index), peer(slot));
                        ufrags.insert(index, peer(slot));
                    }
                    _ => {
                        demux.remove_ufrag(&ufrag(index));
                        ufrags.remove(&index);
                    }
                }
                prop_assert_eq!(demux.len(), (addresses.len(), ufrags.len()));
                for from in 0..4 {
                    let known = addresses.get(&from).copied();
                    prop_assert_eq!(demux.holder(address(from)), known);
                    prop_assert_eq!(demux.find(address(from), &[0x80, 111]), known.map_or(Match::Unknown, Match::Known));
                    for of in 0..4 {
                        let expected = match ufrags.get(&of) {
                            Some(named) if known == Some(*named) => Match::Known(*named),
                            Some(named) => Match::Claimed(*named),
                            None => Match::Unknown,
                        };
                        prop_assert_eq!(demux.find(address(from), &request(&ufrag(of))), expected);
                    }
                }
            }
        }
    }
}
