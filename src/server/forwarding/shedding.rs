//! Shedding: reduces service under overload, first layers, then video of participants who do not speak, then joins.

use std::time::Instant;

use log::{info, warn};

use crate::id::{PeerId, TrackId};
use crate::limits::load::{Load, Stage};
use crate::media::subscribe::allocation::wish::LoadCap;
use crate::room::seats::PINNED;
use crate::server::Server;
use crate::server::participants::Work;
use crate::track::Source;

/// Number of participants whose allocation is queued in one turn after a change of the stage. A higher number delays
/// the packets of that turn; a lower one delays the relief.
const REALLOCATIONS: usize = 32;

/// The load, and the progress of applying its stage to the participants.
pub struct Shedding {
    load: Load,
    /// The next slot to reallocate after a change of the stage.
    next_slot: Option<usize>,
}

impl Shedding {
    pub fn new(now: Instant) -> Self {
        Self { load: Load::new(now), next_slot: None }
    }

    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Whether new participants are refused.
    pub fn refuses_joins(&self) -> bool {
        self.load.stage() == Stage::Joins
    }

    /// Whether cameras of participants who do not speak are not sent.
    pub fn prefers_speakers(&self) -> bool {
        self.load.stage() >= Stage::Videos
    }

    /// Whether the next turn has more participants to reallocate.
    pub fn has_next(&self) -> bool {
        self.next_slot.is_some()
    }
}

impl Server {
    /// Takes a measurement of the loop's load, and starts or ends a shedding stage.
    pub(in crate::server) fn on_load(&mut self, share: f64) {
        let load = &mut self.shedding.load;
        let before = load.stage();
        if !load.handle_share(self.now, share) {
            return;
        }
        let stage = load.stage();
        let percent = load.percent();
        self.stats.stages += 1;
        if stage > before {
            warn!("load {percent} %: {} shed", stage.name());
        } else {
            info!("load {percent} %: {} restored", before.name());
        }
        if before.min(stage) < Stage::Videos {
            self.shedding.next_slot = Some(0);
        }
    }

    /// Queues the allocation of the next participants after a change of the stage.
    pub(in crate::server) fn reallocate(&mut self) {
        let Some(first) = self.shedding.next_slot else {
            return;
        };
        let end = first + REALLOCATIONS;
        for id in self.participants.page(first, REALLOCATIONS).collect::<Vec<PeerId>>() {
            self.queue(Work::Allocate, id);
        }
        self.shedding.next_slot = (end < self.participants.slots()).then_some(end);
    }

    /// Returns the cap that the server's load puts on a video for a subscriber whose page shows it with this priority.
    pub(super) fn load_cap(&self, track: TrackId, priority: u32) -> LoadCap {
        let stage = self.shedding.load.stage();
        if stage == Stage::Nothing {
            return LoadCap::Unlimited;
        }
        let Some(publisher) = self.participants.get(track.publisher) else {
            return LoadCap::Unlimited;
        };
        let is_screen = publisher.published.track(track.mid).is_some_and(|track| track.source == Source::Screen);
        let room = self.rooms.get(&publisher.room);
        let is_dominant = room.is_some_and(|room| room.speakers.dominant() == Some(track.publisher));
        let is_kept = stage < Stage::Videos || is_screen || is_dominant || priority >= PINNED;
        if is_kept { LoadCap::Reduced } else { LoadCap::Nothing }
    }
}
