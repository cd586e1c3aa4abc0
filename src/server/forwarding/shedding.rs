//! Shedding: under overload, new participants are refused, then the video of some rooms is reduced. Sound and chat
//! continue, and all other rooms keep all of their video.
//!
//! Young rooms are reduced before old ones, and of about the same age the most expensive first. A room keeps its screens,
//! pinned participants and the last speaker, and its viewers are notified (`quality`). Publishers of video that no
//! subscriber receives are asked to stop sending it (`layers`).

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::id::{PeerId, TrackId};
use crate::limits::load::{Load, Step};
use crate::media::subscribe::allocation::wish::LoadCap;
use crate::room::seats::PINNED;
use crate::room::{Room, Shed};
use crate::server::Server;
use crate::server::participants::{Participants, Work};
use crate::track::Source;

/// Number of participants whose allocation is queued in one turn after a room was reduced or restored. A higher number
/// delays the packets of that turn; a lower one delays the relief.
const REALLOCATIONS: usize = 32;

/// The work for an audio stream in relation to a video stream: 50 of 120 packets per second.
const AUDIO_WORK: f64 = 0.4;

/// A room with more video than this many times the work to save loses only upper layers at first: these are most of its
/// bytes, but at most half of its packets.
const LARGE: f64 = 2.0;

/// The ages that divide rooms into groups.
const AGES: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3_600)];

/// The load, and the rooms that are reduced because of it.
pub struct Shedding {
    load: Load,
    /// The names of the reduced rooms, in the order in which they were reduced.
    rooms: Vec<String>,
    /// Participants whose allocation has to follow a change of their room.
    pending: VecDeque<PeerId>,
}

/// The streams that a room's subscribers receive, in work units, where one is the work for a video stream.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    audio: f64,
    /// Video that is sent now.
    video: f64,
    /// Video that is not.
    missing: f64,
}

impl Shedding {
    pub fn new(now: Instant) -> Self {
        Self { load: Load::new(now), rooms: Vec::new(), pending: VecDeque::new() }
    }

    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What is shed: 0 nothing, 1 new participants, 2 video of some rooms.
    pub fn stage(&self) -> usize {
        if self.rooms.is_empty() { usize::from(self.refuses_joins()) } else { 2 }
    }

    /// The name of the stage.
    pub fn stage_name(&self) -> &'static str {
        ["nothing", "joins", "videos"][self.stage()]
    }

    /// The number of rooms that are reduced.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Whether new participants are refused.
    pub fn refuses_joins(&self) -> bool {
        self.load.refuses_joins()
    }

    /// Whether the next turn has more participants to reallocate.
    pub fn has_next(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl Server {
    /// Takes a measurement of the loop's load, and takes the step that follows from it.
    pub(in crate::server) fn on_load(&mut self, share: f64) {
        let rooms = &self.rooms;
        // Forget rooms that have ended.
        self.shedding.rooms.retain(|name| rooms.get(name).is_some_and(|room| room.shed > Shed::Nothing));
        let is_shed = !self.shedding.rooms.is_empty();
        match self.shedding.load.handle_share(self.now, share, is_shed) {
            Some(Step::Shed(part)) => self.shed(part),
            Some(Step::Restore(part)) => self.restore(part),
            None => {}
        }
    }

    /// Reduces rooms until this part of the present work is saved, or no video is left.
    fn shed(&mut self, part: f64) {
        let age = |room: &Room| AGES.iter().filter(|age| self.now >= room.began + **age).count();
        let streams = |room: &Room| Streams::of(room, &self.participants);
        let mut found: Vec<_> = self.rooms.iter().map(|(name, room)| (name, room, streams(room))).collect();
        let needed = part * found.iter().map(|(.., streams)| streams.work()).sum::<f64>();
        found.retain(|(_, room, streams)| room.shed < Shed::Videos && streams.video > 0.0);
        // Rooms that have already lost their upper layers come first.
        found.sort_by_key(|(_, room, streams)| (Reverse(room.shed), age(room), Reverse(streams.video as u64)));
        let mut saved = 0.0;
        let mut steps = Vec::new();
        for (name, room, streams) in found {
            if saved >= needed {
                break;
            }
            // If a part of a room's video is enough, its upper layers go first.
            let is_large = room.shed == Shed::Nothing && streams.video > LARGE * (needed - saved);
            saved += if is_large { needed - saved } else { streams.video };
            steps.push((name.clone(), if is_large { Shed::Layers } else { Shed::Videos }));
        }
        if steps.is_empty() {
            return;
        }
        for (name, shed) in &steps {
            self.set_shed(name, *shed);
        }
        self.stats.stages += 1;
        let (percent, reduced, rooms) = (self.shedding.load.percent(), self.shedding.rooms.len(), self.rooms.len());
        warn!("load {percent} %: the video of {reduced} of {rooms} rooms is reduced ({} in this step)", steps.len());
    }

    /// Restores the most recently reduced rooms first, up to this share of the core.
    fn restore(&mut self, part: f64) {
        let total: f64 = self.rooms.values().map(|room| Streams::of(room, &self.participants).work()).sum();
        let mut left = part * total / self.shedding.load.share().max(f64::EPSILON);
        let mut steps = Vec::new();
        for name in self.shedding.rooms.iter().rev() {
            let Some(room) = self.rooms.get(name) else {
                continue;
            };
            let missing = Streams::of(room, &self.participants).missing;
            let fits = missing <= left;
            if !fits && !steps.is_empty() {
                break;
            }
            left -= missing;
            // A room that may not fit gets only its smallest layers at first.
            let is_partial = !fits && room.shed == Shed::Videos;
            steps.push((name.clone(), if is_partial { Shed::Layers } else { Shed::Nothing }));
        }
        for (name, shed) in &steps {
            self.set_shed(name, *shed);
        }
        self.stats.stages += 1;
        let (percent, reduced) = (self.shedding.load.percent(), self.shedding.rooms.len());
        info!("load {percent} %: the video of {} rooms is restored, that of {reduced} is still reduced", steps.len());
    }

    fn set_shed(&mut self, name: &str, shed: Shed) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let rooms = &mut self.shedding.rooms;
        if room.shed == Shed::Nothing {
            rooms.push(name.to_owned());
        } else if shed == Shed::Nothing {
            rooms.retain(|other| other != name);
        }
        room.shed = shed;
        self.shedding.pending.extend(room.participants());
    }

    /// Queues the allocation of the next participants after a change of their rooms.
    pub(in crate::server) fn reallocate(&mut self) {
        let count = self.shedding.pending.len().min(REALLOCATIONS);
        for id in self.shedding.pending.drain(..count).collect::<Vec<PeerId>>() {
            self.queue(Work::Allocate, id);
        }
    }

    /// Returns the cap that the server's load puts on a video for a subscriber whose page shows it with this priority.
    pub(super) fn load_cap(&self, track: TrackId, priority: u32) -> LoadCap {
        let Some(publisher) = self.participants.get(track.publisher) else {
            return LoadCap::Unlimited;
        };
        let Some(room) = self.rooms.get(&publisher.room).filter(|room| room.shed > Shed::Nothing) else {
            return LoadCap::Unlimited;
        };
        let is_screen = publisher.published.track(track.mid).is_some_and(|track| track.source == Source::Screen);
        let is_dominant = room.speakers.dominant() == Some(track.publisher);
        let is_kept = room.shed < Shed::Videos || is_screen || is_dominant || priority >= PINNED;
        if is_kept { LoadCap::Reduced } else { LoadCap::Nothing }
    }
}

impl Streams {
    fn of(room: &Room, participants: &Participants) -> Self {
        let m_lines = participants.of(room).flat_map(|(_, participant)| participant.peer.sending.m_lines());
        m_lines.filter(|outgoing| outgoing.track.is_some()).fold(Self::default(), |mut streams, outgoing| {
            match (outgoing.is_audio(), outgoing.selected()) {
                (true, _) => streams.audio += AUDIO_WORK,
                (false, Some(_)) => streams.video += 1.0,
                (false, None) => streams.missing += 1.0,
            }
            streams
        })
    }

    fn work(&self) -> f64 {
        self.audio + self.video
    }
}
