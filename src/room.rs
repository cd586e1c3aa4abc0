//! A room is a conference: who is in it, what they publish, and the chat. It decides, and names only ids.

pub mod seats;
pub mod speakers;

use std::collections::VecDeque;
use std::time::Instant;

use str0m::media::Mid;

use crate::bucket::Bucket;
use crate::id::{IDENTITY_BYTES, PeerId};
use crate::media::history::History;
use crate::media::layers::Layers;
use crate::room::speakers::Speakers;
use crate::text::{NAME_CHARS, ROOM_CHARS};
use crate::track::{Kind, Source};

/// Chat lines a second that one participant may write, and how many at once.
pub const CHAT_RATE: f64 = 10.0;
const CHAT_BURST: f64 = 20.0;

/// Bytes of UTF-8 in one chat line.
pub const CHAT_BYTES: usize = 4096;

/// Identities, or secrets, that a room remembers of those who are no longer in it. Of more the oldest are forgotten.
const REMEMBERED: usize = 1_000;

/// One conference. It ends, with all that it remembers, when nobody is in it.
#[derive(Default)]
pub struct Room {
    /// In the order of joining.
    members: Vec<PeerId>,
    is_locked: bool,
    /// Identities of those who were removed.
    removed: VecDeque<String>,
    /// Secrets of those who have left since it was locked, but were not removed: a lock is no reason to lose people to a
    /// bad network.
    returning: VecDeque<String>,
    /// Who speaks.
    pub speakers: Speakers,
    history: VecDeque<ChatLine>,
    next_line: u64,
}

/// One line of the chat.
#[derive(Clone, Debug)]
pub struct ChatLine {
    /// Grows by one for each line of the room.
    pub id: u64,
    /// The text.
    pub message: String,
    /// `HH:MM:SS`.
    pub time: String,
    /// Who wrote it.
    pub from: String,
    /// Their name then.
    pub name: String,
}

/// One person in a room.
pub struct Participant {
    /// Opaque name of this stay.
    pub id: String,
    /// As given, cleaned.
    pub name: String,
    /// The secret that replaces this connection by another.
    pub resume: String,
    /// The room's name.
    pub room: String,
    /// What they muted.
    pub muted: Vec<Source>,
    /// A moderator muted the microphone, and it was not unmuted since.
    pub is_silenced: bool,
    /// What they publish.
    pub tracks: Vec<Track>,
    /// Chat lines they may write now.
    pub chat: Bucket,
}

/// One published stream.
pub struct Track {
    /// The publisher's m-line.
    pub mid: Mid,
    /// Sound or picture.
    pub kind: Kind,
    /// From where.
    pub source: Source,
    /// What comes of it.
    pub layers: Layers,
    /// Its last packets, if they can be sent again.
    pub history: History,
    /// Who gets it now, on which of their lines.
    pub subscribers: Vec<Subscriber>,
}

/// One who gets a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who.
    pub peer: PeerId,
    /// Index of their m-line.
    pub line: usize,
    /// The layers of which they need every packet, as bits.
    pub layers: u8,
    /// How many layers, from the smallest, its view can use.
    pub wanted: u8,
}

impl Room {
    /// The most that one takes without its members, who are so many, and whose last `lines` it keeps.
    pub const fn max_bytes(members: usize, lines: usize) -> usize {
        let line = size_of::<ChatLine>() + CHAT_BYTES + 4 * NAME_CHARS;
        let remembered = 2 * REMEMBERED * (size_of::<String>() + IDENTITY_BYTES);
        size_of::<Self>() + 8 * ROOM_CHARS + members * Speakers::BYTES_EACH + 2 * lines * line + remembered
    }

    /// Somebody comes.
    pub fn join(&mut self, peer: PeerId) {
        self.members.push(peer);
    }

    /// Somebody goes.
    pub fn leave(&mut self, peer: PeerId) {
        self.members.retain(|member| *member != peer);
        self.speakers.forget(peer);
    }

    /// Lets nobody in any more, or everybody again.
    pub fn set_locked(&mut self, locked: bool) {
        self.is_locked = locked;
        self.returning.clear();
    }

    /// Somebody who left may come back, with this secret, if the room is locked.
    pub fn expect_back(&mut self, resume: &str) {
        if self.is_locked {
            remember(&mut self.returning, resume);
        }
    }

    /// Somebody is back: the secret is used up.
    pub fn take_returning(&mut self, resume: &str) {
        self.returning.retain(|other| other != resume);
    }

    /// Somebody was removed, and may not come back: with neither this secret nor this identity.
    pub fn turn_away(&mut self, resume: &str, identity: Option<&str>) {
        self.take_returning(resume);
        if let Some(identity) = identity.filter(|identity| !self.is_removed(identity)) {
            remember(&mut self.removed, identity);
        }
    }

    /// Adds a line to the chat, and forgets the oldest above `keep`.
    pub fn chat(&mut self, from: &Participant, message: String, time: String, keep: usize) -> ChatLine {
        let line = ChatLine { id: self.next_line, message, time, from: from.id.clone(), name: from.name.clone() };
        self.next_line += 1;
        self.history.push_back(line.clone());
        while self.history.len() > keep {
            self.history.pop_front();
        }
        line
    }

    /// Everybody, in the order of joining.
    pub fn members(&self) -> &[PeerId] {
        &self.members
    }

    /// Whether only moderators and who was in may come.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Whether somebody of this identity was removed.
    pub fn is_removed(&self, identity: &str) -> bool {
        self.removed.iter().any(|removed| removed == identity)
    }

    /// Whether this is the secret of somebody who may come back.
    pub fn is_returning(&self, resume: &str) -> bool {
        self.returning.iter().any(|returning| returning == resume)
    }

    /// The last chat lines, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &ChatLine> {
        self.history.iter()
    }
}

impl Participant {
    /// The most that the tracks of one take, whom so many get, beside their packets.
    pub const fn max_bytes(tracks: usize, subscribers: usize) -> usize {
        let names = 4 * (NAME_CHARS + ROOM_CHARS) + IDENTITY_BYTES;
        names + 2 * tracks * (size_of::<Track>() + subscribers * size_of::<Subscriber>())
    }

    /// Somebody who has just come to `room`.
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

    /// Notes what is muted; false if nothing changed.
    pub fn mute(&mut self, source: Source, muted: bool) -> bool {
        let was = self.muted.contains(&source);
        if muted && !was {
            self.muted.push(source);
        } else if !muted {
            self.muted.retain(|other| *other != source);
        }
        was != muted
    }

    /// The track on one of their m-lines.
    pub fn track(&self, mid: Mid) -> Option<&Track> {
        self.tracks.iter().find(|track| track.mid == mid)
    }

    /// The track on one of their m-lines, to change.
    pub fn track_mut(&mut self, mid: Mid) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.mid == mid)
    }
}

impl Track {
    /// A stream that nobody gets yet.
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
    fn who_may_come_back_is_remembered_until_there_are_too_many() {
        let mut room = Room::default();
        room.expect_back("of an open room");
        assert!(!room.is_returning("of an open room"));
        room.set_locked(true);
        for number in 0..=REMEMBERED {
            room.expect_back(&format!("s{number}"));
            room.turn_away("", Some(&format!("i{number}")));
            room.turn_away("", Some("again and again"));
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
    fn history_is_bounded_and_numbered() {
        let now = Instant::now();
        let who = |s: &str| s.to_owned();
        let ann = Participant::new(now, who("1"), who("Ann"), who("s"), who("r"));
        let mut room = Room::default();
        for line in 0..10 {
            room.chat(&ann, line.to_string(), "00:00:00".to_owned(), 3);
        }
        let kept: Vec<_> = room.history().map(|line| (line.id, line.message.as_str())).collect();
        assert_eq!(kept, [(7, "7"), (8, "8"), (9, "9")]);
    }
}
