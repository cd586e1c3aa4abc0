//! Ids and random names. An id names one thing for its whole life and is never reused.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use str0m::media::Mid;

/// Maximum bytes of the identity in a token. Rooms keep the identities of removed participants.
pub const IDENTITY_BYTES: usize = 256;

/// Characters of participant ids.
pub const ID_CHARS: usize = 10;
/// Characters of `resume` secrets.
pub const RESUME_CHARS: usize = 26;

/// One TCP connection. The event loop assigns it, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One participant with its WebRTC endpoint: a slot and its generation. An id kept after the participant has left
/// therefore matches nothing, rather than the next participant in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    /// Index into the table of participants.
    pub slot: u32,
    /// How many participants used the slot before.
    pub generation: u32,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// One published stream: its publisher and the publisher's mid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId {
    /// The publishing peer.
    pub publisher: PeerId,
    /// The mid of the publisher's m-line.
    pub mid: Mid,
}

/// The generator of all random names and secrets, from one seed: system entropy in production, a committed constant in
/// simulation.
pub struct Names {
    rng: StdRng,
}

impl Names {
    /// Seeds the generator. In production the seed has to be secret.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { rng: StdRng::from_seed(seed) }
    }

    /// Returns `length` characters of `a-z0-9`, 5.17 bits each. A secret takes 22 (113 bits), a name 8.
    pub fn token(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| ALPHABET[self.rng.random_range(0..ALPHABET.len())] as char).collect()
    }

    /// Returns a random number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(0..limit)
    }

    /// Returns 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }
}
