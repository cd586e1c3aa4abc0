//! The tiles of a page: the size reported to the server, and what is seen in them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::media::{Camera, Source, Stamp};
use crate::sim::Sim;

impl Sim {
    /// Joins with simulcast cameras and microphones, and hides all video of the others.
    pub fn join_looking_away(&mut self, names: &[&str]) {
        for name in names {
            self.join_with_layers(name);
        }
        self.run(Duration::from_millis(800));
        for viewer in names {
            names.iter().filter(|name| *name != viewer).for_each(|publisher| self.show(viewer, publisher, 0));
        }
    }

    /// A viewer joins without publishing and shows all publishers on tiles of this height.
    pub fn watch_tiles(&mut self, viewer: &str, publishers: &[&str], height: u32) {
        self.watch(viewer);
        self.run(Duration::from_millis(400));
        publishers.iter().for_each(|publisher| self.show(viewer, publisher, height));
    }

    /// Shows the publisher's camera on a tile of this height, in device pixels.
    pub fn show(&mut self, viewer: &str, publisher: &str, height: u32) {
        self.view(viewer, publisher, Camera, height, 0);
    }

    /// The same for any video, with a priority (higher is more important).
    pub fn view(&mut self, viewer: &str, publisher: &str, source: Source, height: u32, priority: u32) {
        let mid = self.line_of(viewer, publisher, source);
        let view = json!({"mid": mid, "width": height * 16 / 9, "height": height, "priority": priority});
        self.say(viewer, &json!({"event": "view", "views": [view]}));
    }

    /// The mid on which the viewer receives the source.
    pub fn line_of(&self, viewer: &str, publisher: &str, source: Source) -> String {
        let id = &self.browser(publisher).page.id;
        let line = self.browser(viewer).page.received().find(|track| track.id == *id && track.source == source);
        line.unwrap_or_else(|| panic!("{viewer} has no m-line with {publisher}'s {source:?}")).mid.clone()
    }

    /// The last `quality` entry for the source.
    pub fn quality(&self, viewer: &str, publisher: &str, source: Source) -> Option<&Value> {
        let mid = self.line_of(viewer, publisher, source);
        let messages = self.browser(viewer).page.qualities.iter().rev();
        let tracks = messages.flat_map(|(_, message)| message["tracks"].as_array().expect("tracks"));
        tracks.into_iter().find(|track| track["mid"] == *mid)
    }

    /// What was shown or played since `since`.
    pub fn seen_since(&self, receiver: &str, publisher: &str, source: Source, since: Instant) -> &[(Instant, Stamp)] {
        let seen = self.watched(receiver, publisher, source).map_or(&[][..], |watched| &watched.seen);
        &seen[seen.partition_point(|(at, _)| *at < since)..]
    }

    /// The longest time since `since` without a new picture or audio packet, up to now.
    pub fn longest_gap(&self, receiver: &str, publisher: &str, source: Source, since: Instant) -> Duration {
        self.gaps(receiver, publisher, source, since).max().unwrap_or_default()
    }

    /// The times between what was shown or played since `since`, up to now.
    pub fn gaps(
        &self,
        receiver: &str,
        publisher: &str,
        source: Source,
        since: Instant,
    ) -> impl Iterator<Item = Duration> {
        let seen = self.seen_since(receiver, publisher, source, since).iter().map(|(at, _)| *at);
        let ends: Vec<_> = [since].into_iter().chain(seen).chain([self.now]).collect();
        (1..ends.len()).map(move |index| ends[index] - ends[index - 1])
    }

    /// Number of pictures since `since`, by temporal layer.
    pub fn pictures(&self, viewer: &str, publisher: &str, source: Source, since: Instant) -> [usize; 3] {
        let seen = self.seen_since(viewer, publisher, source, since);
        [0, 1, 2].map(|temporal| seen.iter().filter(|(_, stamp)| stamp.temporal == temporal).count())
    }

    /// Bits per second of media received since `since`, without duplicates.
    pub fn received(&self, receiver: &str, since: Instant) -> u64 {
        let received = self.browser(receiver).watched.values().flat_map(|watched| &watched.came);
        let bytes: usize = received.filter(|(at, _)| *at >= since).map(|(_, bytes)| bytes).sum();
        (bytes as u64) * 8_000 / (self.now - since).as_millis() as u64
    }
}
