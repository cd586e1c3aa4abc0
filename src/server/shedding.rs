//! Shedding: reduces service under overload, first layers, then video of participants who do not speak, then joins.

use log::{info, warn};

use super::Server;
use crate::id::{PeerId, TrackId};
use crate::load::Stage;
use crate::media::subscribe::allocation::wish::Means;
use crate::room::seats::PINNED;
use crate::track::Source;

/// Participants whose allocation is queued in one turn after a change of the stage. More delay the packets of that
/// turn; fewer delay the relief.
const REALLOCATIONS: usize = 32;

impl Server {
    /// Takes a measurement of the loop's load, and starts or ends a shedding stage.
    pub(super) fn on_load(&mut self, share: f64) {
        let before = self.load.stage();
        if !self.load.handle_share(self.now, share) {
            return;
        }
        let (stage, percent) = (self.load.stage(), self.load.percent());
        self.stats.stages += 1;
        match stage > before {
            true => warn!("load {percent} %: {} shed", stage.name()),
            false => info!("load {percent} %: {} restored", before.name()),
        }
        if before.min(stage) < Stage::Videos {
            self.reallocating = Some(0);
        }
    }

    /// Queues the allocation of the next participants after a change of the stage.
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

    /// Queues the allocation of a room whose speakers have changed, if silent participants' video is shed.
    pub(super) fn reallocate_speakers(&mut self, room: &str) {
        if self.load.stage() >= Stage::Videos {
            for id in self.others(room).collect::<Vec<_>>() {
                self.queue_allocation(id);
            }
        }
    }

    /// What the load allows to send of a video that the page shows with this priority.
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
