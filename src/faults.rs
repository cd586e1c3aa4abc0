//! Faults of peers, counted by where they come from and by what they are: a place from which too many come gets no new
//! peers for a while, and a cause that repeats itself does not fill the log.
//!
//! A cause alone refuses nobody: whoever found out how to bring it about could lock out everybody else.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::place::Place;

/// Faults of one place, or lines about one cause, in a minute. Fewer punish who has an old browser and
/// tries again, more let a place go on for longer.
const FAULTS: usize = 10;

/// The minute; and how long a place is refused after its last fault too many, and a cause is silent that was told too
/// often.
const PAUSE: Duration = Duration::from_secs(60);

/// Places and causes that are known at once; of more the one that was seen longest ago is forgotten. More cost memory,
/// fewer let who has many addresses be forgotten sooner.
const MAX_PLACES: usize = 4_096;
const MAX_CAUSES: usize = 64;

/// Characters of a cause that tell it from others.
const CAUSE_CHARS: usize = 100;

/// What was counted lately.
#[derive(Debug, Default)]
pub struct Faults {
    places: BTreeMap<Place, Record>,
    causes: BTreeMap<String, Cause>,
    /// Where proxies seem to be that are not trusted, and when each was last noted.
    proxies: BTreeMap<Place, Instant>,
}

#[derive(Debug)]
struct Record {
    /// When the last ones were, the oldest first.
    faults: VecDeque<Instant>,
    last: Instant,
    refused_until: Option<Instant>,
}

#[derive(Debug)]
struct Cause {
    lines: Bucket,
    last: Instant,
    silent_until: Option<Instant>,
    untold: u64,
}

impl Faults {
    /// The most that all of it takes; a tree is half full at least.
    pub const MAX_BYTES: usize = 2
        * (MAX_PLACES
            * (size_of::<(Place, Record)>() + 2 * FAULTS * size_of::<Instant>() + size_of::<(Place, Instant)>())
            + MAX_CAUSES * (size_of::<(String, Cause)>() + 4 * CAUSE_CHARS));

    /// A peer ended by a fault. Says whether its place is refused from now on, and was not before.
    pub fn handle_fault(&mut self, now: Instant, place: Place) -> bool {
        let record = entry(
            &mut self.places,
            place,
            MAX_PLACES,
            |record| record.last,
            || Record { faults: VecDeque::new(), last: now, refused_until: None },
        );
        record.last = now;
        let oldest = if record.faults.len() < FAULTS { None } else { record.faults.pop_front() };
        record.faults.push_back(now);
        if oldest.is_none_or(|oldest| now >= oldest + PAUSE) {
            return false;
        }
        let was_refused = record.refused_until.replace(now + PAUSE).is_some_and(|until| now < until);
        !was_refused
    }

    /// Something went wrong that is to be told. Says whether now, and how often it was not told since the last time.
    pub fn handle_cause(&mut self, now: Instant, cause: &str) -> Option<u64> {
        // Indices and lengths make no other cause.
        let name = cause.chars().filter(|char| !char.is_ascii_digit()).take(CAUSE_CHARS).collect();
        let cause = entry(
            &mut self.causes,
            name,
            MAX_CAUSES,
            |cause| cause.last,
            || Cause {
                lines: Bucket::new(now, FAULTS as f64 / PAUSE.as_secs_f64(), FAULTS as f64),
                last: now,
                silent_until: None,
                untold: 0,
            },
        );
        cause.last = now;
        if cause.silent_until.is_some_and(|until| now < until) || !cause.lines.take(now) {
            cause.silent_until.get_or_insert(now + PAUSE);
            cause.untold += 1;
            return None;
        }
        cause.silent_until = None;
        Some(std::mem::take(&mut cause.untold))
    }

    /// Something at this place may be a proxy that is not trusted. Says whether that is news.
    pub fn note_proxy(&mut self, now: Instant, place: Place) -> bool {
        let is_new = !self.proxies.contains_key(&place);
        *entry(&mut self.proxies, place, MAX_PLACES, |last| *last, || now) = now;
        is_new
    }

    /// Until when nobody new comes in from this place, if so.
    pub fn refused_until(&self, now: Instant, place: Place) -> Option<Instant> {
        self.places.get(&place)?.refused_until.filter(|until| now < *until)
    }
}

/// The entry of a key; a new one takes the place of the oldest where there are too many.
fn entry<K: Ord + Clone, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    limit: usize,
    last: impl Fn(&V) -> Instant,
    new: impl FnOnce() -> V,
) -> &mut V {
    if map.len() >= limit && !map.contains_key(&key) {
        let oldest = map.iter().min_by_key(|(_, value)| last(value)).map(|(key, _)| key.clone());
        oldest.and_then(|key| map.remove(&key));
    }
    map.entry(key).or_insert_with(new)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn place(text: &str) -> Place {
        Place::new(text.parse().unwrap())
    }

    #[test]
    fn a_place_with_more_than_ten_faults_a_minute_is_refused_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut faults = Faults::default();
        let (bad, good) = (place("192.0.2.1"), place("192.0.2.2"));
        for _ in 0..10 {
            assert!(!faults.handle_fault(start, bad));
        }
        assert_eq!(faults.refused_until(start, bad), None);
        assert!(faults.handle_fault(at(1), bad), "it is told once");
        assert!(!faults.handle_fault(at(2), place("::ffff:192.0.2.1")), "the same address");
        assert_eq!(faults.refused_until(at(3), bad), Some(at(62)));
        assert_eq!(faults.refused_until(at(3), good), None);
        assert_eq!(faults.refused_until(at(62), bad), None);
        assert!(!faults.handle_fault(at(63), bad), "a minute later it may have some again");
        // One in ten seconds is nobody who does it on purpose.
        for seconds in (0..600).step_by(6) {
            assert!(!faults.handle_fault(at(seconds), good));
        }
    }

    #[test]
    fn a_network_of_64_bits_is_one_place() {
        let now = Instant::now();
        let mut faults = Faults::default();
        let told = (0..12).filter(|host| faults.handle_fault(now, place(&format!("2001:db8:0:1::{host}"))));
        assert_eq!(told.count(), 1);
        assert!(faults.refused_until(now, place("2001:db8:0:1:ffff::")).is_some());
        assert!(faults.refused_until(now, place("2001:db8:0:2::1")).is_none());
    }

    #[test]
    fn a_cause_is_told_ten_times_and_then_once_a_minute() {
        let start = Instant::now();
        let mut faults = Faults::default();
        let told: Vec<(u64, u64)> = (0..300)
            .filter_map(|second| {
                let cause = format!("index {second} of 7");
                let now = start + Duration::from_secs(second);
                Some((second, faults.handle_cause(now, &cause)?))
            })
            .collect();
        let often = told.iter().filter(|(second, _)| *second < 12).count();
        assert!((10..=12).contains(&often), "{told:?}");
        assert!(told.len() < 60, "{told:?}");
        assert!(told.iter().any(|(_, untold)| *untold >= 59), "{told:?}");
        let untold: u64 = told.iter().map(|(_, untold)| untold).sum();
        assert!(told.len() as u64 + untold >= 300 - 61, "nothing is left out: {told:?}");
        assert_eq!(faults.handle_cause(start, "another"), Some(0));
    }

    #[test]
    fn each_proxy_is_news_once_whatever_others_there_are() {
        let now = Instant::now();
        let mut faults = Faults::default();
        let news: Vec<bool> = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"]
            .map(|text| faults.note_proxy(now, place(text)))
            .into();
        assert_eq!(news, [true, true, false, true, false, false]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let start = Instant::now();
        let mut faults = Faults::default();
        for number in 0..5_000u32 {
            let now = start + Duration::from_millis(number.into());
            faults.handle_fault(now, Place::new(IpAddr::from(number.to_be_bytes())));
            faults.handle_cause(now, &"x".repeat(number as usize % 200));
            faults.note_proxy(now, Place::new(IpAddr::from(number.to_be_bytes())));
        }
        assert_eq!((faults.places.len(), faults.causes.len()), (MAX_PLACES, MAX_CAUSES));
        assert_eq!(faults.proxies.len(), MAX_PLACES);
        assert!(faults.places.contains_key(&place("0.0.19.135")), "the last is there");
        assert!(!faults.places.contains_key(&place("0.0.0.0")), "the first is not");
    }
}
