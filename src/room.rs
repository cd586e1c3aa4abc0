//! A room is one conference: its participants, their tracks, and the chat. It decides without I/O, and refers to peers
//! by id only.

pub mod seats;
pub mod speakers;

use std::collections::VecDeque;
use std::time::Instant;

use str0m::media::Mid;

use crate::bucket::Bucket;
use crate::id::{IDENTITY_BYTES, PeerId};
use crate::media::publish::history::History;
use crate::media::publish::layers::Layers;
use crate::room::speakers::Speakers;
use crate::text::{NAME_CHARS, ROOM_CHARS};
use crate::track::{Kind, Source};

/// Chat messages that one participant may send, per second and in a burst.
pub const CHAT_RATE: f64 = 10.0;
const CHAT_BURST: f64 = 20.0;

/// Maximum size of a chat message, in bytes of UTF-8.
pub const CHAT_BYTES: usize = 4096;

/// How many identities of removed participants, and how many resume secrets, a room remembers. Above that the oldest
/// are forgotten.
const REMEMBERED: usize = 1_000;

/// One conference. It ends, with all its state, when the last participant leaves.
#[derive(Default)]
pub struct Room {
    /// In the order of joining.
    members: Vec<PeerId>,
    is_locked: bool,
    /// Identities of the participants removed by a moderator.
    removed: VecDeque<String>,
    /// Resume secrets of the participants who left since the room was locked and were not removed: a lock must not keep
    /// out a participant who lost the connection.
    returning: VecDeque<String>,
    /// Who speaks, and whose microphones are forwarded.
    pub speakers: Speakers,
    history: VecDeque<ChatLine>,
    next_line: u64,
}

/// One chat message.
#[derive(Clone, Debug)]
pub struct ChatLine {
    /// Number of the message within the room.
    pub id: u64,
    /// The text.
    pub message: String,
    /// Local time of sending, as `HH:MM:SS`.
    pub time: String,
    /// Id of the sender.
    pub from: String,
    /// Name of the sender at that time.
    pub name: String,
}

/// One participant of a room.
pub struct Participant {
    /// Random public id. A resumed participant keeps it.
    pub id: String,
    /// The name shown, as [`crate::text::participant_name`] returns it.
    pub name: String,
    /// The secret with which a new connection may take over from this one.
    pub resume: String,
    /// The room's name.
    pub room: String,
    /// Sources that the participant muted.
    pub muted: Vec<Source>,
    /// True after a moderator muted the microphone, until the participant unmutes it.
    pub is_silenced: bool,
    /// The published tracks.
    pub tracks: Vec<Track>,
    /// Rate limit of chat messages.
    pub chat: Bucket,
}

/// One published track.
pub struct Track {
    /// The publisher's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// Which of the publisher's sources it is.
    pub source: Source,
    /// Its layers, and what is received of each.
    pub layers: Layers,
    /// Its last packets, for retransmission.
    pub history: History,
    /// The current subscribers.
    pub subscribers: Vec<Subscriber>,
}

/// One subscriber of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The subscribing peer.
    pub peer: PeerId,
    /// Index of the subscriber's m-line that carries the track.
    pub line: usize,
    /// Bit set of the layers of which the subscriber needs every packet.
    pub layers: u8,
    /// How many layers, counted from the smallest, the subscriber's view can use.
    pub wanted: u8,
}

impl Room {
    /// Upper bound of the memory of one room in bytes, with `members` participants and `lines` kept chat messages,
    /// without the participants' own memory.
    pub const fn max_bytes(members: usize, lines: usize) -> usize {
        let line = size_of::<ChatLine>() + CHAT_BYTES + 4 * NAME_CHARS;
        let remembered = 2 * REMEMBERED * (size_of::<String>() + IDENTITY_BYTES);
        size_of::<Self>() + 8 * ROOM_CHARS + members * Speakers::BYTES_EACH + 2 * lines * line + remembered
    }

    /// Adds a participant.
    pub fn join(&mut self, peer: PeerId) {
        self.members.push(peer);
    }

    /// Removes a participant.
    pub fn leave(&mut self, peer: PeerId) {
        self.members.retain(|member| *member != peer);
        self.speakers.forget(peer);
    }

    /// Locks or unlocks the room, and forgets the resume secrets kept for a lock.
    pub fn set_locked(&mut self, locked: bool) {
        self.is_locked = locked;
        self.returning.clear();
    }

    /// Lets the holder of a resume secret return to the room while it is locked. No effect on an unlocked room.
    pub fn expect_back(&mut self, resume: &str) {
        if self.is_locked {
            remember(&mut self.returning, resume);
        }
    }

    /// Uses up a resume secret: its holder has returned.
    pub fn take_returning(&mut self, resume: &str) {
        self.returning.retain(|other| other != resume);
    }

    /// Keeps a removed participant out: forgets the resume secret, and remembers the identity.
    pub fn turn_away(&mut self, resume: &str, identity: Option<&str>) {
        self.take_returning(resume);
        if let Some(identity) = identity.filter(|identity| !self.is_removed(identity)) {
            remember(&mut self.removed, identity);
        }
    }

    /// Adds a chat message, and drops the oldest ones above `keep`.
    pub fn chat(&mut self, from: &Participant, message: String, time: String, keep: usize) -> ChatLine {
        let line = ChatLine { id: self.next_line, message, time, from: from.id.clone(), name: from.name.clone() };
        self.next_line += 1;
        self.history.push_back(line.clone());
        while self.history.len() > keep {
            self.history.pop_front();
        }
        line
    }

    /// Returns the participants in the order of joining.
    pub fn members(&self) -> &[PeerId] {
        &self.members
    }

    /// Returns true if only moderators and returning participants may join.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Returns true if a participant with this identity was removed.
    pub fn is_removed(&self, identity: &str) -> bool {
        self.removed.iter().any(|removed| removed == identity)
    }

    /// Returns true if the holder of this resume secret may return to the locked room.
    pub fn is_returning(&self, resume: &str) -> bool {
        self.returning.iter().any(|returning| returning == resume)
    }

    /// Iterates over the last chat messages, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &ChatLine> {
        self.history.iter()
    }
}

impl Participant {
    /// Upper bound of the memory of one participant's names and tracks in bytes, without the packets. Each of `tracks`
    /// tracks has up to `subscribers` subscribers.
    pub const fn max_bytes(tracks: usize, subscribers: usize) -> usize {
        let names = 4 * (NAME_CHARS + ROOM_CHARS) + IDENTITY_BYTES;
        names + 2 * tracks * (size_of::<Track>() + subscribers * size_of::<Subscriber>())
    }

    /// Creates a participant without tracks.
    pub fn new(now: Instant, id: String, name: String, resume: String, room: String) -> Self {
        Self {
            id,
            name,
            resume,
            room,
            muted: Vec::new(),
            is_silenced: false,
            tracks: Vec::new(),
            chat: Bucket::new(now, CHAT_RATE, CHAT_BURST),
        }
    }

    /// Records whether the participant muted a source. Returns false if nothing changed.
    pub fn mute(&mut self, source: Source, muted: bool) -> bool {
        let was = self.muted.contains(&source);
        if muted && !was {
            self.muted.push(source);
        } else if !muted {
            self.muted.retain(|other| *other != source);
        }
        was != muted
    }

    /// Returns the track on one of the publisher's m-lines.
    pub fn track(&self, mid: Mid) -> Option<&Track> {
        self.tracks.iter().find(|track| track.mid == mid)
    }

    /// Like `track`, mutable.
    pub fn track_mut(&mut self, mid: Mid) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.mid == mid)
    }
}

impl Track {
    /// Creates a track without subscribers.
    pub fn new(mid: Mid, kind: Kind, source: Source) -> Self {
        Self { mid, kind, source, layers: Layers::default(), history: History::default(), subscribers: Vec::new() }
    }
}

fn remember(list: &mut VecDeque<String>, text: &str) {
    list.push_back(text.to_owned());
    if list.len() > REMEMBERED {
        list.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_returning_participants_are_remembered_up_to_a_limit() {
        let mut room = Room::default();
        room.expect_back("left an unlocked room");
        assert!(!room.is_returning("left an unlocked room"));
        room.set_locked(true);
        for number in 0..=REMEMBERED {
            room.expect_back(&format!("s{number}"));
            room.turn_away("", Some(&format!("i{number}")));
            room.turn_away("", Some("removed repeatedly"));
        }
        for (number, kept) in [(0, false), (1, true), (REMEMBERED, true)] {
            assert_eq!(room.is_returning(&format!("s{number}")), kept, "{number}");
        }
        for (number, kept) in [(0, false), (1, false), (2, true), (REMEMBERED, true)] {
            assert_eq!(room.is_removed(&format!("i{number}")), kept, "{number}");
        }
        room.take_returning("s1");
        room.turn_away("s2", None);
        assert!(!room.is_returning("s1") && !room.is_returning("s2") && room.is_returning("s3"));
        room.set_locked(false);
        assert!(!room.is_returning("s3") && room.is_removed("i2"));
    }

    #[test]
    fn chat_history_is_bounded_and_numbered() {
        let now = Instant::now();
        let text = |s: &str| s.to_owned();
        let ann = Participant::new(now, text("1"), text("Ann"), text("s"), text("r"));
        let mut room = Room::default();
        for line in 0..10 {
            room.chat(&ann, line.to_string(), "00:00:00".to_owned(), 3);
        }
        let kept: Vec<_> = room.history().map(|line| (line.id, line.message.as_str())).collect();
        assert_eq!(kept, [(7, "7"), (8, "8"), (9, "9")]);
    }
}
