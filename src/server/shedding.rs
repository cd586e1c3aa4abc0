//! What is given up where there is too much to do: layers, then silent people's video, then new people.

use log::{info, warn};

use super::Server;
use crate::id::PeerId;
use crate::load::Stage;
use crate::media::allocation::Means;
use crate::media::negotiation::TrackId;
use crate::room::seats::PINNED;
use crate::track::Source;

/// Slots of members that are looked at in a turn when another stage begins. More delay the packets of that turn, fewer
/// the relief.
const REALLOCATIONS: usize = 32;

impl Server {
    /// How busy the loop was.
    pub(super) fn on_load(&mut self, share: f64) {
        let before = self.load.stage();
        if !self.load.handle_share(self.now, share) {
            return;
        }
        let (stage, percent) = (self.load.stage(), self.load.percent());
        self.stats.stages += 1;
        match stage > before {
            true => warn!("{percent} % of the core is used: {} given up", stage.name()),
            false => info!("{percent} % of the core is used: {} back", before.name()),
        }
        if before.min(stage) < Stage::Videos {
            self.reallocating = Some(0);
        }
    }

    /// Lets some of those get what the load allows for whom that has changed.
    pub(super) fn reallocate(&mut self) {
        let Some(first) = self.reallocating else {
            return;
        };
        let end = self.slots.len().min(first + REALLOCATIONS);
        for slot in first..end {
            let generation = self.slots[slot].generation;
            self.queue_allocation(PeerId { slot: slot as u32, generation });
        }
        self.reallocating = (end < self.slots.len()).then_some(end);
    }

    /// Somebody else speaks in a room: whose video is sent may be somebody else's.
    pub(super) fn reallocate_speakers(&mut self, room: &str) {
        if self.load.stage() >= Stage::Videos {
            for id in self.others(room).collect::<Vec<_>>() {
                self.queue_allocation(id);
            }
        }
    }

    /// What can be sent of a video, where a page shows it with this priority.
    pub(super) fn means(&self, track: TrackId, priority: u32) -> Means {
        let stage = self.load.stage();
        if stage == Stage::Nothing {
            return Means::All;
        }
        let Some(publisher) = self.member(track.publisher).map(|member| &member.participant) else {
            return Means::All;
        };
        let is_screen = publisher.track(track.mid).is_some_and(|track| track.source == Source::Screen);
        let room = self.rooms.get(&publisher.room);
        let has_word = room.is_some_and(|room| room.speakers.dominant() == Some(track.publisher));
        let is_kept = stage < Stage::Videos || is_screen || has_word || priority >= PINNED;
        if is_kept { Means::Least } else { Means::Nothing }
    }
}
