//! A tile of a page: how large it is told to be, and what is seen in it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::media::{Camera, Source, Stamp};
use crate::sim::Sim;

impl Sim {
    /// They come with cameras in layers and with sound, and look at nobody.
    pub fn join_looking_away(&mut self, names: &[&str]) {
        for name in names {
            self.join_with_layers(name);
        }
        self.run(Duration::from_millis(800));
        for viewer in names {
            names.iter().filter(|name| *name != viewer).for_each(|publisher| self.show(viewer, publisher, 0));
        }
    }

    /// Somebody comes with nothing to send, and shows them all on tiles of so many lines.
    pub fn watch_tiles(&mut self, viewer: &str, publishers: &[&str], height: u32) {
        self.watch(viewer);
        self.run(Duration::from_millis(400));
        publishers.iter().for_each(|publisher| self.show(viewer, publisher, height));
    }

    /// From now on somebody's camera is shown on so many device pixels from top to bottom.
    pub fn show(&mut self, viewer: &str, publisher: &str, height: u32) {
        self.view(viewer, publisher, Camera, height, 0);
    }

    /// The same of any video; a higher priority is more important.
    pub fn view(&mut self, viewer: &str, publisher: &str, source: Source, height: u32, priority: u32) {
        let mid = self.line_of(viewer, publisher, source);
        let view = json!({"mid": mid, "width": height * 16 / 9, "height": height, "priority": priority});
        self.say(viewer, &json!({"event": "view", "views": [view]}));
    }

    /// The m-line on which something comes.
    pub fn line_of(&self, viewer: &str, publisher: &str, source: Source) -> String {
        let id = &self.browser(publisher).page.id;
        let line = self.browser(viewer).page.received().find(|track| track.id == *id && track.source == source);
        line.unwrap_or_else(|| panic!("{viewer} has no line with {publisher}'s {source:?}")).mid.clone()
    }

    /// What was last told of somebody's video.
    pub fn quality(&self, viewer: &str, publisher: &str, source: Source) -> Option<&Value> {
        let mid = self.line_of(viewer, publisher, source);
        let told = self.browser(viewer).page.qualities.iter().rev();
        let tracks = told.flat_map(|(_, message)| message["tracks"].as_array().expect("tracks"));
        tracks.into_iter().find(|track| track["mid"] == *mid)
    }

    /// What was shown or played since then.
    pub fn seen_since(&self, receiver: &str, publisher: &str, source: Source, since: Instant) -> &[(Instant, Stamp)] {
        let seen = self.watched(receiver, publisher, source).map_or(&[][..], |watched| &watched.seen);
        &seen[seen.partition_point(|(at, _)| *at < since)..]
    }

    /// The longest time since then without a new picture or sound, the one that is going on included.
    pub fn longest_gap(&self, receiver: &str, publisher: &str, source: Source, since: Instant) -> Duration {
        self.gaps(receiver, publisher, source, since).max().unwrap_or_default()
    }

    /// The times between what was shown or played since then.
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

    /// Pictures since then, by temporal layer.
    pub fn pictures(&self, viewer: &str, publisher: &str, source: Source, since: Instant) -> [usize; 3] {
        let seen = self.seen_since(viewer, publisher, source, since);
        [0, 1, 2].map(|temporal| seen.iter().filter(|(_, stamp)| stamp.temporal == temporal).count())
    }

    /// Bits a second of media that came since then, no two packets alike.
    pub fn received(&self, receiver: &str, since: Instant) -> u64 {
        let came = self.browser(receiver).watched.values().flat_map(|watched| &watched.came);
        let bytes: usize = came.filter(|(at, _)| *at >= since).map(|(_, bytes)| bytes).sum();
        (bytes as u64) * 8_000 / (self.now - since).as_millis() as u64
    }
}
