//! A room is one conference: its participants, their tracks, and the chat. It is pure, and refers to peers by id only.

pub mod seats;
pub mod speakers;
pub mod subscribers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use str0m::media::Mid;

use crate::id::{ID_CHARS, IDENTITY_BYTES, PeerId, RESUME_CHARS};
use crate::limits::bucket::Bucket;
use crate::media::publish::history::History;
use crate::media::publish::layer::LAYERS;
use crate::media::publish::layers::Layers;
use crate::room::speakers::Speakers;
use crate::room::subscribers::Subscribers;
use crate::text::{NAME_CHARS, ROOM_CHARS};
use crate::track::{Kind, Source};

/// Maximum size of a chat message, in bytes of UTF-8.
pub const CHAT_BYTES: usize = 4096;

/// Bytes of chat in JSON a second in one room, and the burst. Each member receives all of it: a member at 1 Mbit/s keeps
/// up, and the burst fits into its queue. A hundred people who all write a line of 100 bytes each second stay below it.
const CHAT_RATE: f64 = 64.0 * 1024.0;
const CHAT_BURST: f64 = 512.0 * 1024.0;

/// Maximum size of a reaction, in bytes of UTF-8: the longest emoji sequences, such as families, are shorter.
pub const REACTION_BYTES: usize = 32;

/// Maximum size of a room's chat history as JSON, in bytes. A newcomer receives all of it at once, so it has to be
/// well below the limit of unsent bytes of a connection.
const HISTORY_BYTES: usize = 512 << 10;

/// Maximum number of identities of removed participants, and of resume secrets, that a room remembers. Above it the
/// oldest are forgotten.
const REMEMBERED: usize = 1_000;

/// What the server's load takes from a room's video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shed {
    /// Nothing.
    #[default]
    Nothing,
    /// All layers of cameras except the smallest.
    Layers,
    /// All cameras, except those of the last speaker and of pinned participants.
    Videos,
}

/// One conference. It ends, with all its state, when the last participant leaves.
pub struct Room {
    /// When the first participant joined.
    pub began: Instant,
    /// What the server's load takes from its video.
    pub shed: Shed,
    /// In the order of joining.
    participants: Vec<PeerId>,
    is_locked: bool,
    /// Identities of the participants removed by a moderator.
    removed: VecDeque<String>,
    /// Resume secrets of the participants that have left since the room was locked and were not removed: a lock must
    /// not keep out a participant that has lost its connection.
    returning: VecDeque<(String, Option<String>)>,
    /// The current speakers, and the microphones that are forwarded.
    pub speakers: Speakers,
    /// The public id of the participant in the spotlight.
    pub spotlight: Option<String>,
    /// The limit of chat in JSON bytes.
    chat_limit: Bucket,
    history: VecDeque<ChatMessage>,
    /// The sum of `ChatMessage::max_json_bytes`.
    history_bytes: usize,
    next_message: u64,
    next_hand: u64,
}

/// One chat message.
#[derive(Clone, Debug)]
pub struct ChatMessage {
    /// Number of the message within the room.
    pub id: u64,
    /// The text.
    pub text: String,
    /// Local time of sending, as `HH:MM:SS`.
    pub time: String,
    /// Id of the sender.
    pub from: String,
    /// Name of the sender at that time.
    pub name: String,
}

/// The tracks that one participant publishes, and the sources that are muted.
#[derive(Default)]
pub struct Published {
    /// The published tracks.
    pub tracks: Vec<Track>,
    /// The number of other participants in the room.
    pub audience: u64,
    /// Sources that the participant has muted.
    muted: Vec<Source>,
    /// Whether a moderator has muted the microphone and the participant has not unmuted it since.
    is_silenced: bool,
    /// For m-lines on which nothing is published now: the number of layers that the last `layers` message asked for.
    /// There is no entry if it asked for all.
    sent_wanted: BTreeMap<Mid, u8>,
}

/// One published track.
pub struct Track {
    /// The publisher's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// The publisher's source that it carries.
    pub source: Source,
    /// Its layers, and the bitrate received for each.
    pub layers: Layers,
    /// Its last packets, for retransmission.
    pub history: History,
    /// The current subscribers.
    pub subscribers: Subscribers,
}

impl Room {
    /// Upper bound of the memory of one room in bytes, with this many participants and kept chat messages, without the
    /// participants' own memory.
    pub const fn max_bytes(participants: usize, messages: usize) -> usize {
        let message = size_of::<ChatMessage>() + CHAT_BYTES + 4 * NAME_CHARS;
        let remembered = 2 * REMEMBERED * (size_of::<[String; 2]>() + IDENTITY_BYTES + RESUME_CHARS);
        size_of::<Self>()
            + 8 * ROOM_CHARS
            + ID_CHARS
            + participants * Speakers::BYTES_EACH
            + 2 * messages * message
            + remembered
    }

    /// Creates an empty room.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            shed: Shed::default(),
            participants: Vec::new(),
            is_locked: false,
            removed: VecDeque::new(),
            returning: VecDeque::new(),
            speakers: Speakers::default(),
            spotlight: None,
            chat_limit: Bucket::new(now, CHAT_RATE, CHAT_BURST),
            history: VecDeque::new(),
            history_bytes: 0,
            next_message: 0,
            next_hand: 0,
        }
    }

    /// Adds a participant.
    pub fn join(&mut self, peer: PeerId) {
        self.participants.push(peer);
    }

    /// Removes a participant.
    pub fn leave(&mut self, peer: PeerId) {
        self.participants.retain(|other| *other != peer);
        self.speakers.forget(peer);
    }

    /// Locks or unlocks the room, and forgets the resume secrets kept for a lock.
    pub fn set_locked(&mut self, locked: bool) {
        self.is_locked = locked;
        self.returning.clear();
    }

    /// Lets the holder of a resume secret return to the room while it is locked. No effect on an unlocked room.
    pub fn allow_return(&mut self, resume: &str, identity: Option<&str>) {
        if self.is_locked {
            remember(&mut self.returning, (resume.to_owned(), identity.map(str::to_owned)));
        }
    }

    /// Forgets a resume secret whose holder has returned.
    pub fn forget_returning(&mut self, resume: &str) {
        self.returning.retain(|(other, _)| other != resume);
    }

    /// Keeps a removed participant out: forgets the resume secret, and remembers the identity.
    pub fn turn_away(&mut self, resume: &str, identity: Option<&str>) {
        self.forget_returning(resume);
        if let Some(identity) = identity.filter(|identity| !self.is_removed(identity)) {
            remember(&mut self.removed, identity.to_owned());
        }
    }

    /// Returns the number of the next raised hand. Hands are shown in the order of their numbers.
    pub fn number_hand(&mut self) -> u64 {
        self.next_hand += 1;
        self.next_hand
    }

    /// Adds a chat message, and drops the oldest ones beyond `keep` messages or `HISTORY_BYTES`. `from` and `name` are those of
    /// the sender.
    pub fn chat(&mut self, from: &str, name: &str, text: String, time: String, keep: usize) -> ChatMessage {
        let message = ChatMessage { id: self.next_message, text, time, from: from.to_owned(), name: name.to_owned() };
        self.next_message += 1;
        self.history_bytes += message.max_json_bytes();
        self.history.push_back(message.clone());
        while self.history.len() > keep || self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.max_json_bytes();
        }
        message
    }

    /// Takes the JSON bytes of a chat message from the room's limit. Returns false if it is used up, or half of it and the
    /// sender has sent much: the other half is for the others.
    pub fn take_chat(&mut self, now: Instant, bytes: usize, is_heavy: bool) -> bool {
        (!is_heavy || self.chat_limit.share(now) > 0.5) && self.chat_limit.take_many(now, bytes as f64)
    }

    /// Returns the participants in the order of joining.
    pub fn participants(&self) -> &[PeerId] {
        &self.participants
    }

    /// Returns the participants except `id`, in the order of joining.
    pub fn others(&self, id: PeerId) -> impl Iterator<Item = PeerId> {
        self.participants.iter().copied().filter(move |other| *other != id)
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
    pub fn is_returning(&self, resume: &str, identity: Option<&str>) -> bool {
        self.returning.iter().any(|(secret, holder)| secret == resume && holder.as_deref() == identity)
    }

    /// Iterates over the last chat messages, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &ChatMessage> {
        self.history.iter()
    }
}

impl ChatMessage {
    /// Upper bound of its size as JSON, in bytes (RFC 8259 section 7).
    fn max_json_bytes(&self) -> usize {
        const FIELDS: usize = 100;
        FIELDS + chat_bytes(&self.text, &self.name) + self.time.len() + self.from.len()
    }
}

impl Published {
    /// Upper bound of the memory in bytes, without the packets. Each of `tracks` tracks has up to `subscribers`
    /// subscribers.
    pub const fn max_bytes(tracks: usize, subscribers: usize) -> usize {
        2 * tracks * (size_of::<Track>() + subscribers * Subscribers::BYTES_EACH)
    }

    /// Starts a track.
    pub fn start(&mut self, mid: Mid, kind: Kind, source: Source) {
        let mut track = Track::new(mid, kind, source);
        if let Some(wanted) = self.sent_wanted.remove(&mid) {
            track.layers.resume(wanted);
        }
        self.tracks.push(track);
    }

    /// Ends a track and returns it.
    pub fn end(&mut self, mid: Mid) -> Option<Track> {
        let index = self.tracks.iter().position(|track| track.mid == mid)?;
        let track = self.tracks.remove(index);
        let wanted = track.layers.signaled();
        if wanted < LAYERS as u8 {
            self.sent_wanted.insert(mid, wanted);
        }
        Some(track)
    }

    /// Forgets the m-lines of a transport that has ended.
    pub fn forget_m_lines(&mut self) {
        self.sent_wanted.clear();
    }

    /// Sets whether the participant has muted a source. Returns false if nothing changed.
    pub fn mute(&mut self, source: Source, muted: bool) -> bool {
        let was = self.muted.contains(&source);
        if muted && !was {
            self.muted.push(source);
        } else if !muted {
            self.muted.retain(|other| *other != source);
        }
        was != muted
    }

    /// Sets whether a moderator has muted the microphone.
    pub fn set_silenced(&mut self, is_silenced: bool) {
        self.is_silenced = is_silenced;
    }

    /// Returns the muted sources.
    pub fn muted(&self) -> &[Source] {
        &self.muted
    }

    /// Returns true if a moderator has muted the track on this m-line.
    pub fn is_silenced(&self, mid: Mid) -> bool {
        self.is_silenced && self.track(mid).is_some_and(|track| track.source == Source::Microphone)
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
        Self {
            mid,
            kind,
            source,
            layers: Layers::default(),
            history: History::default(),
            subscribers: Subscribers::default(),
        }
    }
}

/// Returns an upper bound of the size of a chat message in JSON, in bytes, without its other fields (RFC 8259 section 7).
pub fn chat_bytes(text: &str, name: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().chain(name.bytes()).map(escaped).sum()
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    list.push_back(item);
    if list.len() > REMEMBERED {
        list.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_returning_participants_are_remembered_up_to_a_limit() {
        let mut room = Room::new(Instant::now());
        room.allow_return("left an unlocked room", None);
        assert!(!room.is_returning("left an unlocked room", None));
        room.set_locked(true);
        for number in 0..=REMEMBERED {
            room.allow_return(&format!("s{number}"), None);
            room.turn_away("", Some(&format!("i{number}")));
            room.turn_away("", Some("removed repeatedly"));
        }
        for (number, kept) in [(0, false), (1, true), (REMEMBERED, true)] {
            assert_eq!(room.is_returning(&format!("s{number}"), None), kept, "{number}");
        }
        for (number, kept) in [(0, false), (1, false), (2, true), (REMEMBERED, true)] {
            assert_eq!(room.is_removed(&format!("i{number}")), kept, "{number}");
        }
        assert!(!room.is_returning("s1", Some("another identity")));
        room.forget_returning("s1");
        room.turn_away("s2", None);
        assert!(!room.is_returning("s1", None) && !room.is_returning("s2", None) && room.is_returning("s3", None));
        room.set_locked(false);
        assert!(!room.is_returning("s3", None) && room.is_removed("i2"));
    }

    #[test]
    fn chat_history_is_bounded_and_numbered() {
        let mut room = Room::new(Instant::now());
        for number in 0..10 {
            room.chat("1", "Ann", number.to_string(), "00:00:00".to_owned(), 3);
        }
        let kept: Vec<_> = room.history().map(|message| (message.id, message.text.as_str())).collect();
        assert_eq!(kept, [(7, "7"), (8, "8"), (9, "9")]);
        for _ in 0..1_000 {
            room.chat("1", "Ann", "\"".repeat(CHAT_BYTES), "00:00:00".to_owned(), 1_000);
        }
        let json: usize = room.history().map(|message| serde_json::json!(message.text).to_string().len()).sum();
        assert!((HISTORY_BYTES * 9 / 10..=HISTORY_BYTES).contains(&json), "{json}");
    }
}
