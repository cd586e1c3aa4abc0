//! The speakers of a room, and the choice of the audible microphones, which are the only ones forwarded in a large
//! room.
//!
//! `microphone` detects speech in each microphone's packets. Where neither levels nor packet sizes show when a
//! participant speaks, the microphone is unknown. An unknown microphone is never reported as speaking. In a large room
//! it is audible while there are fewer audible microphones than allowed, or in place of a known one that has been
//! silent for `LONG_SILENCE`; any participant that speaks replaces it at once.

mod microphone;

use std::time::{Duration, Instant};

use self::microphone::{BEGINS, Microphone, STOPS};
use crate::id::PeerId;
use crate::limits::bucket::Bucket;

/// Share of speech of the current speaker below which another participant may become the speaker.
const YIELDS: f32 = 0.35;

/// How long a participant is still reported as speaking after its last speech. With a shorter time, the mark on the
/// page blinks in the gaps between words.
const HOLD: Duration = Duration::from_millis(500);

/// How much louder, in decibels, and for how long a participant has to speak over the speaker to become the speaker.
const LOUDER: f32 = 6.0;
const PATIENCE: Duration = Duration::from_secs(2);

/// Minimum time between two reports of the speakers.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// How long a microphone that has just become audible cannot be replaced by a louder one.
const IMMUNITY: Duration = Duration::from_secs(1);

/// Maximum number of seatings per second, and in a burst, that newly audible microphones cause. A seating is work for
/// all participants in the room; the burst is for participants that begin to speak at the same moment.
const SEATINGS: f64 = 50.0;
const SEATING_BURST: f64 = 10.0;

/// How long an audible microphone must have been silent to be replaced by an unknown one. With a shorter time, audible
/// microphones, and thus seats, change in every pause.
const LONG_SILENCE: Duration = Duration::from_secs(5);

/// The microphones of one room.
#[derive(Debug, Default)]
pub struct Speakers {
    speakers: Vec<Speaker>,
    /// The current speaker, or the last one while nobody speaks.
    dominant: Option<PeerId>,
    /// Whether only audible microphones are forwarded.
    is_limited: bool,
    reported: Vec<PeerId>,
    next_report: Option<Instant>,
    /// Participants that have been audible, the latest first. Muted ones stay.
    recently_audible: Vec<PeerId>,
    /// Whether a microphone has become audible that `poll_newly_audible` has not returned yet.
    has_newly_audible: bool,
    /// The limit of the seatings that newly audible microphones cause.
    seating_limit: Option<Bucket>,
}

#[derive(Debug)]
struct Speaker {
    peer: PeerId,
    microphone: Microphone,
    /// When the microphone became audible; `None` if it is not.
    audible_since: Option<Instant>,
    /// Whether packets were withheld since the last one that was forwarded.
    has_withheld: bool,
    /// Number of the current stretch of consecutive forwarded packets.
    epoch: u32,
}

impl Speakers {
    /// Upper bound of the memory per participant, in bytes.
    pub const BYTES_EACH: usize = 2 * (size_of::<Speaker>() + 2 * size_of::<PeerId>());

    /// Takes the level of a microphone packet, in decibels below 0 dBov (0 to 127). `max_audible` is the maximum number
    /// of audible microphones, `None` if all are forwarded. Returns `None` if the packet is not forwarded, else the
    /// number of its stretch of consecutive packets: the gap between two stretches is not packet loss.
    pub fn handle_level(&mut self, now: Instant, peer: PeerId, level: u8, max_audible: Option<usize>) -> Option<u32> {
        let index = self.index(now, peer);
        let is_speech = self.speakers[index].microphone.handle_level(now, level);
        self.admit(now, index, max_audible, is_speech)
    }

    /// Like `handle_level`, for a packet of a client without levels; `bytes` is the size of the payload.
    pub fn handle_size(&mut self, now: Instant, peer: PeerId, bytes: usize, max_audible: Option<usize>) -> Option<u32> {
        let index = self.index(now, peer);
        let is_speech = self.speakers[index].microphone.handle_size(now, bytes);
        self.admit(now, index, max_audible, is_speech)
    }

    fn index(&mut self, now: Instant, peer: PeerId) -> usize {
        self.speakers.iter().position(|speaker| speaker.peer == peer).unwrap_or_else(|| {
            self.speakers.push(Speaker {
                peer,
                microphone: Microphone::new(now),
                audible_since: None,
                has_withheld: false,
                epoch: 0,
            });
            self.speakers.len() - 1
        })
    }

    fn admit(&mut self, now: Instant, index: usize, max_audible: Option<usize>, is_speech: bool) -> Option<u32> {
        self.update_dominant(now, index);
        self.is_limited = max_audible.is_some();
        let is_heard = max_audible.is_none_or(|max_audible| self.make_audible(now, index, max_audible, is_speech));
        let speaker = &mut self.speakers[index];
        if !is_heard {
            speaker.has_withheld = true;
            return None;
        }
        speaker.epoch += u32::from(std::mem::take(&mut speaker.has_withheld));
        Some(speaker.epoch)
    }

    /// Removes a microphone that was muted or unpublished.
    pub fn remove(&mut self, peer: PeerId) {
        self.speakers.retain(|speaker| speaker.peer != peer);
        if self.dominant == Some(peer) {
            self.dominant = None;
        }
    }

    /// Removes a participant that left.
    pub fn forget(&mut self, peer: PeerId) {
        self.remove(peer);
        self.recently_audible.retain(|other| *other != peer);
    }

    /// Returns true if a microphone has become audible since this last returned true. Above the rate limit it returns
    /// false: call it again with the next packet of any participant.
    pub fn poll_newly_audible(&mut self, now: Instant) -> bool {
        let limit = self.seating_limit.get_or_insert_with(|| Bucket::new(now, SEATINGS, SEATING_BURST));
        self.has_newly_audible && limit.take(now) && std::mem::take(&mut self.has_newly_audible)
    }

    /// Updates the reported speakers, at most every `REPORT_INTERVAL`. Returns true if they changed.
    pub fn poll_change(&mut self, now: Instant) -> bool {
        if self.next_report.is_some_and(|next| now < next) {
            return false;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        let dominant = self.dominant;
        let mut speaking: Vec<&Speaker> = self
            .speakers
            .iter()
            .filter(|speaker| !self.is_limited || speaker.audible_since.is_some())
            .filter(|speaker| {
                let was_reported = self.reported.contains(&speaker.peer);
                let is_held = speaker.microphone.spoke_at().is_some_and(|spoke| now < spoke + HOLD);
                was_reported && is_held || speaker.microphone.speech_at(now) > BEGINS
            })
            .collect();
        speaking.sort_by(|a, b| {
            let rank = |speaker: &Speaker| (dominant != Some(speaker.peer), -speaker.microphone.loudness());
            rank(a).partial_cmp(&rank(b)).expect("levels are numbers").then(a.peer.cmp(&b.peer))
        });
        let mut changed = speaking.len() != self.reported.len();
        changed |= speaking.iter().any(|speaker| !self.reported.contains(&speaker.peer));
        // The order by loudness changes with every word: only a new first speaker is worth a message.
        changed |= speaking.first().map(|speaker| speaker.peer) != self.reported.first().copied();
        if changed {
            self.reported = speaking.into_iter().map(|speaker| speaker.peer).collect();
        }
        changed
    }

    /// Returns the speakers as last reported: the current speaker first, then by loudness.
    pub fn reported(&self) -> &[PeerId] {
        &self.reported
    }

    /// Returns the current speaker, or the last one while nobody speaks.
    pub fn dominant(&self) -> Option<PeerId> {
        self.dominant
    }

    /// Returns true if the participant's microphone is audible.
    pub fn is_audible(&self, peer: PeerId) -> bool {
        self.speakers.iter().any(|speaker| speaker.peer == peer && speaker.audible_since.is_some())
    }

    /// Returns the participants that have been audible, the latest first.
    pub fn recently_audible(&self) -> &[PeerId] {
        &self.recently_audible
    }

    /// Makes the participant whose packet has just arrived the current speaker, if the current one yields.
    fn update_dominant(&mut self, now: Instant, index: usize) {
        let Speaker { peer, microphone, .. } = &self.speakers[index];
        if microphone.speech() < BEGINS || self.dominant == Some(*peer) {
            return;
        }
        let current = self.speakers.iter().find(|speaker| self.dominant == Some(speaker.peer));
        let yields = current.is_none_or(|Speaker { microphone: current, .. }| {
            let has_persisted = microphone.speaking_since().is_some_and(|since| now >= since + PATIENCE);
            current.speech_at(now) < YIELDS || has_persisted && microphone.loudness() > current.loudness() + LOUDER
        });
        if yields {
            self.dominant = Some(*peer);
        }
    }

    /// Makes a microphone audible if its packet is speech, or if the microphone is unknown: as one of fewer than
    /// `max_audible`, or in place of a silent or quieter one. Returns true if it is audible.
    fn make_audible(&mut self, now: Instant, index: usize, max_audible: usize, is_speech: bool) -> bool {
        if self.speakers[index].audible_since.is_some() {
            return true;
        }
        let is_unknown = !is_speech && self.speakers[index].microphone.is_unknown();
        if !is_speech && !is_unknown {
            return false;
        }
        let audible: Vec<usize> =
            (0..self.speakers.len()).filter(|at| self.speakers[*at].audible_since.is_some()).collect();
        if audible.len() >= max_audible {
            let loudness = self.speakers[index].microphone.loudness();
            let is_replaceable = |at: &&usize| {
                let Speaker { microphone: other, audible_since, .. } = &self.speakers[**at];
                if is_unknown {
                    let spoke = other.spoke_at().or(*audible_since);
                    return !other.is_unknown() && spoke.is_none_or(|spoke| now >= spoke + LONG_SILENCE);
                }
                let is_immune = audible_since.is_some_and(|since| now < since + IMMUNITY);
                other.speech_at(now) < STOPS || !is_immune && loudness > other.loudness() + LOUDER
            };
            let rank = |at: &&usize| {
                let other = &self.speakers[**at].microphone;
                (other.speech_at(now), other.loudness())
            };
            let quietest = audible
                .iter()
                .filter(is_replaceable)
                .min_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("levels are numbers"))
                .copied();
            let Some(quietest) = quietest else {
                return false;
            };
            self.speakers[quietest].audible_since = None;
            self.note_audible(self.speakers[quietest].peer);
        }
        self.speakers[index].audible_since = Some(now);
        self.note_audible(self.speakers[index].peer);
        self.has_newly_audible = true;
        true
    }

    fn note_audible(&mut self, peer: PeerId) {
        self.recently_audible.retain(|other| *other != peer);
        self.recently_audible.insert(0, peer);
    }
}

#[cfg(test)]
mod tests;
