//! One microphone: whether its packets are speech, by level or by size.

use std::time::{Duration, Instant};

use crate::id::PeerId;

/// Decibels by which speech stands out from noise. Less takes noise for speech, more clips quiet voices.
const ABOVE_NOISE: f32 = 9.0;

/// Lowest level of speech, in decibels above -127 dBov, the lowest level that can be signaled.
const QUIETEST: f32 = 50.0;

/// Rise of the noise estimate in decibels per second: a new steady noise, such as a fan, is learned after some seconds.
/// In the pauses of speech the estimate falls quickly.
const NOISE_RISE: f32 = 2.0;

/// Upper bound of the noise estimate after the first packet, in the same unit: a participant who joins while speaking
/// has to be recognised.
const FIRST_NOISE: f32 = 70.0;

/// Duration of a packet, and the time constant of the share of speech. Longer is steadier and later.
const PACKET: Duration = Duration::from_millis(20);
const MEMORY: Duration = Duration::from_millis(250);

/// Shares of speech: above `BEGINS` a participant speaks, which a cough does not reach; below `STOPS` it has stopped.
pub(super) const BEGINS: f32 = 0.5;
pub(super) const STOPS: f32 = 0.2;

/// Decibels that a doubling of the packet size counts as. More takes the variation of steady noise for speech, less
/// misses quiet speech.
const DOUBLING: f32 = 12.0;

/// Largest Opus packet that means silence under discontinuous transmission, in bytes (RFC 6716 section 2.1.9).
const SILENT_BYTES: usize = 3;

/// Ratio of the largest to the smallest recent packet from which sizes carry information, and the part of their
/// difference that each packet removes (most of it within ten seconds). A client that changes its constant bitrate is
/// misjudged for that long.
const VARIATION: f32 = 1.6;
const FORGETTING: f32 = 0.002;

/// One microphone.
#[derive(Debug)]
pub(super) struct Speaker {
    pub peer: PeerId,
    is_new: bool,
    /// Estimated noise, in decibels above -127 dBov.
    noise: f32,
    pub loudness: f32,
    /// Share of speech, averaged over `MEMORY`.
    pub speech: f32,
    heard_at: Instant,
    /// When the share of speech was last at least `STOPS`.
    pub spoke_at: Option<Instant>,
    /// Start of the current uninterrupted speech.
    pub speaking_since: Option<Instant>,
    /// When the microphone became audible; `None` if it is not.
    pub audible_since: Option<Instant>,
    /// Packets were withheld since the last one that was forwarded.
    pub has_withheld: bool,
    /// Number of the current stretch of forwarded packets.
    pub epoch: u32,
    /// The client sends levels.
    pub has_levels: bool,
    /// Smallest and largest recent packet in bytes, for a client without levels.
    sizes: Option<(f32, f32)>,
}

impl Speaker {
    /// Creates the state of a microphone whose first packet has arrived.
    pub fn new(now: Instant, peer: PeerId) -> Self {
        Self {
            peer,
            is_new: true,
            noise: FIRST_NOISE,
            loudness: 0.0,
            speech: 0.0,
            heard_at: now,
            spoke_at: None,
            speaking_since: None,
            audible_since: None,
            has_withheld: false,
            epoch: 0,
            has_levels: false,
            sizes: None,
        }
    }

    /// Takes the size of a packet. Returns true if it is speech.
    pub fn handle_size(&mut self, now: Instant, bytes: usize) -> bool {
        if self.has_levels {
            // A single packet without the level extension.
            return false;
        }
        let size = bytes.max(1) as f32;
        let (smallest, largest) = self.sizes.unwrap_or((size, size));
        let smallest = size.min(smallest + (size - smallest) * FORGETTING);
        let largest = size.max(largest + (size - largest) * FORGETTING);
        self.sizes = Some((smallest, largest));
        let level = if bytes <= SILENT_BYTES { 0.0 } else { DOUBLING * size.log2() };
        if std::mem::take(&mut self.is_new) {
            // The first size says nothing about speech: take it as noise.
            self.noise = level;
        }
        self.handle_level(now, 127 - level.clamp(0.0, 127.0) as u8)
    }

    /// Returns true if neither levels nor sizes tell when the participant speaks.
    pub fn is_unknown(&self) -> bool {
        !self.has_levels && self.sizes.is_none_or(|(smallest, largest)| largest < smallest * VARIATION)
    }

    /// Takes a level. Returns true if it is speech.
    pub fn handle_level(&mut self, now: Instant, level: u8) -> bool {
        let level = f32::from(127 - level.min(127));
        if self.is_new {
            self.is_new = false;
            self.noise = level.min(FIRST_NOISE);
        } else if level < self.noise {
            self.noise += (level - self.noise) * 0.3;
        } else {
            self.noise += NOISE_RISE * PACKET.as_secs_f32();
        }
        let is_speech = level > QUIETEST.max(self.noise + ABOVE_NOISE);
        let before = self.speech_at(now);
        let weight = 1.0 - (-PACKET.as_secs_f32() / MEMORY.as_secs_f32()).exp();
        self.speech = before + (if is_speech { 1.0 } else { 0.0 } - before) * weight;
        if is_speech {
            self.loudness += (level - self.loudness) * weight;
        }
        self.heard_at = now;
        if self.speech < STOPS {
            self.speaking_since = None;
        } else {
            self.spoke_at = Some(now);
            if self.speech > BEGINS {
                self.speaking_since.get_or_insert(now);
            }
        }
        is_speech
    }

    /// Returns the share of speech at `now`. Missing packets count as silence (discontinuous transmission).
    pub fn speech_at(&self, now: Instant) -> f32 {
        let silent = now.saturating_duration_since(self.heard_at).saturating_sub(PACKET);
        self.speech * (-silent.as_secs_f32() / MEMORY.as_secs_f32()).exp()
    }
}
