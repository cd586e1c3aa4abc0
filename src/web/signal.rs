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
//! - `knock=1`: if the room is locked, wait until a moderator admits the client (see `waiting`);
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
//! | `hand` | `{"event":"hand","raised":true}`: raises or lowers the participant's hand |
//! | `reaction` | `{"event":"reaction","reaction":"👍"}`: an emoji of up to 32 bytes that the others' pages show for a moment; it is not kept |
//! | `rename` | `{"event":"rename","name":"Ann Lee"}`: changes the participant's name, unless the token contains it |
//! | `admit` | `{"event":"admit","id":"w4","admitted":true}`: a moderator admits the client `w4` that waits, or with `false` turns it away |
//! | `leave` | `{"event":"leave"}`: leaves the room at once. Without it, a participant whose connection ends stays in the room for 30 s, and a new connection with the `resume` secret takes its place |
//! | `renew` | `{"event":"renew"}`: the client's transport has failed; the server offers a fresh one (see `media`), at once or after a pause |
//! | `moderate` | `{"event":"moderate","action":"mute","id":"b7"}`: mutes the microphone of participant `b7`, who can unmute it again |
//! | `moderate` | `{"event":"moderate","action":"remove","id":"b7"}`: sends `removed` to participant `b7` and closes its connection; the participant cannot rejoin (see [`token`](crate::web::token)) until the room has been empty |
//! | `moderate` | `{"event":"moderate","action":"lock"}`: only moderators can join, until `unlock` or until the room is empty; participants who left the locked room can rejoin with `resume` |
//! | `moderate` | `{"event":"moderate","action":"mute-all"}`: mutes the microphones of all participants who are not moderators |
//! | `moderate` | `{"event":"moderate","action":"lower-hand","id":"b7"}`: lowers the hand of participant `b7` |
//! | `moderate` | `{"event":"moderate","action":"spotlight","id":"b7"}`: shows participant `b7` large to everyone; without `id`, ends the spotlight |
//! | `moderate` | `{"event":"moderate","action":"promote","id":"b7"}`: makes participant `b7` a moderator until it leaves |
//! | `moderate` | `{"event":"moderate","action":"end"}`: sends `ended` to all participants, closes their connections, and ends the room |
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
//! | `welcome` | `{"event":"welcome","id":"k3v9x0q2","room":"default","name":"Ann","resume":"...","rights":{"publish":true,"subscribe":true,"moderate":false},"locked":false,"participants":[{"id":"b7","name":"Bob","moderator":true,"muted":["camera"]}],"hands":["b7"],"spotlight":"b7","limits":{"chat_bytes":4096,"name_chars":64,"room_peers":100,"last_n":16},"version":"0.1.0"}`: the first message, unless the client has to wait (see `waiting`). `moderator`, `hands` (in the order of raising) and `spotlight` are left out if they are false or empty |
//! | `history` | `{"event":"history","lines":[{"message":"hi","time":"14:30:45","from":"b7","name":"Bob","id":17}]}`: the latest chat messages, if there are any |
//! | `tracks` | `{"event":"tracks","tracks":[{"mid":"0","id":"b7","kind":"video","source":"camera","muted":false}]}`: the track on each m-line; `"own":true` marks m-lines that the client sends on. Sent before each offer, for the m-lines of that offer, and without an offer if m-lines of the latest offer carry other tracks now, or none. The WebSocket and UDP are not ordered against each other: packets of the new track may arrive before this message |
//! | `offer` | `{"event":"offer","data":"{\"type\":\"offer\",\"sdp\":\"v=0...\"}"}` |
//! | `candidate` | `{"event":"candidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.9 8080 typ host\",\"sdpMid\":\"0\"}"}`: a new address of the server, which later offers contain too; never sent before the first offer |
//! | `chat` | `{"event":"chat","message":"hi","time":"14:30:45","from":"b7","name":"Bob","id":18}` |
//! | `joined` | `{"event":"joined","id":"b7","name":"Bob"}`, with `"moderator":true` for a moderator |
//! | `left` | `{"event":"left","id":"b7","name":"Bob"}`; its hand is down, and its spotlight has ended |
//! | `mute` | `{"event":"mute","id":"b7","source":"camera","muted":true}` |
//! | `mute` | `{"event":"mute","id":"b7","source":"microphone","muted":true,"by":"k3v9x0q2"}`: muted by a moderator; sent to the muted participant too |
//! | `waiting` | `{"event":"waiting","position":2}`: the client waits for a moderator; sent instead of `welcome` to a client with `knock=1` if the room is locked, and when the position changes. When the client is admitted, or the room is no longer locked, `welcome` follows on the same WebSocket. Until then only `leave` has an effect |
//! | `knock` | `{"event":"knock","id":"w4","name":"Dan","waiting":true}`: a client waits; with `false`, it no longer waits. Sent to moderators, and to new ones for each client that waits |
//! | `hand` | `{"event":"hand","id":"b7","raised":true}`; sent to `b7` too: everyone receives these messages in the same order |
//! | `hand` | `{"event":"hand","id":"b7","raised":false,"by":"k3v9x0q2"}`: lowered by a moderator |
//! | `reaction` | `{"event":"reaction","id":"b7","reaction":"👍"}` |
//! | `rename` | `{"event":"rename","id":"b7","name":"Bob Lee"}`: sent to `b7` too, with the name as it is shown |
//! | `spotlight` | `{"event":"spotlight","id":"b7","by":"k3v9x0q2"}`: a moderator has put `b7` into the spotlight; with `"id":null`, the spotlight has ended |
//! | `promote` | `{"event":"promote","id":"b7","by":"k3v9x0q2"}`: `b7` is a moderator now |
//! | `lock` | `{"event":"lock","locked":true,"by":"k3v9x0q2"}`: a moderator has locked or unlocked the room |
//! | `speaking` | `{"event":"speaking","ids":["b7"]}`: the participants who speak now: the dominant speaker, then the others by loudness; sent on change, at most five times a second |
//! | `quality` | `{"event":"quality","tracks":[{"mid":"2","sent":true,"rid":"h","height":360,"limit":"bandwidth"}]}`: what is sent of a subscribed video track, and what prevents a better quality: `view` (the page shows it no larger), `bandwidth` (the estimate allows no more), `server` (the server is overloaded), `publisher` (the publisher sends no more; with `sent` false, nothing for 3 s), `keyframe` (the track, or the better layer, waits for a keyframe), `oversized` (the publisher's packets are too large to forward), `codec` (the subscriber does not support the codec), or `none` (it is the best quality). `rid` and `height` are present if known; each m-line is sent on change |
//! | `layers` | `{"event":"layers","mid":"1","rids":["q","h"]}`: the layers of a published m-line that some subscriber needs; empty if there is none. A publisher without simulcast is needed if the list is not empty |
//! | `media` | `{"event":"media","state":"lost","reason":"media-timeout","retry_ms":5000}`: the client's own media is disconnected; chat continues, and the server offers a fresh transport after `retry_ms` |
//! | `media` | `{"event":"media","state":"connecting","fresh":true}`: the next offer is the first of a fresh transport: the client needs a new `RTCPeerConnection`, and all mids are new. Only sent to clients with `renew=1` |
//! | `media` | `{"event":"media","state":"connected"}`: the client's own media is connected again |
//! | `media` | `{"event":"media","id":"b7","state":"lost"}`: the media of another participant is disconnected; with `connected`, it is connected again. In `welcome`, participants without media have `"media":"lost"` |
//! | `error` | `{"event":"error","code":"chat-too-long","message":"A chat message may have at most 4096 bytes.","retry":true}`; `retry` is true if the same request may succeed later; `id` and `source` name a track if the error concerns one |
//! | `notice` | `{"event":"notice","message":"The server restarts at 18:00."}`: a message from the operator, sent with a POST to `{prefix}/notice` |
//! | `closing` | `{"event":"closing","reason":"shutdown","retry_ms":4000}`: the server shuts down; calls continue until it closes the connection; reconnect after `retry_ms` |
//! | `closing` | `{"event":"closing","reason":"shutdown","retry_ms":1000,"url":"https://b.example.org/aq_server/"}`: the same, and the page to reconnect to is at `url` |
//!
//! # Limits
//!
//! A client may send 10 messages a second with bursts of 100, and 240 KiB of text a second with bursts of 512 KiB; the
//! answer to each offer is not charged. Every other message is charged before it is parsed, valid or not. Chat
//! messages, including empty and overlong ones, have their own limit of 10 a second with bursts of 20; those within it
//! do not count towards the number of messages. Raised hands, reactions and new names are limited to 2 a second with
//! bursts of 20; those above it are refused, which is not a fault. A message that is malformed or exceeds a limit gets
//! an `error` and counts as a fault. Ten faults are tolerated, and one more every 10 s; the next one closes the
//! connection with 1008 and the code of that fault as the reason. A client that returns with `resume` continues with
//! its remaining limits.
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
//! | `locked` | 403 | the room is locked, and the client does not wait (`knock=1`) |
//! | `not-admitted` | 1008 | a moderator has turned away the client, which waited |
//! | `waiting-full` | 503 | 50 clients wait for the room already, or 10 of the client's network |
//! | `removed` | 403, 1008 | a moderator has removed the participant |
//! | `ended` | 1008 | a moderator has ended the call for everyone |
//! | `no-upgrade` | 426 | a proxy does not forward WebSocket upgrades; from `check` only |
//! | `too-many-conns` | 429 | the client's network has reached its limit of connections |
//! | `too-many-faults` | 429 | too many calls from the client's network have failed; retry after `Retry-After` |
//! | `too-many-joins` | 429 | more than 10 joins a second from the client's network, after a burst of 100; retry after `Retry-After` |
//! | `closing` | 503 | the server is shutting down |
//! | `full` | 503 | the server is overloaded |
//! | `room-full`, `server-full`, `server-busy` | 503 | the limit of participants in the room, of rooms or participants on the server, or of participants who are joining is reached |
//! | `bad-message` | `error`, 1008 | the message is malformed; a fault, unless it was an empty chat message |
//! | `unknown-event` | `error` | the event is unknown and was ignored |
//! | `too-fast` | `error`, 1008 | too many messages, bytes or frames; a fault. A `candidate` above the limit is ignored |
//! | `chat-too-fast` | `error`, 1008 | too many chat messages; a fault. Without a fault if the room as a whole has too much chat: more than 64 KiB of JSON a second after a burst of 512 KiB, of which those who have sent little keep half |
//! | `chat-too-long` | `error` | the chat message has too many bytes |
//! | `gesture-too-fast` | `error` | too many raised hands, reactions and new names |
//! | `bad-reaction` | `error` | the reaction is empty, has more than 32 bytes, or contains white space or control characters |
//! | `bad-name` | `error` | the new name has no visible character |
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

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use incoming::{BadMessage, ClientMessage, Moderation, ParticipantAction, View, Viewed};
pub use outgoing::{ChatMessage, Limits, MediaState, Participant, Quality, ServerMessage, Track};

/// `data` of `offer` and `answer`.
#[derive(Serialize, Deserialize)]
struct Description {
    #[serde(rename = "type")]
    kind: String,
    sdp: String,
}
