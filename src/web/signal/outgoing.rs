//! Messages from the server.

use serde::Serialize;

use super::Description;
use crate::track::{Kind, Source};
use crate::web::token::Rights;

/// A message from the server.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The first message.
    Welcome {
        /// The participant's own id.
        id: &'a str,
        /// The room's name.
        room: &'a str,
        /// The participant's own name, trimmed.
        name: &'a str,
        /// The secret that lets another connection continue as this participant.
        resume: &'a str,
        /// What the participant's token grants.
        rights: Rights,
        /// The room is locked: only moderators and returning participants can join.
        locked: bool,
        /// The other participants.
        participants: Vec<Participant<'a>>,
        /// The participants whose hands are raised, in the order of raising.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        hands: Vec<&'a str>,
        /// The participant in the spotlight.
        #[serde(skip_serializing_if = "Option::is_none")]
        spotlight: Option<&'a str>,
        /// The server's limits.
        limits: Limits,
        /// The server's version.
        version: &'a str,
    },
    /// The latest chat messages.
    History {
        /// Oldest first.
        #[serde(rename = "lines")]
        messages: Vec<ChatMessage<'a>>,
    },
    /// The tracks on the m-lines.
    Tracks {
        /// One for each m-line that carries a track.
        tracks: Vec<Track<'a>>,
    },
    /// An offer.
    Offer {
        /// `RTCSessionDescriptionInit` as JSON text.
        data: String,
    },
    /// A server address that was not in the first offer.
    Candidate {
        /// `RTCIceCandidateInit` as JSON text.
        data: String,
    },
    /// A chat message.
    Chat(ChatMessage<'a>),
    /// A participant has joined.
    Joined {
        /// The participant.
        id: &'a str,
        /// The participant's name.
        name: &'a str,
        /// The participant is a moderator.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        moderator: bool,
    },
    /// A participant has left.
    Left {
        /// The participant.
        id: &'a str,
        /// The participant's name.
        name: &'a str,
    },
    /// A source of a participant was muted or unmuted.
    Mute {
        /// The participant.
        id: &'a str,
        /// The source.
        source: Source,
        /// The new state.
        muted: bool,
        /// The moderator who muted it; `None` if the participant did.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a str>,
    },
    /// A moderator has locked or unlocked the room.
    Lock {
        /// The new state.
        locked: bool,
        /// The moderator.
        by: &'a str,
    },
    /// A participant has raised or lowered its hand.
    Hand {
        /// The participant.
        id: &'a str,
        /// The new state.
        raised: bool,
        /// The moderator who lowered it; `None` if the participant did.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a str>,
    },
    /// A reaction of a participant.
    Reaction {
        /// The participant.
        id: &'a str,
        /// An emoji. Plain text, never markup.
        reaction: &'a str,
    },
    /// A participant has changed its name.
    Rename {
        /// The participant.
        id: &'a str,
        /// The new name.
        name: &'a str,
    },
    /// A moderator has put a participant into the spotlight, or ended the spotlight.
    Spotlight {
        /// The participant; `None` if nobody is in the spotlight now.
        id: Option<&'a str>,
        /// The moderator.
        by: &'a str,
    },
    /// A moderator has made a participant a moderator.
    Promote {
        /// The participant.
        id: &'a str,
        /// The moderator.
        by: &'a str,
    },
    /// The recipient waits until a moderator admits it to the locked room.
    Waiting {
        /// Its place in the queue, from 1.
        position: usize,
    },
    /// For moderators: a client waits for the room, or is no longer waiting.
    Knock {
        /// The client; not the id of a participant.
        id: &'a str,
        /// The client's name. Plain text, never markup.
        name: &'a str,
        /// False if it was admitted or turned away, or has gone.
        waiting: bool,
    },
    /// The set or order of speakers has changed.
    Speaking {
        /// The dominant speaker, then the others by loudness.
        ids: Vec<&'a str>,
    },
    /// The quality of subscribed video tracks has changed.
    Quality {
        /// Only those that have changed.
        tracks: Vec<Quality<'a>>,
    },
    /// The needed layers of a published m-line have changed.
    Layers {
        /// The m-line.
        mid: &'a str,
        /// The needed layers, the smallest first.
        rids: &'a [&'a str],
    },
    /// The state of a participant's media connection has changed.
    Media {
        /// Another participant; `None` means the recipient of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        /// The new state.
        state: MediaState,
        /// The next offer is the first of a fresh transport.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
        /// The code of the error that ended the last transport.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// Milliseconds until a fresh transport is offered.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
    /// A message from the operator.
    Notice {
        /// The text. Never markup.
        message: &'a str,
    },
    /// A request of the client was refused, or one of its tracks has a problem.
    Error {
        /// The stable code, in kebab-case.
        code: &'a str,
        /// A sentence for the user.
        message: &'a str,
        /// The same request may succeed later.
        retry: bool,
        /// The publisher of the track that the error concerns.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        /// The source of the track that the error concerns.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
    /// The server is shutting down.
    Closing {
        /// The reason code.
        reason: &'a str,
        /// Milliseconds after which to reconnect.
        retry_ms: u64,
        /// The page to reconnect to, if it is another one.
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<&'a str>,
    },
}

/// The state of a participant's media connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaState {
    /// A fresh transport is about to be offered.
    Connecting,
    /// Media is connected.
    Connected,
    /// Media is down although it was connected, or should be.
    Lost,
}

/// A participant in the room.
#[derive(Debug, Serialize)]
pub struct Participant<'a> {
    /// Opaque; valid until the participant leaves.
    pub id: &'a str,
    /// The name, trimmed. Plain text, never markup.
    pub name: &'a str,
    /// The participant is a moderator.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub moderator: bool,
    /// The muted sources.
    pub muted: &'a [Source],
    /// `Lost` if the participant has no media connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaState>,
}

/// The track on one m-line.
#[derive(Debug, Serialize)]
pub struct Track<'a> {
    /// The m-line.
    pub mid: &'a str,
    /// The publisher.
    pub id: &'a str,
    /// Audio or video.
    pub kind: Kind,
    /// The source that the track carries.
    pub source: Source,
    /// Muted by its publisher.
    pub muted: bool,
    /// The recipient of this message may send on the m-line.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// The quality of one subscribed video track.
#[derive(Debug, Serialize)]
pub struct Quality<'a> {
    /// The m-line.
    pub mid: &'a str,
    /// Whether packets of the track are forwarded.
    pub sent: bool,
    /// The layer, if there are several. Spatial layers of one stream have the names of simulcast layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<&'a str>,
    /// The picture height in pixels, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// What prevents a better quality; see `quality` in the table of [`crate::web::signal`].
    pub limit: &'a str,
}

/// One chat message of the room.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChatMessage<'a> {
    /// The text. Never markup.
    pub message: &'a str,
    /// The server's local time, `HH:MM:SS`.
    pub time: &'a str,
    /// The participant who sent it.
    pub from: &'a str,
    /// The sender's name.
    pub name: &'a str,
    /// Increases by one with each chat message of the room.
    pub id: u64,
}

/// The server's limits, for the page.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Bytes of UTF-8 in a chat message.
    pub chat_bytes: usize,
    /// Characters of a participant's name.
    pub name_chars: usize,
    /// Participants in a room.
    pub room_peers: usize,
    /// The N of last-N: the number of participants whose tracks are sent to one subscriber; 0 for no limit.
    pub last_n: usize,
}

/// `data` of `candidate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CandidateInit<'a> {
    candidate: &'a str,
    sdp_mid: &'a str,
}

impl ServerMessage<'_> {
    /// Encodes the message as the text of a frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("messages have string keys only")
    }

    /// An error that does not concern a track.
    pub fn error<'a>(code: &'a str, message: &'a str, retry: bool) -> ServerMessage<'a> {
        ServerMessage::Error { code, message, retry, id: None, source: None }
    }

    /// A candidate for the m-line `mid`, as `RTCPeerConnection.addIceCandidate` expects it.
    pub fn candidate(candidate: &str, mid: &str) -> ServerMessage<'static> {
        let init = CandidateInit { candidate, sdp_mid: mid };
        ServerMessage::Candidate { data: serde_json::to_string(&init).expect("a candidate is two strings") }
    }

    /// An offer, as `RTCPeerConnection.setRemoteDescription` expects it.
    pub fn offer(sdp: String) -> ServerMessage<'static> {
        let description = Description { kind: "offer".to_owned(), sdp };
        ServerMessage::Offer { data: serde_json::to_string(&description).expect("a description is two strings") }
    }
}
