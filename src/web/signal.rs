//! The signaling protocol: one JSON object for each WebSocket text frame, named by its `event`.
//!
//! The server always offers, the client answers. A client that knows only `offer`, `answer`, `candidate` and
//! `chat` works; it ignores the rest. The WebSocket is at `{prefix}/websocket` (alias `{prefix}/ws`), with the
//! query parameters `room` (default `default`), `name` (alias `username`), `resume`, `token` where the server asks for
//! one (see [`token`](crate::web::token)), `renew=1` from a client that takes fresh transports (see `media`), and `simulcast=1` from a client that can send a camera in layers, and attaches
//! it to the line that is offered for it. A refusal comes as HTTP status and the `error` as its body; since browsers keep
//! both from pages, `{prefix}/check` answers a plain GET with the same parameters alike, or with 200. Such a GET has no
//! `Origin` and is no upgrade: the parameter `origin` says what that of the page is, and `attempt`, a name of up to 32
//! characters that the WebSocket's address had too, lets it answer 426 where the upgrade got lost on the way.
//!
//! # Client to server
//!
//! | event | example |
//! | --- | --- |
//! | `answer` | `{"event":"answer","data":"{\"type\":\"answer\",\"sdp\":\"v=0...\"}"}` |
//! | `candidate` | `{"event":"candidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.1 9 typ host\",\"sdpMid\":\"0\"}"}` |
//! | `chat` | `{"event":"chat","data":"Hello, world!"}` |
//! | `publish` | `{"event":"publish","kind":"video","source":"screen"}`: one more m-line to send on, please |
//! | `unpublish` | `{"event":"unpublish","kind":"video","source":"screen"}`, optionally with the `mid` |
//! | `mute` | `{"event":"mute","source":"microphone","muted":true}`: tell the others |
//! | `leave` | `{"event":"leave"}`: goodbye; a participant whose connection ends without it stays in the room for 30 s, for a connection with its `resume` secret |
//! | `renew` | `{"event":"renew"}`: the transport has failed; the server offers a fresh one (see `media`), at once or after a pause |
//! | `moderate` | `{"event":"moderate","action":"mute","id":"b7"}`: turns somebody's microphone off; they can turn it on again |
//! | `moderate` | `{"event":"moderate","action":"remove","id":"b7"}`: they are told `removed` and closed, and don't come back (see [`token`](crate::web::token)) until the room is empty |
//! | `moderate` | `{"event":"moderate","action":"lock"}`: nobody else comes in but moderators, until `unlock` or the room is empty; who was in comes back with `resume` |
//! | `view` | `{"event":"view","views":[{"mid":"2","width":640,"height":360,"priority":1}]}`: what the page shows of a line, in device pixels; 0 x 0 pauses its video; lines that are not named stay as they are, and a line that carries somebody else is shown until it is named again |
//! | `view` | `{"event":"view","views":[{"id":"b7","source":"camera","width":640,"height":360,"priority":2}]}`: the same of a person, on whatever line they are, and the wish to have them on one: where there are fewer lines than people, those with a `priority` of 2 and more come before all but who speaks, and those who are shown before the others |
//!
//! Candidates are accepted and not needed: the server is ICE-lite and learns addresses from checks (RFC 8445).
//! A client's DTLS certificate has an ECDSA key on the curve P-256 or P-384, or an RSA key of 2,048 to 4,096 bits if
//! its answers say `a=setup:active`, as browsers' do. With another the connection ends: `unsupported-certificate`.
//!
//! # Server to client
//!
//! | event | example |
//! | --- | --- |
//! | `welcome` | `{"event":"welcome","id":"k3v9x0q2","room":"default","name":"Ann","resume":"...","rights":{"publish":true,"subscribe":true,"moderate":false},"locked":false,"participants":[{"id":"b7","name":"Bob","muted":["camera"]}],"limits":{"chat_bytes":4096,"name_chars":64,"room_peers":100,"last_n":16},"version":"0.1.0"}`: the first message |
//! | `history` | `{"event":"history","lines":[{"message":"hi","time":"14:30:45","from":"b7","name":"Bob","id":17}]}`: the last chat lines, if there are any |
//! | `tracks` | `{"event":"tracks","tracks":[{"mid":"0","id":"b7","kind":"video","source":"camera","muted":false}]}`: what each m-line carries; `"own":true` marks lines to send on. Before each offer it describes that offer; without one it says that lines of the last offer carry somebody else, or nobody. Media comes by UDP, which nothing orders against the WebSocket: packets of the change may arrive before the message or after it |
//! | `offer` | `{"event":"offer","data":"{\"type\":\"offer\",\"sdp\":\"v=0...\"}"}` |
//! | `candidate` | `{"event":"candidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.9 8080 typ host\",\"sdpMid\":\"0\"}"}`: the server has one more address, which later offers announce too; never before the first offer |
//! | `chat` | `{"event":"chat","message":"hi","time":"14:30:45","from":"b7","name":"Bob","id":18}` |
//! | `joined`, `left` | `{"event":"joined","id":"b7","name":"Bob"}` |
//! | `mute` | `{"event":"mute","id":"b7","source":"camera","muted":true}` |
//! | `mute` | `{"event":"mute","id":"b7","source":"microphone","muted":true,"by":"k3v9x0q2"}`: the same by a moderator; whose it is gets it too |
//! | `lock` | `{"event":"lock","locked":true,"by":"k3v9x0q2"}`: a moderator locks the room, or unlocks it |
//! | `speaking` | `{"event":"speaking","ids":["b7"]}`: who speaks now, the speaker first, then the loudest; on change, at most five times a second |
//! | `quality` | `{"event":"quality","tracks":[{"mid":"2","sent":true,"rid":"h","height":360,"limit":"bandwidth"}]}`: what comes of a received video, and why nothing better: `view` (the page shows no more), `bandwidth` (no more fits), `server` (it has too much to do), `publisher` (no more comes of it; with `sent` false, nothing has for 3 s), `keyframe` (it, or the better layer, waits for a keyframe of the publisher), `oversized` (the publisher sends packets that are too large to be forwarded), `codec` (the receiver does not take the codec), or `none` (it is the best); `rid` and `height` where they are known; of each line, on change |
//! | `layers` | `{"event":"layers","mid":"1","rids":["q","h"]}`: which layers of an own line anybody wants; none, if nobody watches; a picture without layers is wanted if any is |
//! | `media` | `{"event":"media","state":"lost","reason":"media-timeout","retry_ms":5000}`: the receiver's own media is not connected; chat goes on, and after `retry_ms` the server offers a fresh transport |
//! | `media` | `{"event":"media","state":"connecting","fresh":true}`: the next offer is the first of a fresh transport: it takes a new `RTCPeerConnection`, and all mids are new; only to clients that came with `renew=1` |
//! | `media` | `{"event":"media","state":"connected"}`: media is connected again |
//! | `media` | `{"event":"media","id":"b7","state":"lost"}`: another participant has no media connection from now on; or has one again, with `connected`. In `welcome` those without have `"media":"lost"` |
//! | `error` | `{"event":"error","code":"chat-too-long","message":"A chat line may have 4096 bytes.","retry":true}`; `retry` says whether trying again makes sense; `id` and `source` name a track where the error is about one |
//! | `closing` | `{"event":"closing","reason":"shutdown","retry_ms":4000}`: calls go on until the server closes; reconnect then |
//! | `closing` | `{"event":"closing","reason":"shutdown","retry_ms":1000,"url":"https://b.example.org/aq_server/"}`: reconnect then, beside that page |
//!
//! # Limits
//!
//! A client may send 10 messages a second and 100 at once, and 240 KiB of text a second and 576 KiB at once; each offer
//! adds what its answer takes. A message is charged before it is read, whatever becomes of it. Chat messages have a
//! limit of 10 a second and 20 at once, those that are empty or too long included; within it they leave the number of
//! other messages alone. A message beyond a limit, or one that is malformed, is answered with an `error` and counts as a
//! fault: ten are forgiven, and one more every 10 s; then the server closes with 1008 and the code of the last as the
//! reason. A client that returns with `resume` goes on with the limits that it had left.
//!
//! # Error codes
//!
//! Codes are stable. `error` means the event, after which the connection goes on. `1008` means the event and then the end
//! of the connection, with this status and the code as its reason. `media` means the `reason` of that event, to clients
//! that came with `renew=1`; to others the same code comes with 1008. A number below 600 is the HTTP status of a refused
//! upgrade, and of `check`.
//!
//! | code | where | what happened, and what helps |
//! | --- | --- | --- |
//! | `bad-room` | 400 | the room's name has no visible character, or more than 128 |
//! | `unauthorized` | 401 | the token does not let in, for whatever reason |
//! | `origin` | 403 | the page's origin is neither that of this server nor allowed |
//! | `locked` | 403 | the room is locked |
//! | `removed` | 403, 1008 | a moderator has removed the participant |
//! | `no-upgrade` | 426 | the proxy in front does not forward WebSocket upgrades; from `check` only |
//! | `too-many-conns` | 429 | the network has as many connections as it may |
//! | `too-many-faults` | 429 | too many calls from the network have failed; `Retry-After` says when it is over |
//! | `closing` | 503 | the server is about to end |
//! | `full` | 503 | the server is overloaded |
//! | `room-full`, `server-full`, `server-busy` | 503 | as many participants, rooms or joining participants are there as may be |
//! | `bad-message` | `error`, 1008 | the message could not be read; a fault, unless it was an empty chat message |
//! | `unknown-event` | `error` | the event is not known, and was ignored |
//! | `too-fast` | `error`, 1008 | too many messages, too many bytes of them, or too many frames; a fault. A `candidate` too many is ignored |
//! | `chat-too-fast` | `error`, 1008 | too many chat messages; a fault |
//! | `chat-too-long` | `error` | the chat message has too many bytes |
//! | `forbidden` | `error` | the token does not grant this |
//! | `not-there` | `error` | the participant to be moderated has left |
//! | `track-limit` | `error` | the participant sends on as many lines as one may, or has rejected too many of the kind |
//! | `not-publishing` | `error` | there is no such track to give up |
//! | `lines-rejected` | `error` | answers have rejected so many m-lines of a kind that no more are offered until the next transport; once for each kind |
//! | `packet-too-large` | `error` | packets of the own track in `source` are larger than what can be forwarded, and are dropped; once |
//! | `cannot-decode` | `error` | the track of `id` and `source` comes in a codec that the answer does not have |
//! | `cannot-renew` | `error` | no fresh transport is possible: the client came without `renew=1`, or its network has too many participants without media; a new connection helps |
//! | `replaced` | 1008 | another connection came with the `resume` secret |
//! | `bad-answer` | 1008 | the answer does not fit the offer |
//! | `unsupported-answer` | 1008 | the answer is valid, and wants what this server does not have; `message` says what |
//! | `unexpected-answer` | 1008 | an answer came while no offer was out |
//! | `negotiation-timeout` | 1008 | no answer came within 20 s |
//! | `media-timeout` | `media`, 1008 | ICE or DTLS did not come up in time, or ICE consent was lost |
//! | `media-closed` | `media`, 1008 | the client closed DTLS |
//! | `used-up` | `media`, 1008 | the transport has used up its SSRCs: 10,000 that the server sends, or 2,048 that the client sends; or it has learnt 256 addresses of the server |
//! | `no-srtp` | 1008 | DTLS agreed on no SRTP profile |
//! | `dtls-failed` | `media`, 1008 | DTLS failed, or its certificate is not that of the answer; 1008 where that happens again |
//! | `unsupported-certificate` | `media`, 1008 | the client's DTLS certificate has a kind of key that the server cannot check; 1008 where that happens again |
//! | `internal` | 1008 | the WebRTC engine failed |
//!
//! Other ends have a status of their own: 1000 after `leave`, 1001 when the server ends, and 1002, 1003, 1007 or 1009 for
//! what RFC 6455 does not allow, binary messages, bad UTF-8, and messages that are too long.

use serde::{Deserialize, Serialize};

use crate::track::{Kind, Source};
use crate::web::token::Rights;

/// Lines and people that one `view` may name: more than anybody receives.
const MAX_VIEWS: usize = 512;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// The SDP that answers the outstanding offer.
    Answer {
        /// The SDP text.
        sdp: String,
    },
    /// A trickled candidate; its content does not matter to an ICE-lite server.
    Candidate,
    /// A chat line.
    Chat {
        /// The text.
        message: String,
    },
    /// Asks for an m-line to send on.
    Publish {
        /// Audio or video.
        kind: Kind,
        /// What it will be.
        source: Source,
    },
    /// Gives one up.
    Unpublish {
        /// Audio or video.
        kind: Kind,
        /// What it was.
        source: Source,
        /// Which, where there are several.
        mid: Option<String>,
    },
    /// What the page shows of some lines or people.
    View {
        /// One for each that has changed.
        views: Vec<View>,
    },
    /// Tells the others.
    Mute {
        /// What is muted or not.
        source: Source,
        /// Whether it is.
        muted: bool,
    },
    /// The participant leaves for good.
    Leave,
    /// The client's transport has failed: it wants a fresh one.
    Renew,
    /// Does something to others, or to the room.
    Moderate(Moderation),
}

/// What a moderator wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Moderation {
    /// Turn somebody's microphone off.
    Mute {
        /// The participant.
        id: String,
    },
    /// Let somebody go.
    Remove {
        /// The participant.
        id: String,
    },
    /// Let nobody else in.
    Lock,
    /// Let everybody in again.
    Unlock,
}

/// What the page shows of one line, or of one person.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct View {
    /// Of what.
    #[serde(flatten)]
    pub of: Viewed,
    /// Device pixels; 0 if it is not seen.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Higher is more important.
    #[serde(default)]
    pub priority: u32,
}

/// What a page shows something of.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Viewed {
    /// A line, as long as it carries whom it carries.
    Line {
        /// The m-line.
        mid: String,
    },
    /// A person, whether they are on a line or not.
    Person {
        /// The participant.
        id: String,
        /// Camera or screen.
        source: Source,
    },
}

/// Why a frame is no message.
#[derive(Debug, PartialEq, Eq)]
pub enum BadMessage {
    /// Not JSON, or not of the shape that its event has. The text says where.
    Malformed(String),
    /// An event that this server does not know: a newer page, perhaps.
    UnknownEvent(String),
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The first message.
    Welcome {
        /// The participant's own id.
        id: &'a str,
        /// The room's name.
        room: &'a str,
        /// The participant's own name, as trimmed.
        name: &'a str,
        /// The secret with which a later connection replaces this one.
        resume: &'a str,
        /// What the participant may do.
        rights: Rights,
        /// Nobody else comes in.
        locked: bool,
        /// Who is there already.
        participants: Vec<Participant<'a>>,
        /// What the server allows.
        limits: Limits,
        /// The server's version.
        version: &'a str,
    },
    /// The last chat lines.
    History {
        /// Oldest first.
        lines: Vec<ChatLine<'a>>,
    },
    /// What the offer that follows carries.
    Tracks {
        /// One for each m-line that carries something.
        tracks: Vec<Track<'a>>,
    },
    /// An offer.
    Offer {
        /// `RTCSessionDescriptionInit` as JSON text.
        data: String,
    },
    /// An address that the server did not have at the first offer.
    Candidate {
        /// `RTCIceCandidateInit` as JSON text.
        data: String,
    },
    /// A chat line.
    Chat(ChatLine<'a>),
    /// Somebody came.
    Joined {
        /// Who.
        id: &'a str,
        /// Their name.
        name: &'a str,
    },
    /// Somebody went.
    Left {
        /// Who.
        id: &'a str,
        /// Their name.
        name: &'a str,
    },
    /// Somebody muted or unmuted something.
    Mute {
        /// Who.
        id: &'a str,
        /// What.
        source: Source,
        /// Whether it is muted now.
        muted: bool,
        /// The moderator who did it, if one did.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a str>,
    },
    /// The room is locked or not from now on.
    Lock {
        /// Whether it is.
        locked: bool,
        /// The moderator who did it.
        by: &'a str,
    },
    /// Who speaks now.
    Speaking {
        /// Who; the one who has the word first, then the loudest.
        ids: Vec<&'a str>,
    },
    /// What is sent of received videos.
    Quality {
        /// Those of which something has changed.
        tracks: Vec<Quality<'a>>,
    },
    /// Which layers of an own line anybody wants.
    Layers {
        /// The m-line.
        mid: &'a str,
        /// The smallest first.
        rids: &'a [&'a str],
    },
    /// The state of a participant's media connection has changed.
    Media {
        /// Another participant; `None` for the receiver of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        /// The state.
        state: MediaState,
        /// The next offer is the first of a fresh transport.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
        /// The code of the error that ended the last transport.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// When a fresh transport will be offered.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
    /// Something the client did or wants does not work.
    Error {
        /// Stable, kebab-case.
        code: &'a str,
        /// For a person.
        message: &'a str,
        /// Trying again makes sense.
        retry: bool,
        /// The participant whose track it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        /// The track it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
    /// The server goes away.
    Closing {
        /// Why.
        reason: &'a str,
        /// When to reconnect.
        retry_ms: u64,
        /// Where, if not here.
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<&'a str>,
    },
}

/// How far a media connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaState {
    /// A fresh transport is about to be offered.
    Connecting,
    /// Media flows.
    Connected,
    /// It does not, and did or should.
    Lost,
}

/// Somebody in the room.
#[derive(Debug, Serialize)]
pub struct Participant<'a> {
    /// Opaque, for the time of their stay.
    pub id: &'a str,
    /// As they gave it, trimmed; text, never markup.
    pub name: &'a str,
    /// What they muted.
    pub muted: &'a [Source],
    /// `Lost` if it has no media connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaState>,
}

/// What one m-line carries.
#[derive(Debug, Serialize)]
pub struct Track<'a> {
    /// The m-line.
    pub mid: &'a str,
    /// Whose it is.
    pub id: &'a str,
    /// Audio or video.
    pub kind: Kind,
    /// From where.
    pub source: Source,
    /// Muted by its publisher.
    pub muted: bool,
    /// The receiver of this message may send on it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// What is sent of one received video.
#[derive(Debug, Serialize)]
pub struct Quality<'a> {
    /// The m-line.
    pub mid: &'a str,
    /// Anything is.
    pub sent: bool,
    /// The layer, where there are several; spatial ones of one stream have the same names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<&'a str>,
    /// Lines of the picture, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// Why not a better one.
    pub limit: &'a str,
}

/// One line of the room's chat.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChatLine<'a> {
    /// The text; never markup.
    pub message: &'a str,
    /// The server's local time, `HH:MM:SS`.
    pub time: &'a str,
    /// The participant who wrote it.
    pub from: &'a str,
    /// Their name.
    pub name: &'a str,
    /// Grows by one for each line of the room.
    pub id: u64,
}

/// What the server allows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Bytes of UTF-8 in a chat line.
    pub chat_bytes: usize,
    /// Characters of a name.
    pub name_chars: usize,
    /// Participants of a room.
    pub room_peers: usize,
    /// Others whose tracks one participant gets at once; 0 for no limit.
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

/// Every field that any client event has; which of them an event needs is said in `parse`.
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

/// The events of clients.
const EVENTS: [&str; 10] =
    ["answer", "candidate", "chat", "publish", "unpublish", "mute", "view", "leave", "renew", "moderate"];

impl ClientMessage {
    /// Whether a text frame may have this event. It costs a fraction of reading it.
    pub fn may_be(event: &str, text: &str) -> bool {
        text.match_indices(event).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + event.len()..]);
            before.ends_with('"') && after.starts_with('"')
        })
    }

    /// Reads one text frame. Cost is linear in its length, and so is the memory.
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
                        "a description of type answer was expected, not {}",
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
                    return Err(BadMessage::Malformed(format!("at most {MAX_VIEWS} views can be told at once")));
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
    /// The text frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("messages have string keys only")
    }

    /// An error that is not about a track.
    pub fn error<'a>(code: &'a str, message: &'a str, retry: bool) -> ServerMessage<'a> {
        ServerMessage::Error { code, message, retry, id: None, source: None }
    }

    /// A candidate for the m-line `mid`, as browsers take it.
    pub fn candidate(candidate: &str, mid: &str) -> ServerMessage<'static> {
        let init = CandidateInit { candidate, sdp_mid: mid };
        ServerMessage::Candidate { data: serde_json::to_string(&init).expect("a candidate is two strings") }
    }

    /// An offer, as browsers take it.
    pub fn offer(sdp: String) -> ServerMessage<'static> {
        let description = Description { kind: "offer".to_owned(), sdp };
        ServerMessage::Offer { data: serde_json::to_string(&description).expect("a description is two strings") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the module's documentation, by event.
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
    fn documented_client_messages_are_understood() {
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
    fn documented_server_messages_are_what_is_sent() {
        let media = |id, state, fresh, reason, retry_ms| ServerMessage::Media { id, state, fresh, reason, retry_ms };
        let line = |id| ChatLine { message: "hi", time: "14:30:45", from: "b7", name: "Bob", id };
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
            ServerMessage::History { lines: vec![line(17)] },
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
            ServerMessage::Chat(line(18)),
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
            ServerMessage::error("chat-too-long", "A chat line may have 4096 bytes.", true),
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
    fn what_is_no_message_is_refused_with_a_reason() {
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
