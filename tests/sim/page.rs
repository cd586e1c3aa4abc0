//! The page's state as the server's messages describe it, and the invariants of these messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::media::Source;

/// The signaling state of one browser.
#[derive(Default)]
pub struct Page {
    /// When the first message arrived.
    pub welcomed_at: Option<Instant>,
    /// The id that it must get because it returns in time.
    pub expected_id: Option<String>,
    /// Its own participant id.
    pub id: String,
    /// Its own name, as the server reports it.
    pub name: String,
    /// The secret that a later connection may present to return as the same participant.
    pub resume: String,
    /// Its rights.
    pub rights: Value,
    /// Whether the room is locked: the initial state and each change, with the id of the moderator.
    pub locked: Vec<(bool, Option<String>)>,
    /// The names of the other participants, by id.
    pub participants: BTreeMap<String, String>,
    /// The ids of the other participants who are moderators.
    pub moderators: BTreeSet<String>,
    /// The ids of the participants whose hands are raised, in the order of raising.
    pub hands: Vec<String>,
    /// The id of the participant in the spotlight: the initial one and each change.
    pub spotlights: Vec<Option<String>>,
    /// Its positions in the queue of those who wait, until it is welcomed.
    pub positions: Vec<u64>,
    /// The clients that wait, as a moderator knows them: ids and names in the order of knocking.
    pub knocks: Vec<(String, String)>,
    /// The reactions of others: the id and the emoji.
    pub reactions: Vec<(String, String)>,
    /// The tracks of the last `tracks` message.
    pub tracks: Vec<Track>,
    /// The tracks of every `tracks` message, and when it arrived.
    pub announced: Vec<(Instant, Vec<Track>)>,
    /// Chat messages of others in order of arrival, starting with those of `history`.
    pub chat: Vec<ChatLine>,
    pub errors: Vec<(Instant, Value)>,
    pub mutes: Vec<Value>,
    /// Each `speaking` message: when it arrived, and the ids.
    pub speaking: Vec<(Instant, Vec<String>)>,
    /// The simulcast layers of own m-lines that the server wants, by mid, from the last `layers` messages.
    pub wanted_layers: BTreeMap<String, Vec<String>>,
    /// Each `layers` message: when it arrived, and the rids.
    pub layers_told: Vec<(Instant, Vec<String>)>,
    /// Each `quality` message: which layers are received, and why no better ones are.
    pub qualities: Vec<(Instant, Value)>,
    pub closing: Vec<Value>,
    /// The host's notices.
    pub notices: Vec<String>,
    /// The `media` messages about its own media connection.
    pub media: Vec<(Instant, Value)>,
    /// The ids of other participants without a media connection.
    pub lost: BTreeSet<String>,
    /// The next offer starts a fresh transport.
    pub is_fresh: bool,
    /// Each `left` message: when it arrived, the id and the name.
    pub left: Vec<(Instant, String, String)>,
    /// Number of offers received.
    pub offers: u32,
    /// Candidates from `candidate` messages, in the format of RFC 8839.
    pub candidates: Vec<String>,
    /// Number of `tracks` messages that no offer followed.
    pub exchanges: u32,
    /// The last message was `tracks`.
    is_described: bool,
}

/// The content of one m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub mid: String,
    pub id: String,
    pub kind: String,
    pub source: Source,
    pub muted: bool,
    pub own: bool,
}

/// One received chat message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatLine {
    pub message: String,
    pub time: String,
    pub from: String,
    pub name: String,
    pub id: u64,
}

impl Page {
    /// Handles one text frame. Returns the SDP if it is an offer.
    pub fn handle_text(&mut self, now: Instant, text: &str) -> Option<String> {
        let message: Value = serde_json::from_str(text).expect("the server sends JSON");
        let event = message["event"].as_str().expect("every message has an event").to_owned();
        if self.id.is_empty() {
            let is_waiting = !self.positions.is_empty() && matches!(event.as_str(), "error" | "closing");
            let is_first = matches!(event.as_str(), "welcome" | "waiting");
            assert!(is_first || is_waiting, "the first message must be `welcome` or `waiting`, not {event}");
        }
        let was_described = std::mem::replace(&mut self.is_described, event == "tracks");
        assert!(event != "offer" || was_described, "`tracks` must come directly before the offer");
        self.exchanges += u32::from(was_described && event != "offer");
        match event.as_str() {
            "welcome" => self.on_welcome(now, &message),
            "history" => {
                assert!(self.chat.is_empty() && self.offers == 0, "`history` must come directly after `welcome`");
                let lines = message["lines"].as_array().expect("lines");
                assert!(!lines.is_empty(), "an empty history must not be sent");
                self.chat.extend(lines.iter().map(chat_line));
            }
            "joined" => {
                let (id, name) = (text_of(&message, "id"), text_of(&message, "name"));
                assert_ne!(id, self.id, "a participant must not be notified of its own join");
                self.note_moderator(&id, &message["moderator"]);
                assert_eq!(self.participants.insert(id, name), None, "the participant joined twice");
            }
            "left" => {
                let (id, name) = (text_of(&message, "id"), text_of(&message, "name"));
                assert_eq!(self.participants.remove(&id).as_ref(), Some(&name), "an unknown participant left");
                self.lost.remove(&id);
                self.moderators.remove(&id);
                self.hands.retain(|raised| *raised != id);
                if self.spotlights.last().is_some_and(|lit| lit.as_ref() == Some(&id)) {
                    self.spotlights.push(None);
                }
                self.left.push((now, id, name));
            }
            "tracks" => self.on_tracks(now, &message),
            "offer" => return Some(self.on_offer(&message)),
            "candidate" => {
                assert!(self.offers > 0, "browsers reject a candidate before the first offer");
                let init: Value = serde_json::from_str(&text_of(&message, "data")).expect("JSON");
                assert!(init["sdpMid"].is_string(), "a candidate must name its m-line");
                self.candidates.push(text_of(&init, "candidate"));
            }
            "chat" => self.on_chat(&message),
            "mute" => self.mutes.push(message),
            "hand" => self.on_hand(&message),
            "waiting" => {
                assert!(self.id.is_empty(), "a participant does not wait");
                self.positions.push(message["position"].as_u64().expect("a position"));
            }
            "knock" => {
                assert_eq!(self.rights["moderate"], json!(true), "`knock` is sent to moderators only");
                let knock = (text_of(&message, "id"), text_of(&message, "name"));
                let was_known = self.knocks.contains(&knock);
                if message["waiting"] == json!(true) {
                    assert!(!was_known, "`knock` must only be sent on change");
                    self.knocks.push(knock);
                } else {
                    assert!(was_known, "`knock` must only be sent on change");
                    self.knocks.retain(|other| *other != knock);
                }
            }
            "reaction" => {
                let id = text_of(&message, "id");
                assert!(self.participants.contains_key(&id), "a reaction of an unknown participant");
                self.reactions.push((id, text_of(&message, "reaction")));
            }
            "rename" => {
                let (id, name) = (text_of(&message, "id"), text_of(&message, "name"));
                let known = if id == self.id { Some(&mut self.name) } else { self.participants.get_mut(&id) };
                let old = std::mem::replace(known.expect("a known participant"), name.clone());
                assert_ne!(old, name, "`rename` must only be sent on change");
            }
            "promote" => {
                let id = text_of(&message, "id");
                if id == self.id {
                    self.rights["moderate"] = json!(true);
                } else {
                    assert!(self.participants.contains_key(&id) && self.moderators.insert(id), "{message}");
                }
            }
            "spotlight" => {
                let id = message["id"].as_str().map(str::to_owned);
                assert_ne!(self.spotlights.last(), Some(&id), "`spotlight` must only be sent on change");
                self.spotlights.push(id);
            }
            "lock" => {
                let locked = message["locked"].as_bool().expect("locked");
                assert_ne!(
                    self.locked.last().map(|(locked, _)| *locked),
                    Some(locked),
                    "`lock` must only be sent on change"
                );
                self.locked.push((locked, Some(text_of(&message, "by"))));
            }
            "speaking" => {
                let ids = message["ids"].as_array().expect("ids").iter();
                self.speaking.push((now, ids.map(|id| id.as_str().expect("an id").to_owned()).collect()));
            }
            "layers" => self.on_layers(now, &message),
            "quality" => self.qualities.push((now, message)),
            "error" => {
                assert!(message["retry"].is_boolean() && message["message"].is_string());
                self.errors.push((now, message));
            }
            "notice" => self.notices.push(text_of(&message, "message")),
            "closing" => self.closing.push(message),
            "media" => self.on_media(now, message),
            other => panic!("unknown event {other}"),
        }
        None
    }

    /// The codes of all errors received.
    pub fn error_codes(&self) -> Vec<&str> {
        self.errors.iter().filter_map(|(_, error)| error["code"].as_str()).collect()
    }

    /// The tracks of other participants in the last `tracks` message.
    pub fn received(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| !track.own)
    }

    fn on_welcome(&mut self, now: Instant, message: &Value) {
        self.welcomed_at = Some(now);
        assert!(self.id.is_empty(), "`welcome` must be sent once");
        self.id = text_of(message, "id");
        if let Some(expected) = &self.expected_id {
            assert_eq!(&self.id, expected, "a participant that returns in time must keep its id");
        }
        self.name = text_of(message, "name");
        self.resume = text_of(message, "resume");
        self.rights = message["rights"].clone();
        self.locked.push((message["locked"].as_bool().expect("locked"), None));
        assert!(self.resume.len() >= 20, "the resume secret must have at least 100 bits");
        for participant in message["participants"].as_array().expect("participants") {
            let (id, name) = (text_of(participant, "id"), text_of(participant, "name"));
            assert_ne!(id, self.id, "a participant must not be listed among the others");
            if participant["media"] == json!("lost") {
                self.lost.insert(id.clone());
            }
            self.note_moderator(&id, &participant["moderator"]);
            assert_eq!(self.participants.insert(id, name), None, "the participant is listed twice");
        }
        let hands = message["hands"].as_array();
        self.hands.extend(hands.into_iter().flatten().map(|id| id.as_str().expect("an id").to_owned()));
        self.spotlights.push(message["spotlight"].as_str().map(str::to_owned));
    }

    fn note_moderator(&mut self, id: &str, moderator: &Value) {
        assert!(moderator.is_null() || *moderator == json!(true), "`moderator` is true or absent");
        if *moderator == json!(true) {
            self.moderators.insert(id.to_owned());
        }
    }

    fn on_hand(&mut self, message: &Value) {
        let id = text_of(message, "id");
        assert!(id == self.id || self.participants.contains_key(&id), "a hand of an unknown participant");
        let was_raised = self.hands.contains(&id);
        if message["raised"] == json!(true) {
            assert!(!was_raised, "`hand` must only be sent on change");
            self.hands.push(id);
        } else {
            assert!(was_raised, "`hand` must only be sent on change");
            self.hands.retain(|raised| *raised != id);
        }
    }

    fn on_media(&mut self, now: Instant, message: Value) {
        let state = text_of(&message, "state");
        if let Some(id) = message["id"].as_str() {
            assert!(self.participants.contains_key(id), "`media` names an unknown participant");
            let changed = match state.as_str() {
                "lost" => self.lost.insert(id.to_owned()),
                "connected" => self.lost.remove(id),
                other => panic!("unexpected media state {other} of another participant"),
            };
            assert!(changed, "`media` must only be sent on change");
            return;
        }
        self.is_fresh |= message["fresh"] == json!(true);
        self.media.push((now, message));
    }

    /// Number of `tracks` messages that assigned m-lines to other participants, or to none, than the message before.
    pub fn reassignments(&self) -> u32 {
        let received = |tracks: &[Track]| -> Vec<(String, String)> {
            tracks.iter().filter(|track| !track.own).map(|track| (track.mid.clone(), track.id.clone())).collect()
        };
        let changes = |pair: &&[(Instant, Vec<Track>)]| received(&pair[0].1) != received(&pair[1].1);
        self.announced.windows(2).filter(changes).count() as u32
    }

    fn on_tracks(&mut self, now: Instant, message: &Value) {
        let tracks = message["tracks"].as_array().expect("tracks").iter().map(|track| Track {
            mid: text_of(track, "mid"),
            id: text_of(track, "id"),
            kind: text_of(track, "kind"),
            source: Source::parse(&text_of(track, "source")),
            muted: track["muted"].as_bool().expect("muted"),
            own: track["own"] == json!(true),
        });
        self.tracks = tracks.collect();
        for track in &self.tracks {
            assert_eq!(track.own, track.id == self.id, "own tracks must have the own id");
            assert!(track.own || self.participants.contains_key(&track.id), "a track of an unknown participant");
            let same =
                |other: &&Track| other.id == track.id && other.source == track.source && other.kind == track.kind;
            assert!(track.own || self.tracks.iter().filter(same).count() == 1, "a track is on two m-lines");
        }
        self.announced.push((now, self.tracks.clone()));
    }

    fn on_layers(&mut self, now: Instant, message: &Value) {
        let mid = text_of(message, "mid");
        assert!(
            self.tracks.iter().any(|track| track.own && track.mid == mid),
            "`layers` names no own m-line: {message}"
        );
        let rids = message["rids"].as_array().expect("rids").iter();
        let rids: Vec<String> = rids.map(|rid| rid.as_str().expect("a rid").to_owned()).collect();
        self.layers_told.push((now, rids.clone()));
        self.wanted_layers.insert(mid, rids);
    }

    fn on_offer(&mut self, message: &Value) -> String {
        self.offers += 1;
        let data: Value =
            serde_json::from_str(message["data"].as_str().expect("JSON text in a string")).expect("a description");
        assert_eq!(data["type"], "offer");
        data["sdp"].as_str().expect("SDP text").to_owned()
    }

    fn on_chat(&mut self, message: &Value) {
        let line = chat_line(message);
        assert_ne!(line.from, self.id, "a chat message was sent back to its sender");
        if let Some(last) = self.chat.last() {
            assert!(line.id > last.id, "chat messages must arrive in the order of the room");
        }
        self.chat.push(line);
    }
}

fn chat_line(message: &Value) -> ChatLine {
    let line = ChatLine {
        message: text_of(message, "message"),
        time: text_of(message, "time"),
        from: text_of(message, "from"),
        name: text_of(message, "name"),
        id: message["id"].as_u64().expect("a number"),
    };
    let parts: Vec<_> = line.time.split(':').map(|part| part.parse::<u32>().expect("HH:MM:SS")).collect();
    assert!(line.time.len() == 8 && parts.len() == 3 && parts[0] < 24 && parts[1] < 60 && parts[2] < 60, "HH:MM:SS");
    line
}

fn text_of(message: &Value, field: &str) -> String {
    let text = message[field].as_str();
    text.unwrap_or_else(|| panic!("{field} in {message}")).to_owned()
}
