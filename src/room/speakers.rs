//! Who speaks in a room, from the levels that microphones tell with each packet (RFC 6464), and who is heard where
//! only the loudest are.
//!
//! Speech is what stands out from a microphone's own noise. How much of the last moments was speech decides, not
//! how loud a single moment was: so neither a cough nor a breath between two words changes the speaker (the idea of
//! Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing", 2012).
//!
//! A client that sends no levels is judged by the size of its packets. Opus with a variable bitrate spends two to four
//! times as many bytes on speech as on noise, and with discontinuous transmission almost none on silence, so each doubling
//! of the size counts as `DOUBLING` decibels and the rest is the same. Packets of a constant size say nothing. Such a
//! microphone is never marked as speaking. In a large room it is heard while a place is free, or while one is held by a
//! participant with levels that has not spoken for `FORSAKEN`; a participant that speaks takes its place at once.

use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::id::PeerId;

/// Decibels by which speech stands out from noise. Less takes noise for speech, more clips quiet voices.
const ABOVE_NOISE: f32 = 9.0;

/// The quietest that can be speech, in decibels above the least that can be told.
const QUIETEST: f32 = 50.0;

/// Decibels a second by which the noise may seem to rise: a fan is believed to be one after some seconds. Speech has
/// pauses, in which it falls at once.
const NOISE_RISE: f32 = 2.0;

/// What is believed of a microphone's noise from its first packet, at most: who comes speaking has to be heard.
const FIRST_NOISE: f32 = 70.0;

/// What one packet covers, and how fast earlier ones are forgotten. Longer is steadier and later.
const PACKET: Duration = Duration::from_millis(20);
const MEMORY: Duration = Duration::from_millis(250);

/// Shares of speech in the last moments: above the first somebody begins, a cough does not reach it; below the second
/// they have stopped.
const BEGINS: f32 = 0.5;
const STOPS: f32 = 0.2;

/// Below this the one who spoke last has stopped enough for somebody else to be the speaker.
const YIELDS: f32 = 0.35;

/// For how long one who was told to speak still does after they stopped: words have gaps, and a mark that blinks is
/// worse than one that stays a moment.
const HOLD: Duration = Duration::from_millis(500);

/// Decibels and time by which one who speaks over another takes over.
const LOUDER: f32 = 6.0;
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two looks at who speaks, and so the least between two changes that are told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);

/// For how long one who has just begun can't lose their place to a louder one.
const IMMUNITY: Duration = Duration::from_secs(1);

/// New places a second, and at once, that anybody is told of. Each makes work for everybody in the room; those who begin
/// at one moment are all to be heard.
const TURNS: f64 = 50.0;
const TURNS_BURST: f64 = 10.0;

/// Decibels for which each doubling of a packet's size counts. More takes the variation of steady noise for speech, less
/// misses quiet speech.
const DOUBLING: f32 = 12.0;

/// Bytes of an Opus packet in discontinuous transmission at most (RFC 6716 section 2.1.9): silence.
const SILENT_BYTES: usize = 3;

/// Ratio of the largest to the smallest packet of late from which sizes say something, and the part of their difference
/// that each packet forgets: most of it in ten seconds. A client that changes its constant bitrate is misjudged for as long.
const VARIATION: f32 = 1.6;
const FORGETTING: f32 = 0.002;

/// How long a participant must have been silent to lose the place to a microphone that tells nothing. Shorter changes
/// places, and thus seats, in every pause.
const FORSAKEN: Duration = Duration::from_secs(5);

/// The microphones of one room.
#[derive(Debug, Default)]
pub struct Speakers {
    speakers: Vec<Speaker>,
    /// Who speaks now, or spoke last.
    dominant: Option<PeerId>,
    /// Only those with a place are heard.
    is_limited: bool,
    told: Vec<PeerId>,
    next_look: Option<Instant>,
    /// Who had a place, the latest first. Who is muted has still spoken.
    turns: Vec<PeerId>,
    has_turned: bool,
    looks: Option<Bucket>,
}

#[derive(Debug)]
struct Speaker {
    peer: PeerId,
    is_new: bool,
    /// Decibels above the least that can be told.
    noise: f32,
    loudness: f32,
    /// The share of speech in the last moments.
    speech: f32,
    heard_at: Instant,
    /// When their share of speech was last above the one below which they have stopped.
    spoke_at: Option<Instant>,
    /// Since when they speak without a stop.
    since: Option<Instant>,
    /// Since when they have a place among those who are heard.
    place: Option<Instant>,
    /// Packets were held back since the last that was forwarded.
    is_held: bool,
    /// How often they began to be heard.
    epoch: u32,
    /// Levels come with the packets.
    has_levels: bool,
    /// The smallest and the largest packet of late, where no levels come.
    sizes: Option<(f32, f32)>,
}

impl Speakers {
    /// The most that each member adds.
    pub const BYTES_EACH: usize = 2 * (size_of::<Speaker>() + 2 * size_of::<PeerId>());

    /// A microphone told its level, in decibels below the loudest (0 to 127). `places` is how many are heard, if not
    /// all. Says whether the packet is heard: as part of which stretch, since what was held back in between is no
    /// loss.
    pub fn handle_level(&mut self, now: Instant, peer: PeerId, level: u8, places: Option<usize>) -> Option<u32> {
        let index = self.index(now, peer);
        self.speakers[index].has_levels = true;
        let is_speech = self.speakers[index].handle_level(now, level);
        self.hear(now, index, places, is_speech)
    }

    /// Takes a packet of a microphone that sends no levels; `bytes` is the size of its payload. Otherwise as `handle_level`.
    pub fn handle_size(&mut self, now: Instant, peer: PeerId, bytes: usize, places: Option<usize>) -> Option<u32> {
        let index = self.index(now, peer);
        let is_speech = self.speakers[index].handle_size(now, bytes);
        self.hear(now, index, places, is_speech)
    }

    fn index(&mut self, now: Instant, peer: PeerId) -> usize {
        self.speakers.iter().position(|speaker| speaker.peer == peer).unwrap_or_else(|| {
            self.speakers.push(Speaker::new(now, peer));
            self.speakers.len() - 1
        })
    }

    fn hear(&mut self, now: Instant, index: usize, places: Option<usize>, is_speech: bool) -> Option<u32> {
        self.choose(now, index);
        self.is_limited = places.is_some();
        let is_heard = places.is_none_or(|places| self.has_place(now, index, places, is_speech));
        let speaker = &mut self.speakers[index];
        if !is_heard {
            speaker.is_held = true;
            return None;
        }
        speaker.epoch += u32::from(std::mem::take(&mut speaker.is_held));
        Some(speaker.epoch)
    }

    /// A microphone is off or gone.
    pub fn remove(&mut self, peer: PeerId) {
        self.speakers.retain(|speaker| speaker.peer != peer);
        if self.dominant == Some(peer) {
            self.dominant = None;
        }
    }

    /// Somebody left.
    pub fn forget(&mut self, peer: PeerId) {
        self.remove(peer);
        self.turns.retain(|other| *other != peer);
    }

    /// Whether somebody has got a place since it was last asked. Not too often: the next packet of anybody asks again.
    pub fn poll_turn(&mut self, now: Instant) -> bool {
        let looks = self.looks.get_or_insert_with(|| Bucket::new(now, TURNS, TURNS_BURST));
        self.has_turned && looks.take(now) && std::mem::take(&mut self.has_turned)
    }

    /// Looks, not too often, whether others speak now than those who were told last. If so they count as told.
    pub fn poll_change(&mut self, now: Instant) -> bool {
        if self.next_look.is_some_and(|next| now < next) {
            return false;
        }
        self.next_look = Some(now + TELL_INTERVAL);
        let dominant = self.dominant;
        let mut speaking: Vec<&Speaker> = self
            .speakers
            .iter()
            .filter(|speaker| !self.is_limited || speaker.place.is_some())
            .filter(|speaker| {
                let was_told = self.told.contains(&speaker.peer);
                let held = speaker.spoke_at.is_some_and(|spoke| now < spoke + HOLD);
                was_told && held || speaker.speech_at(now) > BEGINS
            })
            .collect();
        speaking.sort_by(|a, b| {
            let rank = |speaker: &Speaker| (dominant != Some(speaker.peer), -speaker.loudness);
            rank(a).partial_cmp(&rank(b)).expect("levels are numbers").then(a.peer.cmp(&b.peer))
        });
        let mut changed = speaking.len() != self.told.len();
        changed |= speaking.iter().any(|speaker| !self.told.contains(&speaker.peer));
        // Loudness alone sways with every word: only the first of the list is worth a message.
        changed |= speaking.first().map(|speaker| speaker.peer) != self.told.first().copied();
        if changed {
            self.told = speaking.into_iter().map(|speaker| speaker.peer).collect();
        }
        changed
    }

    /// Who was told to speak: the one who has the word first, then the loudest.
    pub fn told(&self) -> &[PeerId] {
        &self.told
    }

    /// Who speaks now, or spoke last.
    pub fn dominant(&self) -> Option<PeerId> {
        self.dominant
    }

    /// Whether somebody has a place among those who are heard.
    pub fn is_heard(&self, peer: PeerId) -> bool {
        self.speakers.iter().any(|speaker| speaker.peer == peer && speaker.place.is_some())
    }

    /// Who had a place among those who are heard, the latest first.
    pub fn turns(&self) -> &[PeerId] {
        &self.turns
    }

    /// Whether the speaker changes to the one who was just heard.
    fn choose(&mut self, now: Instant, index: usize) {
        let candidate = &self.speakers[index];
        if candidate.speech < BEGINS || self.dominant == Some(candidate.peer) {
            return;
        }
        let current = self.speakers.iter().find(|speaker| self.dominant == Some(speaker.peer));
        let yields = current.is_none_or(|current| {
            let patient = candidate.since.is_some_and(|since| now >= since + PATIENCE);
            current.speech_at(now) < YIELDS || patient && candidate.loudness > current.loudness + LOUDER
        });
        if yields {
            self.dominant = Some(candidate.peer);
        }
    }

    /// Whether one is among those who are heard; who speaks gets the place of one who does not.
    fn has_place(&mut self, now: Instant, index: usize, places: usize, is_speech: bool) -> bool {
        if self.speakers[index].place.is_some() {
            return true;
        }
        let is_unknown = !is_speech && self.speakers[index].is_unknown();
        if !is_speech && !is_unknown {
            return false;
        }
        let taken: Vec<usize> = (0..self.speakers.len()).filter(|at| self.speakers[*at].place.is_some()).collect();
        if taken.len() >= places {
            let loudness = self.speakers[index].loudness;
            let may_go = |at: &&usize| {
                let other = &self.speakers[**at];
                if is_unknown {
                    let spoke = other.spoke_at.or(other.place);
                    return !other.is_unknown() && spoke.is_none_or(|spoke| now >= spoke + FORSAKEN);
                }
                let is_immune = other.place.is_some_and(|since| now < since + IMMUNITY);
                other.speech_at(now) < STOPS || !is_immune && loudness > other.loudness + LOUDER
            };
            let rank = |at: &&usize| {
                let other = &self.speakers[**at];
                (other.speech_at(now), other.loudness)
            };
            let quietest = taken
                .iter()
                .filter(may_go)
                .min_by(|a, b| rank(a).partial_cmp(&rank(b)).expect("levels are numbers"))
                .copied();
            let Some(quietest) = quietest else {
                return false;
            };
            self.speakers[quietest].place = None;
            self.note_turn(self.speakers[quietest].peer);
        }
        self.speakers[index].place = Some(now);
        self.note_turn(self.speakers[index].peer);
        self.has_turned = true;
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
            since: None,
            place: None,
            is_held: false,
            epoch: 0,
            has_levels: false,
            sizes: None,
        }
    }

    /// Takes the size of a packet; says whether it is speech.
    fn handle_size(&mut self, now: Instant, bytes: usize) -> bool {
        if self.has_levels {
            // One packet of many is without.
            return false;
        }
        let size = bytes.max(1) as f32;
        let (smallest, largest) = self.sizes.unwrap_or((size, size));
        let smallest = size.min(smallest + (size - smallest) * FORGETTING);
        let largest = size.max(largest + (size - largest) * FORGETTING);
        self.sizes = Some((smallest, largest));
        let level = if bytes <= SILENT_BYTES { 0.0 } else { DOUBLING * size.log2() };
        if std::mem::take(&mut self.is_new) {
            // No size is large by itself.
            self.noise = level;
        }
        self.handle_level(now, 127 - level.clamp(0.0, 127.0) as u8)
    }

    /// Nothing tells when it speaks: it sends no levels, and packets of one size.
    fn is_unknown(&self) -> bool {
        !self.has_levels && self.sizes.is_none_or(|(smallest, largest)| largest < smallest * VARIATION)
    }

    /// Takes a level; says whether it is speech.
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
            self.since = None;
        } else {
            self.spoke_at = Some(now);
            if self.speech > BEGINS {
                self.since.get_or_insert(now);
            }
        }
        is_speech
    }

    /// The share of speech as it is at `now`: packets that did not come were silence (discontinuous transmission).
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

    /// A seeded source of numbers below `limit`.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    /// One person's microphone: syllables and gaps while they speak, noise otherwise.
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
                // Between words a breath now and then.
                self.gap_until = self.syllable_until + 20 + dice.below(60) + if dice.below(8) == 0 { 180 } else { 0 };
            }
            if ms < self.syllable_until { (self.voice + dice.below(12)) as u8 } else { noise }
        }
    }

    #[test]
    fn in_fifty_talks_the_speaker_is_known_in_600_ms_and_changes_once_a_second_at_most() {
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
                    // A pause for thought, then the next, who is somebody else.
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

    /// `levels` by person, one packet each 20 ms from `from` on; says who was heard in the last round.
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
    fn three_are_heard_and_who_begins_is_heard_from_the_first_packet() {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        assert_eq!(rounds(&mut speakers, start, 0, 50, &[80; 5]), [] as [u32; 0], "noise is not speech");
        assert_eq!(rounds(&mut speakers, start, 1_000, 1, &[30, 80, 80, 80, 80]), [0]);
        assert_eq!(rounds(&mut speakers, start, 1_020, 1, &[30, 30, 30, 80, 80]), [0, 1, 2]);
        let all = [30, 30, 30, 30, 80];
        assert_eq!(rounds(&mut speakers, start, 1_040, 100, &all), [0, 1, 2], "no louder than those who speak");
        let louder = [30, 30, 36, 26, 80];
        assert_eq!(rounds(&mut speakers, start, 3_040, 30, &louder), [0, 1, 3], "the quietest goes");
        // One stops; they keep their place until somebody wants it, who gets it at once.
        assert_eq!(rounds(&mut speakers, start, 4_000, 40, &[80, 30, 80, 30, 80]), [0, 1, 3]);
        assert_eq!(rounds(&mut speakers, start, 4_800, 1, &[80, 30, 80, 30, 40]), [0, 1, 3, 4]);
        assert_eq!(rounds(&mut speakers, start, 4_820, 1, &[80, 30, 80, 30, 40]), [1, 3, 4]);
        // What comes after a break is another stretch.
        let now = start + Duration::from_millis(4_840);
        assert_eq!(speakers.handle_level(now, peer(1), 30, Some(3)), Some(1));
        assert_eq!(speakers.turns(), [4, 0, 3, 2, 1].map(peer), "who lost a place had it until then");
        assert!(speakers.is_heard(peer(4)) && !speakers.is_heard(peer(0)));
        speakers.remove(peer(3));
        assert!(speakers.poll_turn(now) && !speakers.poll_turn(now));
        assert_eq!(speakers.handle_level(now, peer(0), 30, Some(3)), Some(2));
        assert!(speakers.poll_turn(now) && !speakers.is_heard(peer(3)));
        assert_eq!(speakers.turns(), [0, 4, 3, 2, 1].map(peer), "who is muted had one");
        speakers.forget(peer(3));
        assert_eq!(speakers.turns(), [0, 4, 2, 1].map(peer));
        assert_eq!(speakers.handle_level(now, peer(2), 80, None), Some(2), "everybody is heard in a small room");
    }

    /// Talks of 3 s with pauses of 3 s, by the size of packets, 20 ms each; says at which share of the speech and of the
    /// silence somebody was told to speak.
    fn told_by_sizes(speech: impl Fn(u64) -> usize, silence: impl Fn(u64) -> Option<usize>) -> (f32, f32) {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        let (mut shares, mut rounds) = ([0.0; 2], [0.0; 2]);
        for round in 0..3_000_u64 {
            let now = start + Duration::from_millis(20 * round);
            let is_silent = round / 150 % 2 == 1;
            // Another one keeps looking.
            speakers.handle_level(now, peer(9), 90, None);
            let size = if is_silent { silence(round) } else { Some(speech(round)) };
            if let Some(size) = size {
                assert_eq!(speakers.handle_size(now, peer(1), size, None), Some(0));
            }
            speakers.poll_change(now);
            // Words begin and end within a second.
            if round > 300 && round % 150 > 50 {
                shares[usize::from(is_silent)] += f32::from(u8::from(speakers.told() == [peer(1)]));
                rounds[usize::from(is_silent)] += 1.0;
            }
        }
        (shares[0] / rounds[0], shares[1] / rounds[1])
    }

    #[test]
    fn without_levels_the_size_of_packets_says_who_speaks() {
        let syllables = |round: u64| if round % 15 < 11 { 80 + (round * 37 % 50) as usize } else { 35 };
        let noise = |round: u64| Some(28 + (round * 31 % 9) as usize);
        let dtx = |round: u64| round.is_multiple_of(20).then_some(1 + (round / 20 % 3) as usize);
        for (name, (spoken, silent)) in [
            ("a variable bitrate", told_by_sizes(syllables, noise)),
            ("with discontinuous transmission", told_by_sizes(syllables, dtx)),
            ("a constant bitrate with it", told_by_sizes(|_| 160, dtx)),
        ] {
            assert!(spoken > 0.95 && silent < 0.05, "{name}: {spoken} of speech, {silent} of silence");
        }
        let constant = told_by_sizes(|_| 160, |_| Some(160));
        assert_eq!(constant, (0.0, 0.0), "of a constant bitrate nothing is known");
    }

    #[test]
    fn without_levels_nobody_is_heard_beside_the_loudest_and_free_places_are_used() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speakers = Speakers::default();
        // Five microphones of a constant bitrate, and three with levels of which `speaking` speak. Returns the slots that
        // are heard in the last round.
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
        assert_eq!(talk(0, 1_000, 0).0, [0, 1, 2], "the first three, and they keep their places");
        let (heard, told, turns) = talk(1_000, 2_000, 2);
        assert_eq!((heard.len(), &heard[1..], told.len(), turns), (3, &[5, 6][..], 2, 5));
        let (heard, told, _) = talk(3_000, 2_000, 3);
        assert_eq!((heard, told.len()), (vec![5, 6, 7], 3), "who speaks comes first");
        assert_eq!(talk(5_000, 4_000, 0).0, [5, 6, 7], "a pause");
        let (heard, told, turns) = talk(9_000, 4_000, 0);
        assert_eq!((heard, told.len(), turns), (vec![0, 1, 2], 0, 6), "they have stopped");
    }

    #[test]
    fn places_that_change_with_each_packet_make_no_work_with_each() {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        let mut turns = 0;
        for click in 0..2_000 {
            let now = start + Duration::from_millis(click);
            speakers.handle_level(now, peer(click as u32 % 400), 10, Some(1));
            turns += u32::from(speakers.poll_turn(now));
        }
        assert!((90..=111).contains(&turns), "{turns} in two seconds");
    }

    #[test]
    fn changes_are_told_five_times_a_second_at_most_and_silence_too() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speakers = Speakers::default();
        let mut told = Vec::new();
        for ms in (0..3_000).step_by(20) {
            let speaks = ms < 1_500;
            speakers.handle_level(at(ms), peer(1), if speaks { 30 } else { 90 }, None);
            if ms >= 500 {
                speakers.handle_level(at(ms), peer(2), if speaks { 20 } else { 90 }, None);
            }
            if speakers.poll_change(at(ms)) {
                told.push((ms, speakers.told().to_vec()));
            }
        }
        let lists: Vec<_> = told.iter().map(|(_, list)| list.clone()).collect();
        assert_eq!(lists, [vec![peer(1)], vec![peer(1), peer(2)], vec![]]);
        assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 200));
        assert!(told[0].0 <= 200 && (500..900).contains(&told[1].0), "{told:?}");
        assert!((2_000..2_800).contains(&told[2].0), "{told:?}");
        // Nothing comes any more from one who spoke: that is silence too.
        for ms in (3_000..3_300).step_by(20) {
            speakers.handle_level(at(ms), peer(1), 30, None);
        }
        assert!(speakers.poll_change(at(3_300)) && speakers.told() == [peer(1)]);
        assert!(speakers.poll_change(at(4_300)) && speakers.told().is_empty());
    }

    #[test]
    fn in_a_large_room_only_who_is_heard_is_told_and_gaps_between_words_do_not_blink() {
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
