//! The table of participants by `PeerId`, and the state of one participant.

use std::time::Instant;

use rustc_hash::FxHashMap;
use str0m::media::MediaKind;

use crate::id::{ConnId, IDENTITY_BYTES, PeerId, TrackId};
use crate::media::peer::Peer;
use crate::network::Network;
use crate::room::seats::Seats;
use crate::room::{Published, Room, Track};
use crate::server::conns::Conns;
use crate::server::forwarding::outbox::Outbox;
use crate::server::presence::budget::MessageBudget;
use crate::text::{NAME_CHARS, ROOM_CHARS};
use crate::web::signal::ServerMessage;
use crate::web::token::Grant;
use crate::web::websocket::encode_text;

/// All participants. A `PeerId` is an index with a generation, so that a stale id finds nothing.
#[derive(Default)]
pub struct Participants {
    slots: Vec<Slot>,
    free: Vec<u32>,
    resumes: FxHashMap<String, PeerId>,
}

/// One participant: a person or program in a room.
pub struct Participant {
    /// Random public id. A resumed participant keeps it.
    pub id: String,
    /// The name shown, as [`crate::text::participant_name`] returns it.
    pub name: String,
    /// The secret that lets another connection continue as this participant.
    pub resume: String,
    /// The room's name.
    pub room: String,
    /// What the participant's token grants.
    pub grant: Grant,
    pub conn: ConnId,
    /// The network that the participant counts for.
    pub network: Option<Network>,
    /// Whether it has sent a message. If so, its client has received `welcome` and knows the `resume` secret.
    pub has_sent_message: bool,
    /// Until when a disconnected participant may return; `None` while it has a connection.
    pub absent_until: Option<Instant>,
    pub room_state: RoomState,
    /// Whether the client was notified that it sends packets that are too large.
    pub has_reported_oversized: bool,
    pub budget: MessageBudget,
    pub published: Published,
    pub peer: Peer,
    pub transport: Transport,
    /// The publishers that have a seat with this subscriber.
    pub seats: Seats,
    pub outbox: Outbox,
    pub queued: Queued,
}

/// The state of a participant in its room, apart from media. A participant that returns keeps it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoomState {
    /// The number of its raised hand: the lowest was raised first.
    pub hand: Option<u64>,
    /// A moderator has made it a moderator.
    pub is_promoted: bool,
}

/// The state of a participant's media transport.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Whether the client supports a fresh transport, with a new `RTCPeerConnection`, on the same WebSocket.
    pub can_renew: bool,
    /// Whether the first transport has not connected yet; counts towards `--max-pending`.
    pub is_pending: bool,
    /// Whether media is lost: it has disconnected or failed to connect. The room was notified of it.
    pub is_lost: bool,
    /// The number of consecutive fresh transports that did not stay connected.
    pub attempts: u32,
    /// The number of consecutive failed handshakes whose cause a third party may have forged.
    pub unauthenticated_failures: u32,
    /// When the current transport connected.
    pub connected_at: Option<Instant>,
}

/// Work on one participant that is done once in a turn, however often it is queued.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Pass the time to the peer and drain it.
    Drive,
    /// Process an answer, or make a due offer.
    Negotiate,
    /// Compute which layer of each track to send to the participant.
    Allocate,
    /// Send changes of quality.
    ReportQuality,
}

/// The set of `Work` that is queued for one participant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued(u8);

#[derive(Default)]
struct Slot {
    generation: u32,
    participant: Option<Box<Participant>>,
}

impl Participants {
    pub fn get(&self, id: PeerId) -> Option<&Participant> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.participant.as_deref().filter(|_| slot.generation == id.generation)
    }

    pub fn get_mut(&mut self, id: PeerId) -> Option<&mut Participant> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.participant.as_deref_mut().filter(|_| slot.generation == id.generation)
    }

    /// Borrows two different participants.
    pub fn pair_mut(&mut self, one: PeerId, other: PeerId) -> Option<(&mut Participant, &mut Participant)> {
        let generations = [one.generation, other.generation];
        let [one, other] = self.slots.get_disjoint_mut([one.slot as usize, other.slot as usize]).ok()?;
        let are_current = [one.generation, other.generation] == generations;
        Some((one.participant.as_deref_mut().filter(|_| are_current)?, other.participant.as_deref_mut()?))
    }

    pub fn insert(&mut self, participant: Participant) -> PeerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        let id = PeerId { slot, generation: entry.generation };
        self.resumes.insert(participant.resume.clone(), id);
        entry.participant = Some(Box::new(participant));
        id
    }

    pub fn remove(&mut self, id: PeerId) -> Option<Participant> {
        self.get(id)?;
        let slot = &mut self.slots[id.slot as usize];
        let participant = *slot.participant.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.resumes.remove(&participant.resume);
        Some(participant)
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The participant with this resume secret.
    pub fn find_resume(&self, secret: &str) -> Option<PeerId> {
        self.resumes.get(secret).copied()
    }

    /// Number of resume secrets.
    pub fn resumes(&self) -> usize {
        self.resumes.len()
    }

    /// Number of slots, used or free.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The participants in the `count` slots starting at `first`.
    pub fn page(&self, first: usize, count: usize) -> impl Iterator<Item = PeerId> {
        let slots = self.slots.iter().enumerate().skip(first).take(count);
        let taken = slots.filter(|(_, slot)| slot.participant.is_some());
        taken.map(|(index, slot)| PeerId { slot: index as u32, generation: slot.generation })
    }

    /// The participants of a room.
    pub fn of(&self, room: &Room) -> impl Iterator<Item = (PeerId, &Participant)> {
        room.participants().iter().filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// The participants of a room except `id`.
    pub fn others(&self, room: &Room, id: PeerId) -> impl Iterator<Item = (PeerId, &Participant)> {
        self.of(room).filter(move |(other, _)| *other != id)
    }

    /// Sends a message to all participants of a room but `except`. It is serialised and framed once.
    pub fn broadcast(
        &self,
        now: Instant,
        room: &Room,
        except: Option<PeerId>,
        message: &ServerMessage<'_>,
        conns: &mut Conns,
    ) {
        let frame = encode_text(&message.to_json());
        for (_, participant) in self.of(room).filter(|(id, _)| Some(*id) != except) {
            if let Some(conn) = conns.touch(participant.conn) {
                conn.send_encoded(now, &frame);
            }
        }
    }

    /// The public ids of those whose hands are raised, in the order of raising.
    pub fn hands(&self, ids: impl Iterator<Item = PeerId>) -> Vec<&str> {
        let participants = ids.filter_map(|id| self.get(id));
        let raised = participants.filter_map(|participant| Some((participant.room_state.hand?, &*participant.id)));
        let mut raised: Vec<(u64, &str)> = raised.collect();
        raised.sort_unstable();
        raised.into_iter().map(|(_, id)| id).collect()
    }

    /// A published track.
    pub fn track(&self, track: TrackId) -> Option<&Track> {
        self.get(track.publisher)?.published.track(track.mid)
    }

    /// Like `track`, mutable.
    pub fn track_mut(&mut self, track: TrackId) -> Option<&mut Track> {
        self.get_mut(track.publisher)?.published.track_mut(track.mid)
    }

    /// The tracks that a participant publishes.
    pub fn tracks_of(&self, id: PeerId) -> impl Iterator<Item = (TrackId, MediaKind)> {
        let tracks = self.get(id).into_iter().flat_map(|participant| &participant.published.tracks);
        tracks.map(move |track| (TrackId { publisher: id, mid: track.mid }, track.kind.into()))
    }
}

impl Participant {
    /// Upper bound of the memory in bytes, without media and the connection, of a participant that publishes at most
    /// `tracks` tracks in a room with `others` other participants.
    pub const fn max_bytes(tracks: usize, others: usize) -> usize {
        let names = 4 * (NAME_CHARS + ROOM_CHARS) + IDENTITY_BYTES;
        size_of::<Self>() + names + Published::max_bytes(tracks, others) + Seats::max_bytes(others)
    }
}

impl Work {
    /// Number of variants.
    pub const COUNT: usize = Self::ReportQuality as usize + 1;
}

impl Queued {
    /// Adds work. Returns false if it was queued already.
    pub fn insert(&mut self, work: Work) -> bool {
        let is_new = !self.contains(work);
        self.0 |= 1 << work as u8;
        is_new
    }

    pub fn remove(&mut self, work: Work) {
        self.0 &= !(1 << work as u8);
    }

    pub fn contains(self, work: Work) -> bool {
        self.0 & 1 << work as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::config::VideoCodec;
    use crate::id::Names;
    use crate::media::negotiation::profile::Profile;
    use crate::media::transport::allowance::Allowance;

    /// Creates participants whose `resume` secrets are their names.
    fn create(names: &[&str]) -> Vec<Participant> {
        let now = Instant::now();
        let wall = Wall { at: now, unix: std::time::Duration::ZERO, utc_offset_secs: 0 };
        let profile = Profile::new(&[VideoCodec::Vp8], &[], wall);
        let mut random = Names::new([1; 32]);
        let create = |name: &&str| Participant {
            id: (*name).to_owned(),
            name: (*name).to_owned(),
            resume: (*name).to_owned(),
            room: "room".to_owned(),
            grant: Grant::OPEN,
            conn: ConnId(0),
            network: None,
            has_sent_message: false,
            absent_until: None,
            room_state: RoomState::default(),
            has_reported_oversized: false,
            budget: MessageBudget::new(now),
            published: Published::default(),
            peer: Peer::new(now, &profile, Allowance::new(now, 1, 1), false, &mut random),
            transport: Transport {
                can_renew: false,
                is_pending: true,
                is_lost: false,
                attempts: 0,
                unauthenticated_failures: 0,
                connected_at: None,
            },
            seats: Seats::new(now),
            outbox: Outbox::default(),
            queued: Queued::default(),
        };
        names.iter().map(create).collect()
    }

    #[test]
    fn an_id_finds_its_participant_only() {
        let mut participants = Participants::default();
        let ids: Vec<PeerId> = create(&["ann", "bob"]).into_iter().map(|it| participants.insert(it)).collect();
        let [ann, bob] = ids[..] else { panic!("two ids") };
        assert_eq!(participants.find_resume("bob"), Some(bob));
        assert!(participants.pair_mut(ann, bob).is_some_and(|(one, other)| one.name == "ann" && other.name == "bob"));
        assert!(participants.pair_mut(ann, ann).is_none(), "one participant is not a pair");
        assert!(participants.remove(ann).is_some_and(|it| it.name == "ann") && participants.remove(ann).is_none());
        assert_eq!((participants.len(), participants.page(0, 9).collect::<Vec<_>>()), (1, vec![bob]));
        let cy = create(&["cy"]).pop().map(|it| participants.insert(it)).expect("one participant");
        assert_eq!((cy.slot, cy.generation), (ann.slot, ann.generation + 1), "the slot is used again");
        assert!(participants.get(ann).is_none() && participants.get_mut(ann).is_none());
        assert!(participants.pair_mut(ann, bob).is_none() && participants.pair_mut(bob, ann).is_none());
        assert!(participants.remove(ann).is_none() && participants.get(cy).is_some_and(|it| it.name == "cy"));
        assert_eq!((participants.find_resume("ann"), participants.find_resume("cy")), (None, Some(cy)));
        assert_eq!((participants.slots(), participants.page(1, 9).collect::<Vec<_>>()), (2, vec![bob]));
        let mut room = Room::new(Instant::now());
        [bob, cy, ann].into_iter().for_each(|id| room.join(id));
        assert_eq!(participants.of(&room).map(|(id, _)| id).collect::<Vec<_>>(), [bob, cy]);
        assert_eq!(participants.others(&room, bob).map(|(id, _)| id).collect::<Vec<_>>(), [cy]);
    }

    #[test]
    fn work_is_queued_once() {
        let mut queued = Queued::default();
        assert!(queued.insert(Work::Drive) && !queued.insert(Work::Drive) && queued.insert(Work::ReportQuality));
        queued.remove(Work::Drive);
        assert!(
            queued.insert(Work::Drive) && queued.contains(Work::ReportQuality) && !queued.contains(Work::Negotiate)
        );
    }
}
