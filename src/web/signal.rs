//! The signaling protocol: JSON objects, one per WebSocket text frame, named by their `event` field.
//!
//! The server always sends the offers and the client the answers. A minimal client handles only `offer`, `answer`,
//! `candidate` and `chat` and ignores the other events.
//!
//! The WebSocket is at `{prefix}/websocket` (alias `{prefix}/ws`). Its query parameters:
//!
//! - `room`: the name of the room; `default` if absent;
//! - `name` (alias `username`): the participant's name;
//! - `resume`: the secret of an earlier connection (see `welcome`) that this one replaces;
//! - `token`: required if the server has a token secret (see [`token`](crate::web::token));
//! - `renew=1`: the client supports fresh transports on the same WebSocket (see `media`);
//! - `simulcast=1`: the client can send a camera as simulcast, on the m-line that is offered for the camera;
//! - `attempt`: a random name of up to 32 characters for this attempt to connect (see below).
//!
//! A refused upgrade gets an HTTP status with the `error` event as its body. Browsers hide both from pages, so a page
//! sends the same parameters in a plain GET of `{prefix}/check`, which gets the same refusal, or 200. That request has
//! no `Origin` field, so the page passes its origin in the parameter `origin`. If the attempt named by `attempt` has
//! reached the WebSocket address as a plain GET, a proxy has dropped the upgrade, and `check` responds with 426.
//!
//! # Client to server
//!
//! | event | example |
//! | --- | --- |
//! | `answer` | `{"event":"answer","data":"{\"type\":\"answer\",\"sdp\":\"v=0...\"}"}` |
//! | `candidate` | `{"event":"candidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.1 9 typ host\",\"sdpMid\":\"0\"}"}` |
//! | `chat` | `{"event":"chat","data":"Hello, world!"}` |
//! | `publish` | `{"event":"publish","kind":"video","source":"screen"}`: requests one more m-line to send on |
//! | `unpublish` | `{"event":"unpublish","kind":"video","source":"screen"}`, optionally with the `mid` |
//! | `mute` | `{"event":"mute","source":"microphone","muted":true}`: the participant's mute state, for the others |
//! | `leave` | `{"event":"leave"}`: leaves the room at once. Without it, a participant whose connection ends stays in the room for 30 s, and a new connection with the `resume` secret takes its place |
//! | `renew` | `{"event":"renew"}`: the client's transport has failed; the server offers a fresh one (see `media`), at once or after a pause |
//! | `moderate` | `{"event":"moderate","action":"mute","id":"b7"}`: mutes the microphone of participant `b7`, who can unmute it again |
//! | `moderate` | `{"event":"moderate","action":"remove","id":"b7"}`: sends `removed` to participant `b7` and closes its connection; the participant cannot rejoin (see [`token`](crate::web::token)) until the room has been empty |
//! | `moderate` | `{"event":"moderate","action":"lock"}`: only moderators can join, until `unlock` or until the room is empty; participants who left the locked room can rejoin with `resume` |
//! | `view` | `{"event":"view","views":[{"mid":"2","width":640,"height":360,"priority":1}]}`: the size at which the page shows the track on an m-line, in device pixels; 0 x 0 pauses its video. M-lines that are not listed keep their size; one that starts to carry another participant's track counts as shown until it is listed again |
//! | `view` | `{"event":"view","views":[{"id":"b7","source":"camera","width":640,"height":360,"priority":2}]}`: the same for a participant, on whichever m-line their track is or will be. If there are more publishers than seats (last-N), participants with `priority` 2 or higher rank right after those who speak, and those who are shown rank before those who are not |
//!
//! Candidates are accepted but not needed: the server is ICE-lite and learns addresses from connectivity checks (RFC
//! 8445). The key of a client's DTLS certificate must be ECDSA on curve P-256 or P-384, or, if its answers say
//! `a=setup:active` as browsers' do, RSA with 2,048 to 4,096 bits. Any other key ends the connection with
//! `unsupported-certificate`.
//!
//! # Server to client
//!
//! | event | example |
//! | --- | --- |
//! | `welcome` | `{"event":"welcome","id":"k3v9x0q2","room":"default","name":"Ann","resume":"...","rights":{"publish":true,"subscribe":true,"moderate":false},"locked":false,"participants":[{"id":"b7","name":"Bob","muted":["camera"]}],"limits":{"chat_bytes":4096,"name_chars":64,"room_peers":100,"last_n":16},"version":"0.1.0"}`: the first message |
//! | `history` | `{"event":"history","lines":[{"message":"hi","time":"14:30:45","from":"b7","name":"Bob","id":17}]}`: the latest chat messages, if there are any |
//! | `tracks` | `{"event":"tracks","tracks":[{"mid":"0","id":"b7","kind":"video","source":"camera","muted":false}]}`: the track on each m-line; `"own":true` marks m-lines that the client sends on. Sent before each offer, for the m-lines of that offer, and without an offer if m-lines of the latest offer carry other tracks now, or none. The WebSocket and UDP are not ordered against each other: packets of the new track may arrive before this message |
//! | `offer` | `{"event":"offer","data":"{\"type\":\"offer\",\"sdp\":\"v=0...\"}"}` |
//! | `candidate` | `{"event":"candidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.9 8080 typ host\",\"sdpMid\":\"0\"}"}`: a new address of the server, which later offers contain too; never sent before the first offer |
//! | `chat` | `{"event":"chat","message":"hi","time":"14:30:45","from":"b7","name":"Bob","id":18}` |
//! | `joined`, `left` | `{"event":"joined","id":"b7","name":"Bob"}` |
//! | `mute` | `{"event":"mute","id":"b7","source":"camera","muted":true}` |
//! | `mute` | `{"event":"mute","id":"b7","source":"microphone","muted":true,"by":"k3v9x0q2"}`: muted by a moderator; sent to the muted participant too |
//! | `lock` | `{"event":"lock","locked":true,"by":"k3v9x0q2"}`: a moderator has locked or unlocked the room |
//! | `speaking` | `{"event":"speaking","ids":["b7"]}`: the participants who speak now: the dominant speaker, then the others by loudness; sent on change, at most five times a second |
//! | `quality` | `{"event":"quality","tracks":[{"mid":"2","sent":true,"rid":"h","height":360,"limit":"bandwidth"}]}`: what is sent of a subscribed video track, and what prevents a better quality: `view` (the page shows it no larger), `bandwidth` (the estimate allows no more), `server` (the server is overloaded), `publisher` (the publisher sends no more; with `sent` false, nothing for 3 s), `keyframe` (the track, or the better layer, waits for a keyframe), `oversized` (the publisher's packets are too large to forward), `codec` (the subscriber does not support the codec), or `none` (it is the best quality). `rid` and `height` are present if known; each m-line is sent on change |
//! | `layers` | `{"event":"layers","mid":"1","rids":["q","h"]}`: the layers of a published m-line that some subscriber needs; empty if there is none. A publisher without simulcast is needed if the list is not empty |
//! | `media` | `{"event":"media","state":"lost","reason":"media-timeout","retry_ms":5000}`: the client's own media is disconnected; chat continues, and the server offers a fresh transport after `retry_ms` |
//! | `media` | `{"event":"media","state":"connecting","fresh":true}`: the next offer is the first of a fresh transport: the client needs a new `RTCPeerConnection`, and all mids are new. Only sent to clients with `renew=1` |
//! | `media` | `{"event":"media","state":"connected"}`: the client's own media is connected again |
//! | `media` | `{"event":"media","id":"b7","state":"lost"}`: the media of another participant is disconnected; with `connected`, it is connected again. In `welcome`, participants without media have `"media":"lost"` |
//! | `error` | `{"event":"error","code":"chat-too-long","message":"A chat message may have at most 4096 bytes.","retry":true}`; `retry` is true if the same request may succeed later; `id` and `source` name a track if the error concerns one |
//! | `closing` | `{"event":"closing","reason":"shutdown","retry_ms":4000}`: the server shuts down; calls continue until it closes the connection; reconnect after `retry_ms` |
//! | `closing` | `{"event":"closing","reason":"shutdown","retry_ms":1000,"url":"https://b.example.org/aq_server/"}`: the same, and the page to reconnect to is at `url` |
//!
//! # Limits
//!
//! A client may send 10 messages a second with bursts of 100, and 240 KiB of text a second with bursts of 512 KiB; the
//! answer to each offer is not charged. Every other message is charged before it is parsed, valid or not. Chat
//! messages, including empty and overlong ones, have their own limit of 10 a second with bursts of 20; those within it
//! do not count towards the number of messages. A message that is malformed or exceeds a limit gets an `error` and
//! counts as a fault. Ten faults are tolerated, and one more every 10 s; the next one closes the connection with 1008
//! and the code of that fault as the reason. A client that returns with `resume` keeps what remains of its limits.
//!
//! # Error codes
//!
//! Codes are stable. In the second column, `error` means an `error` event, after which the connection continues; `1008`
//! means an `error` event, then a close frame with this status and the code as its reason; `media` means the `reason`
//! of a `media` event, for clients with `renew=1` (others get the same code with 1008). A number below 600 is the HTTP
//! status of a refused upgrade and of `check`.
//!
//! | code | where | meaning and remedy |
//! | --- | --- | --- |
//! | `bad-room` | 400 | the room name has no visible character, or more than 128 |
//! | `unauthorized` | 401 | the token is missing or invalid; the server's log says why |
//! | `origin` | 403 | the page's origin is neither the server's own nor an allowed one |
//! | `locked` | 403 | the room is locked |
//! | `removed` | 403, 1008 | a moderator has removed the participant |
//! | `no-upgrade` | 426 | a proxy does not forward WebSocket upgrades; from `check` only |
//! | `too-many-conns` | 429 | the client's network has reached its limit of connections |
//! | `too-many-faults` | 429 | too many calls from the client's network have failed; retry after `Retry-After` |
//! | `closing` | 503 | the server is shutting down |
//! | `full` | 503 | the server is overloaded |
//! | `room-full`, `server-full`, `server-busy` | 503 | the limit of participants in the room, of rooms or participants on the server, or of participants who are joining is reached |
//! | `bad-message` | `error`, 1008 | the message is malformed; a fault, unless it was an empty chat message |
//! | `unknown-event` | `error` | the event is unknown and was ignored |
//! | `too-fast` | `error`, 1008 | too many messages, bytes or frames; a fault. A `candidate` above the limit is ignored |
//! | `chat-too-fast` | `error`, 1008 | too many chat messages; a fault |
//! | `chat-too-long` | `error` | the chat message has too many bytes |
//! | `forbidden` | `error` | the token does not grant this |
//! | `not-there` | `error` | the participant to be moderated has left |
//! | `track-limit` | `error` | the participant publishes as many tracks as allowed, or has rejected too many m-lines of the kind |
//! | `not-publishing` | `error` | the track to be unpublished does not exist |
//! | `lines-rejected` | `error` | answers have rejected so many m-lines of a kind that no more are offered until the next transport; once for each kind |
//! | `packet-too-large` | `error` | packets of the client's own track `source` are too large to forward, and are dropped; once |
//! | `cannot-decode` | `error` | the track named by `id` and `source` has a codec that the client's answer does not have |
//! | `cannot-renew` | `error` | no fresh transport is possible: the client connected without `renew=1`, or its network has too many participants without media; reconnect instead |
//! | `replaced` | 1008 | another connection has used the `resume` secret |
//! | `bad-answer` | 1008 | the answer does not fit the offer |
//! | `unsupported-answer` | 1008 | the answer is valid but asks for something that this server does not support; `message` says what |
//! | `unexpected-answer` | 1008 | an answer arrived while no offer was pending |
//! | `negotiation-timeout` | 1008 | no answer arrived within 20 s |
//! | `media-timeout` | `media`, 1008 | ICE or DTLS did not connect in time, or ICE consent was lost |
//! | `media-closed` | `media`, 1008 | the client closed DTLS |
//! | `used-up` | `media`, 1008 | the transport has used up its SSRCs (10,000 sent by the server or 2,048 sent by the client), or the limit of 256 server addresses |
//! | `no-srtp` | 1008 | DTLS agreed on no SRTP profile |
//! | `dtls-failed` | `media`, 1008 | DTLS failed, or the client's certificate does not match the answer; 1008 if it happens again |
//! | `unsupported-certificate` | `media`, 1008 | the server cannot verify the key of the client's DTLS certificate; 1008 if it happens again |
//! | `internal` | 1008 | the WebRTC engine failed |
//!
//! Other ends of a connection have these statuses: 1000 after `leave`, 1001 if the server shuts down, 1002 for a breach
//! of RFC 6455, 1003 for a binary message, 1007 for invalid UTF-8, and 1009 for a message that is too long.

use serde::{Deserialize, Serialize};

use crate::track::{Kind, Source};
use crate::web::token::Rights;

/// The most entries of one `view`: more than any participant has m-lines.
const MAX_VIEWS: usize = 512;

/// A message from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// The answer to the pending offer.
    Answer {
        /// The SDP text.
        sdp: String,
    },
    /// A trickled candidate. An ICE-lite server does not need its content.
    Candidate,
    /// A chat message.
    Chat {
        /// The text.
        message: String,
    },
    /// Requests an m-line to send on.
    Publish {
        /// Audio or video.
        kind: Kind,
        /// What the new track will carry.
        source: Source,
    },
    /// Ends a published track.
    Unpublish {
        /// Audio or video.
        kind: Kind,
        /// What the track carries.
        source: Source,
        /// Its m-line, if several tracks match.
        mid: Option<String>,
    },
    /// The sizes at which the page shows tracks.
    View {
        /// Only those that have changed.
        views: Vec<View>,
    },
    /// Sets the participant's mute state of one source.
    Mute {
        /// The source.
        source: Source,
        /// The new state.
        muted: bool,
    },
    /// The participant leaves for good.
    Leave,
    /// The client's transport has failed; the client needs a fresh one.
    Renew,
    /// A moderator's action on a participant or on the room.
    Moderate(Moderation),
}

/// A moderator's action.
#[derive(Debug, PartialEq, Eq)]
pub enum Moderation {
    /// Mute a participant's microphone.
    Mute {
        /// The participant.
        id: String,
    },
    /// Remove a participant from the room.
    Remove {
        /// The participant.
        id: String,
    },
    /// Lock the room: only moderators can join.
    Lock,
    /// Unlock the room.
    Unlock,
}

/// The size at which the page shows a track.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct View {
    /// The track.
    #[serde(flatten)]
    pub of: Viewed,
    /// Width in device pixels; 0 if it is not visible.
    pub width: u32,
    /// Height in device pixels; 0 if it is not visible.
    pub height: u32,
    /// Higher values are more important.
    #[serde(default)]
    pub priority: u32,
}

/// Names the track of a [`View`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Viewed {
    /// The track on an m-line, until the m-line carries another participant.
    Line {
        /// The m-line.
        mid: String,
    },
    /// A participant's track, on whichever m-line it is or will be.
    Person {
        /// The participant.
        id: String,
        /// Camera or screen.
        source: Source,
    },
}

/// Why a text frame is not a client message.
#[derive(Debug, PartialEq, Eq)]
pub enum BadMessage {
    /// The text is not JSON, or a field of the event is missing or wrong; says where.
    Malformed(String),
    /// The server does not know this event; the page may be newer than the server.
    UnknownEvent(String),
}

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
        /// The secret with which a later connection can take this one's place.
        resume: &'a str,
        /// What the participant's token grants.
        rights: Rights,
        /// The room is locked: only moderators can join.
        locked: bool,
        /// The other participants.
        participants: Vec<Participant<'a>>,
        /// The server's limits.
        limits: Limits,
        /// The server's version.
        version: &'a str,
    },
    /// The latest chat messages.
    History {
        /// Oldest first.
        lines: Vec<ChatLine<'a>>,
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
    Chat(ChatLine<'a>),
    /// A participant has joined.
    Joined {
        /// The participant.
        id: &'a str,
        /// The participant's name.
        name: &'a str,
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
    /// A request of the client was refused, or something about its tracks is wrong.
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
        /// The page to reconnect to, if not the same.
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
    /// Media was connected, or should be, and is not.
    Lost,
}

/// A participant in the room.
#[derive(Debug, Serialize)]
pub struct Participant<'a> {
    /// Opaque; valid until the participant leaves.
    pub id: &'a str,
    /// The name, trimmed. Plain text, never markup.
    pub name: &'a str,
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
    /// What the track carries.
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
    /// The layer, if there are several. Spatial layers of one stream have the same names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<&'a str>,
    /// The picture height in pixels, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// What prevents a better quality; see `quality` above.
    pub limit: &'a str,
}

/// One chat message of the room.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChatLine<'a> {
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
    /// The N of last-N: participants whose tracks one subscriber is sent at a time; 0 for no limit.
    pub last_n: usize,
}

/// `data` of `offer` and `answer`.
#[derive(Serialize, Deserialize)]
struct Description {
    #[serde(rename = "type")]
    kind: String,
    sdp: String,
}

/// `data` of `candidate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CandidateInit<'a> {
    candidate: &'a str,
    sdp_mid: &'a str,
}

/// The fields of all client events; `parse` checks which of them an event needs.
#[derive(Deserialize)]
struct Fields {
    event: String,
    data: Option<String>,
    kind: Option<Kind>,
    source: Option<Source>,
    muted: Option<bool>,
    mid: Option<String>,
    views: Option<Vec<View>>,
    action: Option<Action>,
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Mute,
    Remove,
    Lock,
    Unlock,
}

/// The names of the client events.
const EVENTS: [&str; 10] =
    ["answer", "candidate", "chat", "publish", "unpublish", "mute", "view", "leave", "renew", "moderate"];

impl ClientMessage {
    /// Returns true if a text frame may have this event, at a fraction of the cost of parsing it.
    pub fn may_be(event: &str, text: &str) -> bool {
        text.match_indices(event).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + event.len()..]);
            before.ends_with('"') && after.starts_with('"')
        })
    }

    /// Parses one text frame. Time and memory are linear in its length.
    pub fn parse(text: &str) -> Result<Self, BadMessage> {
        #[derive(Deserialize)]
        struct Name {
            event: String,
        }
        let malformed = |error: serde_json::Error| BadMessage::Malformed(error.to_string());
        let Name { event } = serde_json::from_str(text).map_err(malformed)?;
        if !EVENTS.contains(&event.as_str()) {
            return Err(BadMessage::UnknownEvent(event));
        }
        let fields: Fields = serde_json::from_str(text).map_err(malformed)?;
        let missing = |field: &str| BadMessage::Malformed(format!("`{event}` needs `{field}`"));
        match fields.event.as_str() {
            "answer" => {
                let data = fields.data.ok_or_else(|| missing("data"))?;
                let description: Description = serde_json::from_str(&data).map_err(malformed)?;
                if description.kind != "answer" {
                    return Err(BadMessage::Malformed(format!(
                        "the description must have the type answer, not {}",
                        description.kind.escape_debug()
                    )));
                }
                Ok(Self::Answer { sdp: description.sdp })
            }
            "candidate" => fields.data.map(|_| Self::Candidate).ok_or_else(|| missing("data")),
            "chat" => {
                let message = fields.data.ok_or_else(|| missing("data"))?;
                Ok(Self::Chat { message })
            }
            "view" => {
                let views = fields.views.ok_or_else(|| missing("views"))?;
                if views.len() > MAX_VIEWS {
                    return Err(BadMessage::Malformed(format!("a `view` has at most {MAX_VIEWS} entries")));
                }
                Ok(Self::View { views })
            }
            "mute" => Ok(Self::Mute {
                source: fields.source.ok_or_else(|| missing("source"))?,
                muted: fields.muted.ok_or_else(|| missing("muted"))?,
            }),
            "leave" => Ok(Self::Leave),
            "renew" => Ok(Self::Renew),
            "moderate" => {
                let id = || fields.id.ok_or_else(|| missing("id"));
                Ok(Self::Moderate(match fields.action.ok_or_else(|| missing("action"))? {
                    Action::Mute => Moderation::Mute { id: id()? },
                    Action::Remove => Moderation::Remove { id: id()? },
                    Action::Lock => Moderation::Lock,
                    Action::Unlock => Moderation::Unlock,
                }))
            }
            name => {
                let kind = fields.kind.ok_or_else(|| missing("kind"))?;
                let source = fields.source.ok_or_else(|| missing("source"))?;
                Ok(if name == "publish" {
                    Self::Publish { kind, source }
                } else {
                    Self::Unpublish { kind, source, mid: fields.mid }
                })
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples in the section `direction` of the module's documentation, in order.
    fn documented(direction: &str) -> Vec<String> {
        let text = include_str!("signal.rs");
        let section = text.split(direction).nth(1).expect("the section is there");
        let section = section.split("//! # ").next().expect("split has a first");
        let rows = section.lines().filter(|line| line.starts_with("//! | `"));
        rows.map(|row| {
            let example = row.split(" | `").nth(2).expect("an example");
            let end = example.find("}`").expect("ends with a brace");
            example[..=end].to_owned()
        })
        .collect()
    }

    #[test]
    fn documented_client_messages_parse() {
        let (kind, source, mid) = (Kind::Video, Source::Screen, None);
        let view = |of, priority| View { of, width: 640, height: 360, priority };
        let bob = Viewed::Person { id: "b7".to_owned(), source: Source::Camera };
        let expected = [
            ClientMessage::Answer { sdp: "v=0...".to_owned() },
            ClientMessage::Candidate,
            ClientMessage::Chat { message: "Hello, world!".to_owned() },
            ClientMessage::Publish { kind, source },
            ClientMessage::Unpublish { kind, source, mid },
            ClientMessage::Mute { source: Source::Microphone, muted: true },
            ClientMessage::Leave,
            ClientMessage::Renew,
            ClientMessage::Moderate(Moderation::Mute { id: "b7".to_owned() }),
            ClientMessage::Moderate(Moderation::Remove { id: "b7".to_owned() }),
            ClientMessage::Moderate(Moderation::Lock),
            ClientMessage::View { views: vec![view(Viewed::Line { mid: "2".to_owned() }, 1)] },
            ClientMessage::View { views: vec![view(bob, 2)] },
        ];
        let examples = documented("//! # Client to server");
        assert_eq!(examples.len(), expected.len());
        for (example, expected) in examples.iter().zip(expected) {
            assert_eq!(ClientMessage::parse(example), Ok(expected), "{example}");
        }
    }

    #[test]
    fn documented_server_messages_match_the_encoder() {
        let media = |id, state, fresh, reason, retry_ms| ServerMessage::Media { id, state, fresh, reason, retry_ms };
        let chat = |id| ChatLine { message: "hi", time: "14:30:45", from: "b7", name: "Bob", id };
        let sent = [
            ServerMessage::Welcome {
                id: "k3v9x0q2",
                room: "default",
                name: "Ann",
                resume: "...",
                rights: Rights { publish: true, subscribe: true, moderate: false },
                locked: false,
                participants: vec![Participant { id: "b7", name: "Bob", muted: &[Source::Camera], media: None }],
                limits: Limits { chat_bytes: 4096, name_chars: 64, room_peers: 100, last_n: 16 },
                version: "0.1.0",
            },
            ServerMessage::History { lines: vec![chat(17)] },
            ServerMessage::Tracks {
                tracks: vec![Track {
                    mid: "0",
                    id: "b7",
                    kind: Kind::Video,
                    source: Source::Camera,
                    muted: false,
                    own: false,
                }],
            },
            ServerMessage::offer("v=0...".to_owned()),
            ServerMessage::candidate("candidate:1 1 udp 1 192.0.2.9 8080 typ host", "0"),
            ServerMessage::Chat(chat(18)),
            ServerMessage::Joined { id: "b7", name: "Bob" },
            ServerMessage::Mute { id: "b7", source: Source::Camera, muted: true, by: None },
            ServerMessage::Mute { id: "b7", source: Source::Microphone, muted: true, by: Some("k3v9x0q2") },
            ServerMessage::Lock { locked: true, by: "k3v9x0q2" },
            ServerMessage::Speaking { ids: vec!["b7"] },
            ServerMessage::Quality {
                tracks: vec![Quality { mid: "2", sent: true, rid: Some("h"), height: Some(360), limit: "bandwidth" }],
            },
            ServerMessage::Layers { mid: "1", rids: &["q", "h"] },
            media(None, MediaState::Lost, false, Some("media-timeout"), Some(5000)),
            media(None, MediaState::Connecting, true, None, None),
            media(None, MediaState::Connected, false, None, None),
            media(Some("b7"), MediaState::Lost, false, None, None),
            ServerMessage::error("chat-too-long", "A chat message may have at most 4096 bytes.", true),
            ServerMessage::Closing { reason: "shutdown", retry_ms: 4000, url: None },
            ServerMessage::Closing {
                reason: "shutdown",
                retry_ms: 1000,
                url: Some("https://b.example.org/aq_server/"),
            },
        ];
        let examples = documented("//! # Server to client");
        assert_eq!(examples.len(), sent.len());
        for (example, sent) in examples.iter().zip(&sent) {
            assert_eq!(&sent.to_json(), example);
        }
    }

    #[test]
    fn malformed_messages_are_refused_with_a_reason() {
        let deep = format!("{{\"event\":\"chat\",\"data\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "{\"event\":1}",
            "{\"event\":\"chat\"}",
            "{\"event\":\"chat\",\"data\":1}",
            "{\"event\":\"answer\",\"data\":\"{}\"}",
            "{\"event\":\"answer\",\"data\":\"{\\\"type\\\":\\\"pranswer\\\",\\\"sdp\\\":\\\"\\\"}\"}",
            "{\"event\":\"publish\",\"kind\":\"smell\",\"source\":\"camera\"}",
            "{\"event\":\"mute\",\"source\":\"camera\"}",
            "{\"event\":\"moderate\"}",
            "{\"event\":\"moderate\",\"action\":\"mute\"}",
            "{\"event\":\"moderate\",\"action\":\"remove\",\"id\":7}",
            "{\"event\":\"moderate\",\"action\":\"promote\",\"id\":\"b7\"}",
            "{\"event\":\"view\"}",
            "{\"event\":\"view\",\"views\":[{\"mid\":\"1\",\"width\":-1,\"height\":0}]}",
            "{\"event\":\"view\",\"views\":[{\"id\":\"b7\",\"width\":1,\"height\":1}]}",
            "{\"event\":\"view\",\"views\":[{\"width\":1,\"height\":1}]}",
            &deep,
        ] {
            let parsed = ClientMessage::parse(text);
            assert!(matches!(parsed, Err(BadMessage::Malformed(_))), "{parsed:?}");
        }
        let unknown = ClientMessage::parse("{\"event\":\"levitate\",\"height\":3}");
        assert_eq!(unknown, Err(BadMessage::UnknownEvent("levitate".to_owned())));
    }
}
