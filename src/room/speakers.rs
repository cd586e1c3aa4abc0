//! Speaker detection from the audio level in each microphone packet (RFC 6464), and the choice of the audible
//! microphones, which are the only ones forwarded in a large room.
//!
//! A packet is speech if its level stands out from the microphone's own noise. What counts is the share of speech in
//! the last moments, not the loudness of one packet, so neither a cough nor a breath between two words changes the
//! speaker (the idea of Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing", 2012).
//!
//! Clients that send no levels are judged by the size of their packets. Opus with a variable bitrate spends two to four
//! times as many bytes on speech as on noise, and with discontinuous transmission almost none on silence. Each doubling
//! of the size therefore counts as `DOUBLING` decibels, and the rest is the same. A constant packet size carries no
//! information. Such a microphone is never reported as speaking. In a large room it is audible while there are fewer
//! audible microphones than allowed, or in place of a microphone with levels that has been silent for
//! `LONG_SILENCE`; any participant that speaks replaces it at once.

use std::time::{Duration, Instant};

use crate::bucket::Bucket;
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
const BEGINS: f32 = 0.5;
const STOPS: f32 = 0.2;

/// Share of speech of the current speaker below which another participant may become the speaker.
const YIELDS: f32 = 0.35;

/// How long a participant is still reported as speaking after its last speech: words have gaps, and a mark that blinks
/// is worse than one that stays a moment.
const HOLD: Duration = Duration::from_millis(500);

/// How much louder, in decibels, and for how long a participant has to speak over the speaker to become the speaker.
const LOUDER: f32 = 6.0;
const PATIENCE: Duration = Duration::from_secs(2);

/// Minimum time between two reports of who speaks.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// How long a microphone that has just become audible cannot be replaced by a louder one.
const IMMUNITY: Duration = Duration::from_secs(1);

/// How often per second, and in a burst, newly audible microphones cause a new seating. Each one is work for all
/// participants in the room, but all who begin to speak at the same moment should be heard.
const TURNS: f64 = 50.0;
const TURN_BURST: f64 = 10.0;

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

/// How long an audible microphone must have been silent to be replaced by one that gives no information. Shorter
/// changes audible microphones, and thus seats, in every pause.
const LONG_SILENCE: Duration = Duration::from_secs(5);

/// The microphones of one room.
#[derive(Debug, Default)]
pub struct Speakers {
    speakers: Vec<Speaker>,
    /// The current speaker, or the last one while nobody speaks.
    dominant: Option<PeerId>,
    /// Only audible microphones are forwarded.
    is_limited: bool,
    reported: Vec<PeerId>,
    next_report: Option<Instant>,
    /// Peers that have been audible, the latest first. Muted ones stay.
    turns: Vec<PeerId>,
    has_new_turn: bool,
    turn_limit: Option<Bucket>,
}

#[derive(Debug)]
struct Speaker {
    peer: PeerId,
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
    /// When the microphone became audible; `None` if it is not.
    audible_since: Option<Instant>,
    /// Packets were withheld since the last one that was forwarded.
    has_withheld: bool,
    /// Number of the current stretch of forwarded packets.
    epoch: u32,
    /// The client sends levels.
    has_levels: bool,
    /// Smallest and largest recent packet in bytes, for a client without levels.
    sizes: Option<(f32, f32)>,
}

impl Speakers {
    /// Upper bound of the memory per participant, in bytes.
    pub const BYTES_EACH: usize = 2 * (size_of::<Speaker>() + 2 * size_of::<PeerId>());

    /// Takes the level of a microphone packet, in decibels below 0 dBov (0 to 127). `max_audible` is the maximum number
    /// of audible microphones, `None` if all are forwarded. Returns `None` if the packet is not forwarded, else the
    /// number of its stretch: packets withheld between two stretches are not lost.
    pub fn handle_level(&mut self, now: Instant, peer: PeerId, level: u8, max_audible: Option<usize>) -> Option<u32> {
        let index = self.index(now, peer);
        self.speakers[index].has_levels = true;
        let is_speech = self.speakers[index].handle_level(now, level);
        self.admit(now, index, max_audible, is_speech)
    }

    /// Like `handle_level`, for a packet of a client without levels; `bytes` is the size of the payload.
    pub fn handle_size(&mut self, now: Instant, peer: PeerId, bytes: usize, max_audible: Option<usize>) -> Option<u32> {
        let index = self.index(now, peer);
        let is_speech = self.speakers[index].handle_size(now, bytes);
        self.admit(now, index, max_audible, is_speech)
    }

    fn index(&mut self, now: Instant, peer: PeerId) -> usize {
        self.speakers.iter().position(|speaker| speaker.peer == peer).unwrap_or_else(|| {
            self.speakers.push(Speaker::new(now, peer));
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
        self.turns.retain(|other| *other != peer);
    }

    /// Returns true if a microphone has become audible since this last returned true. Rate-limited: while the limit
    /// holds, call it again with the next packet of any participant.
    pub fn poll_turn(&mut self, now: Instant) -> bool {
        let limit = self.turn_limit.get_or_insert_with(|| Bucket::new(now, TURNS, TURN_BURST));
        self.has_new_turn && limit.take(now) && std::mem::take(&mut self.has_new_turn)
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
                let held = speaker.spoke_at.is_some_and(|spoke| now < spoke + HOLD);
                was_reported && held || speaker.speech_at(now) > BEGINS
            })
            .collect();
        speaking.sort_by(|a, b| {
            let rank = |speaker: &Speaker| (dominant != Some(speaker.peer), -speaker.loudness);
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
    pub fn told(&self) -> &[PeerId] {
        &self.reported
    }

    /// Returns the current speaker, or the last one while nobody speaks.
    pub fn dominant(&self) -> Option<PeerId> {
        self.dominant
    }

    /// Returns true if the participant's microphone is audible.
    pub fn is_heard(&self, peer: PeerId) -> bool {
        self.speakers.iter().any(|speaker| speaker.peer == peer && speaker.audible_since.is_some())
    }

    /// Returns the participants that have been audible, the latest first.
    pub fn turns(&self) -> &[PeerId] {
        &self.turns
    }

    /// Makes the participant that was just heard the current speaker, if it takes over.
    fn update_dominant(&mut self, now: Instant, index: usize) {
        let candidate = &self.speakers[index];
        if candidate.speech < BEGINS || self.dominant == Some(candidate.peer) {
            return;
        }
        let current = self.speakers.iter().find(|speaker| self.dominant == Some(speaker.peer));
        let yields = current.is_none_or(|current| {
            let patient = candidate.speaking_since.is_some_and(|since| now >= since + PATIENCE);
            current.speech_at(now) < YIELDS || patient && candidate.loudness > current.loudness + LOUDER
        });
        if yields {
            self.dominant = Some(candidate.peer);
        }
    }

    /// Makes a microphone audible if its packet is speech, or if nothing tells when it speaks: as one of fewer than
    /// `max_audible`, or in place of a silent or quieter one. Returns true if it is audible.
    fn make_audible(&mut self, now: Instant, index: usize, max_audible: usize, is_speech: bool) -> bool {
        if self.speakers[index].audible_since.is_some() {
            return true;
        }
        let is_unknown = !is_speech && self.speakers[index].is_unknown();
        if !is_speech && !is_unknown {
            return false;
        }
        let audible: Vec<usize> =
            (0..self.speakers.len()).filter(|at| self.speakers[*at].audible_since.is_some()).collect();
        if audible.len() >= max_audible {
            let loudness = self.speakers[index].loudness;
            let may_go = |at: &&usize| {
                let other = &self.speakers[**at];
                if is_unknown {
                    let spoke = other.spoke_at.or(other.audible_since);
                    return !other.is_unknown() && spoke.is_none_or(|spoke| now >= spoke + LONG_SILENCE);
                }
                let is_immune = other.audible_since.is_some_and(|since| now < since + IMMUNITY);
                other.speech_at(now) < STOPS || !is_immune && loudness > other.loudness + LOUDER
            };
            let rank = |at: &&usize| {
                let other = &self.speakers[**at];
                (other.speech_at(now), other.loudness)
            };
            let quietest = audible
                .iter()
                .filter(may_go)
                .min_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("levels are numbers"))
                .copied();
            let Some(quietest) = quietest else {
                return false;
            };
            self.speakers[quietest].audible_since = None;
            self.note_turn(self.speakers[quietest].peer);
        }
        self.speakers[index].audible_since = Some(now);
        self.note_turn(self.speakers[index].peer);
        self.has_new_turn = true;
        true
    }

    fn note_turn(&mut self, peer: PeerId) {
        self.turns.retain(|other| *other != peer);
        self.turns.insert(0, peer);
    }
}

impl Speaker {
    fn new(now: Instant, peer: PeerId) -> Self {
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
    fn handle_size(&mut self, now: Instant, bytes: usize) -> bool {
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
    fn is_unknown(&self) -> bool {
        !self.has_levels && self.sizes.is_none_or(|(smallest, largest)| largest < smallest * VARIATION)
    }

    /// Takes a level. Returns true if it is speech.
    fn handle_level(&mut self, now: Instant, level: u8) -> bool {
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
    fn speech_at(&self, now: Instant) -> f32 {
        let silent = now.saturating_duration_since(self.heard_at).saturating_sub(PACKET);
        self.speech * (-silent.as_secs_f32() / MEMORY.as_secs_f32()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(slot: u32) -> PeerId {
        PeerId { slot, generation: 0 }
    }

    /// A seeded random number generator.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    /// A simulated microphone: syllables and gaps while its participant speaks, noise otherwise.
    struct Person {
        voice: u64,
        noise: u64,
        syllable_until: u64,
        gap_until: u64,
    }

    impl Person {
        fn level(&mut self, dice: &mut Dice, ms: u64, speaks: bool) -> u8 {
            let noise = (self.noise + dice.below(5)) as u8;
            if !speaks {
                return noise;
            }
            if ms >= self.gap_until {
                self.syllable_until = ms + 120 + dice.below(250);
                // An eighth of the gaps is a breath.
                self.gap_until = self.syllable_until + 20 + dice.below(60) + if dice.below(8) == 0 { 180 } else { 0 };
            }
            if ms < self.syllable_until { (self.voice + dice.below(12)) as u8 } else { noise }
        }
    }

    #[test]
    fn in_fifty_talks_the_speaker_is_found_in_600_ms_and_changes_at_most_once_a_second() {
        for seed in 0..50 {
            let mut dice = Dice(seed * 7_919 + 1);
            let count = 3 + dice.below(4);
            let mut people: Vec<Person> = (0..count)
                .map(|_| Person {
                    voice: 22 + dice.below(20),
                    noise: 62 + dice.below(30),
                    syllable_until: 0,
                    gap_until: 0,
                })
                .collect();
            let start = Instant::now();
            let mut speakers = Speakers::default();
            let (mut turn_since, mut turn_until, mut speaker) = (0, 0, 0);
            let (mut cough_at, mut cougher) = (0, 0);
            let mut changes: Vec<u64> = Vec::new();
            let mut last = None;
            for ms in (0..60_000).step_by(20) {
                if ms >= turn_until {
                    // A pause, then another participant speaks.
                    turn_since = ms + dice.below(700);
                    turn_until = turn_since + 2_000 + dice.below(6_000);
                    speaker = (speaker + 1 + dice.below(count - 1)) % count;
                    cough_at = turn_since + 700 + dice.below(1_000);
                    cougher = (speaker + 1) % count;
                }
                for (index, person) in people.iter_mut().enumerate() {
                    let speaks = index as u64 == speaker && ms >= turn_since;
                    let coughs = index as u64 == cougher && (cough_at..cough_at + 120).contains(&ms);
                    let level = if coughs { 12 } else { person.level(&mut dice, ms, speaks) };
                    let now = start + Duration::from_millis(ms + index as u64);
                    assert_eq!(speakers.handle_level(now, peer(index as u32), level, None), Some(0));
                }
                if last != speakers.dominant() {
                    last = speakers.dominant();
                    changes.push(ms);
                }
                if ms >= turn_since + 600 {
                    assert_eq!(last, Some(peer(speaker as u32)), "talk {seed} at {ms} ms, turn since {turn_since}");
                }
            }
            let hasty = changes.windows(2).filter(|pair| pair[1] - pair[0] < 1_000).count();
            assert_eq!(hasty, 0, "talk {seed}: {changes:?}");
            assert!(changes.len() > 6, "talk {seed}: {changes:?}");
        }
    }

    /// Feeds one packet per participant with its level every 20 ms, from `from` milliseconds on. Returns the slots that
    /// were audible in the last round.
    fn rounds(speakers: &mut Speakers, start: Instant, from: u64, count: u64, levels: &[u8]) -> Vec<u32> {
        let mut heard = Vec::new();
        for round in 0..count {
            heard.clear();
            let now = start + Duration::from_millis(from + 20 * round);
            for (index, level) in levels.iter().enumerate() {
                if speakers.handle_level(now, peer(index as u32), *level, Some(3)).is_some() {
                    heard.push(index as u32);
                }
            }
        }
        heard
    }

    #[test]
    fn three_microphones_are_audible_and_a_new_speaker_from_the_first_packet() {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        assert_eq!(rounds(&mut speakers, start, 0, 50, &[80; 5]), [] as [u32; 0], "noise is not speech");
        assert_eq!(rounds(&mut speakers, start, 1_000, 1, &[30, 80, 80, 80, 80]), [0]);
        assert_eq!(rounds(&mut speakers, start, 1_020, 1, &[30, 30, 30, 80, 80]), [0, 1, 2]);
        let all = [30, 30, 30, 30, 80];
        assert_eq!(
            rounds(&mut speakers, start, 1_040, 100, &all),
            [0, 1, 2],
            "a speaker that is not louder replaces nobody"
        );
        let louder = [30, 30, 36, 26, 80];
        assert_eq!(rounds(&mut speakers, start, 3_040, 30, &louder), [0, 1, 3], "the quietest is replaced");
        // A participant that stops stays audible until another one speaks, which replaces it at once.
        assert_eq!(rounds(&mut speakers, start, 4_000, 40, &[80, 30, 80, 30, 80]), [0, 1, 3]);
        assert_eq!(rounds(&mut speakers, start, 4_800, 1, &[80, 30, 80, 30, 40]), [0, 1, 3, 4]);
        assert_eq!(rounds(&mut speakers, start, 4_820, 1, &[80, 30, 80, 30, 40]), [1, 3, 4]);
        // Packets after an inaudible time are a new stretch.
        let now = start + Duration::from_millis(4_840);
        assert_eq!(speakers.handle_level(now, peer(1), 30, Some(3)), Some(1));
        assert_eq!(speakers.turns(), [4, 0, 3, 2, 1].map(peer), "a replaced microphone counts as audible until then");
        assert!(speakers.is_heard(peer(4)) && !speakers.is_heard(peer(0)));
        speakers.remove(peer(3));
        assert!(speakers.poll_turn(now) && !speakers.poll_turn(now));
        assert_eq!(speakers.handle_level(now, peer(0), 30, Some(3)), Some(2));
        assert!(speakers.poll_turn(now) && !speakers.is_heard(peer(3)));
        assert_eq!(speakers.turns(), [0, 4, 3, 2, 1].map(peer), "a muted microphone stays in the list");
        speakers.forget(peer(3));
        assert_eq!(speakers.turns(), [0, 4, 2, 1].map(peer));
        assert_eq!(speakers.handle_level(now, peer(2), 80, None), Some(2), "all are forwarded in a small room");
    }

    /// Feeds packet sizes, one every 20 ms, alternating 3 s of speech with 3 s of silence. Returns the shares of the
    /// speech and of the silence during which the participant was reported as speaking.
    fn reported_by_sizes(speech: impl Fn(u64) -> usize, silence: impl Fn(u64) -> Option<usize>) -> (f32, f32) {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        let (mut shares, mut rounds) = ([0.0; 2], [0.0; 2]);
        for round in 0..3_000_u64 {
            let now = start + Duration::from_millis(20 * round);
            let is_silent = round / 150 % 2 == 1;
            // Packets of another participant drive the reports.
            speakers.handle_level(now, peer(9), 90, None);
            let size = if is_silent { silence(round) } else { Some(speech(round)) };
            if let Some(size) = size {
                assert_eq!(speakers.handle_size(now, peer(1), size, None), Some(0));
            }
            speakers.poll_change(now);
            // The first second after each change is not judged.
            if round > 300 && round % 150 > 50 {
                shares[usize::from(is_silent)] += f32::from(u8::from(speakers.told() == [peer(1)]));
                rounds[usize::from(is_silent)] += 1.0;
            }
        }
        (shares[0] / rounds[0], shares[1] / rounds[1])
    }

    #[test]
    fn without_levels_packet_sizes_tell_who_speaks() {
        let syllables = |round: u64| if round % 15 < 11 { 80 + (round * 37 % 50) as usize } else { 35 };
        let noise = |round: u64| Some(28 + (round * 31 % 9) as usize);
        let dtx = |round: u64| round.is_multiple_of(20).then_some(1 + (round / 20 % 3) as usize);
        for (name, (spoken, silent)) in [
            ("a variable bitrate", reported_by_sizes(syllables, noise)),
            ("a variable bitrate with discontinuous transmission", reported_by_sizes(syllables, dtx)),
            ("a constant bitrate with discontinuous transmission", reported_by_sizes(|_| 160, dtx)),
        ] {
            assert!(spoken > 0.95 && silent < 0.05, "{name}: {spoken} of speech, {silent} of silence");
        }
        let constant = reported_by_sizes(|_| 160, |_| Some(160));
        assert_eq!(constant, (0.0, 0.0), "a constant bitrate gives no information");
    }

    #[test]
    fn without_levels_microphones_are_audible_only_while_few_others_speak() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speakers = Speakers::default();
        // Five microphones with a constant bitrate, and three with levels of which the first `speaking` speak. Returns
        // the slots audible in the last round, the reported speakers, and the number of turns.
        let mut talk = |from: u64, ms: u64, speaking: u32| {
            let mut heard = Vec::new();
            for round in 0..ms / 20 {
                heard.clear();
                let now = at(from + 20 * round);
                let sizes = (0..5).map(|slot| (slot, None));
                let levels = (5..8).map(|slot| (slot, Some(if slot - 5 < speaking { 30 } else { 90 })));
                for (slot, level) in sizes.chain(levels) {
                    let is_heard = match level {
                        Some(level) => speakers.handle_level(now, peer(slot), level, Some(3)),
                        None => speakers.handle_size(now, peer(slot), 160, Some(3)),
                    };
                    heard.extend(is_heard.map(|_| slot));
                }
            }
            speakers.poll_change(at(from + ms));
            (heard, speakers.told().to_vec(), speakers.turns().len())
        };
        assert_eq!(talk(0, 1_000, 0).0, [0, 1, 2], "the first three become audible and stay so");
        let (heard, reported, turns) = talk(1_000, 2_000, 2);
        assert_eq!((heard.len(), &heard[1..], reported.len(), turns), (3, &[5, 6][..], 2, 5));
        let (heard, reported, _) = talk(3_000, 2_000, 3);
        assert_eq!((heard, reported.len()), (vec![5, 6, 7], 3), "speakers replace microphones without levels");
        assert_eq!(talk(5_000, 4_000, 0).0, [5, 6, 7], "a pause changes nothing");
        let (heard, reported, turns) = talk(9_000, 4_000, 0);
        assert_eq!(
            (heard, reported.len(), turns),
            (vec![0, 1, 2], 0, 6),
            "after five seconds of silence they are replaced"
        );
    }

    #[test]
    fn microphones_that_take_turns_with_every_packet_do_not_cause_a_seating_each() {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        let mut turns = 0;
        for click in 0..2_000 {
            let now = start + Duration::from_millis(click);
            speakers.handle_level(now, peer(click as u32 % 400), 10, Some(1));
            turns += u32::from(speakers.poll_turn(now));
        }
        assert!((90..=111).contains(&turns), "{turns} seatings in two seconds");
    }

    #[test]
    fn changes_and_silence_are_reported_at_most_five_times_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speakers = Speakers::default();
        let mut reports = Vec::new();
        for ms in (0..3_000).step_by(20) {
            let speaks = ms < 1_500;
            speakers.handle_level(at(ms), peer(1), if speaks { 30 } else { 90 }, None);
            if ms >= 500 {
                speakers.handle_level(at(ms), peer(2), if speaks { 20 } else { 90 }, None);
            }
            if speakers.poll_change(at(ms)) {
                reports.push((ms, speakers.told().to_vec()));
            }
        }
        let lists: Vec<_> = reports.iter().map(|(_, list)| list.clone()).collect();
        assert_eq!(lists, [vec![peer(1)], vec![peer(1), peer(2)], vec![]]);
        assert!(reports.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 200));
        assert!(reports[0].0 <= 200 && (500..900).contains(&reports[1].0), "{reports:?}");
        assert!((2_000..2_800).contains(&reports[2].0), "{reports:?}");
        // A speaker whose packets stop counts as silent.
        for ms in (3_000..3_300).step_by(20) {
            speakers.handle_level(at(ms), peer(1), 30, None);
        }
        assert!(speakers.poll_change(at(3_300)) && speakers.told() == [peer(1)]);
        assert!(speakers.poll_change(at(4_300)) && speakers.told().is_empty());
    }

    #[test]
    fn in_a_large_room_only_audible_speakers_are_reported_and_gaps_between_words_are_not() {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        let mut changes = 0;
        for ms in (0..10_000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            for index in 0..5 {
                // Syllables of 160 ms with gaps of 140.
                let level = if (ms + 60 * index) % 300 < 160 { 30 } else { 80 };
                speakers.handle_level(now, peer(index as u32), level, Some(3));
            }
            changes += u32::from(speakers.poll_change(now));
        }
        assert_eq!(speakers.told().len(), 3);
        assert!(changes <= 4, "{changes}");
    }
}
