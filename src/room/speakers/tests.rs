//! Tests of the speakers.

use fastrand::Rng;

use super::*;

fn peer(slot: u32) -> PeerId {
    PeerId { slot, generation: 0 }
}

/// A simulated microphone: syllables and gaps while its participant speaks, noise otherwise.
struct Person {
    voice: u64,
    noise: u64,
    syllable_until: u64,
    gap_until: u64,
}

impl Person {
    fn level(&mut self, dice: &mut Rng, ms: u64, speaks: bool) -> u8 {
        let noise = (self.noise + dice.u64(..5)) as u8;
        if !speaks {
            return noise;
        }
        if ms >= self.gap_until {
            self.syllable_until = ms + 120 + dice.u64(..250);
            // An eighth of the gaps is a breath.
            self.gap_until = self.syllable_until + 20 + dice.u64(..60) + if dice.u64(..8) == 0 { 180 } else { 0 };
        }
        if ms < self.syllable_until { (self.voice + dice.u64(..12)) as u8 } else { noise }
    }
}

#[test]
fn in_fifty_talks_the_speaker_is_found_in_600_ms_and_changes_at_most_once_a_second() {
    for seed in 0..50 {
        let mut dice = Rng::with_seed(seed);
        let count = 3 + dice.u64(..4);
        let mut people: Vec<Person> = (0..count)
            .map(|_| Person { voice: 22 + dice.u64(..20), noise: 62 + dice.u64(..30), syllable_until: 0, gap_until: 0 })
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
                turn_since = ms + dice.u64(..700);
                turn_until = turn_since + 2_000 + dice.u64(..6_000);
                speaker = (speaker + 1 + dice.u64(..count - 1)) % count;
                cough_at = turn_since + 700 + dice.u64(..1_000);
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
    assert_eq!(
        speakers.recently_audible(),
        [4, 0, 3, 2, 1].map(peer),
        "a replaced microphone counts as audible until then"
    );
    assert!(speakers.is_audible(peer(4)) && !speakers.is_audible(peer(0)));
    speakers.remove(peer(3));
    assert!(speakers.poll_newly_audible(now) && !speakers.poll_newly_audible(now));
    assert_eq!(speakers.handle_level(now, peer(0), 30, Some(3)), Some(2));
    assert!(speakers.poll_newly_audible(now) && !speakers.is_audible(peer(3)));
    assert_eq!(speakers.recently_audible(), [0, 4, 3, 2, 1].map(peer), "a muted microphone stays in the list");
    speakers.forget(peer(3));
    assert_eq!(speakers.recently_audible(), [0, 4, 2, 1].map(peer));
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
            shares[usize::from(is_silent)] += f32::from(u8::from(speakers.reported() == [peer(1)]));
            rounds[usize::from(is_silent)] += 1.0;
        }
    }
    (shares[0] / rounds[0], shares[1] / rounds[1])
}

#[test]
fn without_levels_packet_sizes_show_speech() {
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
    // Five microphones with a constant bitrate, and three with levels of which the first `speaking` speak. Returns the
    // slots audible in the last round, the reported speakers, and how many have been audible.
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
        (heard, speakers.reported().to_vec(), speakers.recently_audible().len())
    };
    assert_eq!(talk(0, 1_000, 0).0, [0, 1, 2], "the first three become audible and stay so");
    let (heard, reported, recent) = talk(1_000, 2_000, 2);
    assert_eq!((heard.len(), &heard[1..], reported.len(), recent), (3, &[5, 6][..], 2, 5));
    let (heard, reported, _) = talk(3_000, 2_000, 3);
    assert_eq!((heard, reported.len()), (vec![5, 6, 7], 3), "speakers replace microphones without levels");
    assert_eq!(talk(5_000, 4_000, 0).0, [5, 6, 7], "a pause changes nothing");
    let (heard, reported, recent) = talk(9_000, 4_000, 0);
    assert_eq!(
        (heard, reported.len(), recent),
        (vec![0, 1, 2], 0, 6),
        "after five seconds of silence they are replaced"
    );
}

#[test]
fn microphones_that_take_turns_with_every_packet_do_not_cause_a_seating_each() {
    let start = Instant::now();
    let mut speakers = Speakers::default();
    let mut seatings = 0;
    for click in 0..2_000 {
        let now = start + Duration::from_millis(click);
        speakers.handle_level(now, peer(click as u32 % 400), 10, Some(1));
        seatings += u32::from(speakers.poll_newly_audible(now));
    }
    assert!((90..=111).contains(&seatings), "{seatings} seatings in two seconds");
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
            reports.push((ms, speakers.reported().to_vec()));
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
    assert!(speakers.poll_change(at(3_300)) && speakers.reported() == [peer(1)]);
    assert!(speakers.poll_change(at(4_300)) && speakers.reported().is_empty());
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
    assert_eq!(speakers.reported().len(), 3);
    assert!(changes <= 4, "{changes}");
}
