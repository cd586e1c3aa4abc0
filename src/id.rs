//! An id names one thing for its whole life and is never reused.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Bytes of the identity that a token may give somebody. Rooms keep those of people who were removed.
pub const IDENTITY_BYTES: usize = 256;

/// One TCP connection; chosen by the loop, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One participant's WebRTC endpoint and membership: a slot and the generation of its use, so that an id kept
/// too long finds nothing instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    /// Index into the dense table of peers.
    pub slot: u32,
    /// How often the slot was taken before.
    pub generation: u32,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// The source of every name and secret that leaves the server, from one seed: the operating system's in
/// production, a committed constant in a simulation.
pub struct Names {
    rng: StdRng,
}

impl Names {
    /// Starts from 32 bytes that nobody else knows.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { rng: StdRng::from_seed(seed) }
    }

    /// `length` characters of `a-z0-9`, about 5.1 bits each. 22 make a secret of more than 110 bits, 8 a name.
    pub fn token(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| ALPHABET[self.rng.random_range(0..ALPHABET.len())] as char).collect()
    }

    /// A random number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(0..limit)
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }
}
