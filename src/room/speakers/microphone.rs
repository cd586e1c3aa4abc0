//! Speech detection for one microphone, from the audio level in each of its packets (RFC 6464).
//!
//! A packet is speech if its level stands out from the microphone's own noise. What counts is the share of speech in
//! the last moments, not the loudness of one packet, so neither a cough nor a breath between two words changes the
//! speaker (the idea of Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing", 2012).
//!
//! Clients that send no levels are judged by the size of their packets. Opus with a variable bitrate spends two to four
//! times as many bytes on speech as on noise, and with discontinuous transmission almost none on silence. Each doubling
//! of the size therefore counts as `DOUBLING` decibels, and the rest is the same. A constant packet size carries no
//! information: such a microphone is unknown.

use std::time::{Duration, Instant};

/// Decibels by which speech stands out from noise. Less takes noise for speech, more misses quiet voices.
const ABOVE_NOISE: f32 = 9.0;

/// Lowest level of speech, in decibels above -127 dBov, the lowest level that can be signaled.
const QUIETEST: f32 = 50.0;

/// Rise of the noise estimate in decibels per second: a new steady noise, such as a fan, is learned after some seconds.
/// In the pauses of speech the estimate falls quickly.
const NOISE_RISE: f32 = 2.0;

/// Upper bound of the noise estimate after the first packet, in the same unit: the speech of a participant who joins
/// while speaking must still stand out.
const FIRST_NOISE: f32 = 70.0;

/// Duration of a packet, and the time constant of the share of speech. A longer constant is steadier, and detects
/// speech later.
const PACKET: Duration = Duration::from_millis(20);
const MEMORY: Duration = Duration::from_millis(250);

/// Share of speech above which a participant speaks. A cough does not reach it.
pub const BEGINS: f32 = 0.5;

/// Share of speech below which a participant has stopped.
pub const STOPS: f32 = 0.2;

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

/// The speech of one microphone.
#[derive(Debug)]
pub struct Microphone {
    is_new: bool,
    /// Estimated noise, in decibels above -127 dBov.
    noise: f32,
    loudness: f32,
    /// Share of speech, averaged over `MEMORY`.
    speech: f32,
    heard_at: Instant,
    /// When the share of speech was last at least `STOPS`.
    spoke_at: Option<Instant>,
    /// Start of the current uninterrupted speech.
    speaking_since: Option<Instant>,
    /// Whether the client sends levels.
    has_levels: bool,
    /// Smallest and largest recent packet in bytes, for a client without levels.
    sizes: Option<(f32, f32)>,
}

impl Microphone {
    /// Creates a microphone that has not been heard.
    pub fn new(now: Instant) -> Self {
        Self {
            is_new: true,
            noise: FIRST_NOISE,
            loudness: 0.0,
            speech: 0.0,
            heard_at: now,
            spoke_at: None,
            speaking_since: None,
            has_levels: false,
            sizes: None,
        }
    }

    /// Takes the level of a packet, in decibels below 0 dBov (0 to 127). Returns true if the packet is speech.
    pub fn handle_level(&mut self, now: Instant, level: u8) -> bool {
        self.has_levels = true;
        self.take_level(now, level)
    }

    /// Takes the size of a packet in bytes. Returns true if the packet is speech.
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
        self.take_level(now, 127 - level.clamp(0.0, 127.0) as u8)
    }

    /// Returns true if neither levels nor sizes show when the participant speaks.
    pub fn is_unknown(&self) -> bool {
        !self.has_levels && self.sizes.is_none_or(|(smallest, largest)| largest < smallest * VARIATION)
    }

    fn take_level(&mut self, now: Instant, level: u8) -> bool {
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

    /// Returns the share of speech after the last packet.
    pub fn speech(&self) -> f32 {
        self.speech
    }

    /// Returns the loudness of the speech, in decibels above -127 dBov.
    pub fn loudness(&self) -> f32 {
        self.loudness
    }

    /// Returns when the share of speech was last at least `STOPS`.
    pub fn spoke_at(&self) -> Option<Instant> {
        self.spoke_at
    }

    /// Returns the start of the current uninterrupted speech.
    pub fn speaking_since(&self) -> Option<Instant> {
        self.speaking_since
    }
}
