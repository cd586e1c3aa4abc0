//! The examples of the documentation, and malformed messages.

use super::*;
use crate::track::{Kind, Source};
use crate::web::token::Rights;

/// The examples in the section `direction` of the module's documentation, in order.
fn documented(direction: &str) -> Vec<String> {
    let text = include_str!("../signal.rs");
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
    let bob = Viewed::Participant { id: "b7".to_owned(), source: Source::Camera };
    let on_bob = |action| ClientMessage::Moderate(Moderation::Participant { id: "b7".to_owned(), action });
    let expected = [
        ClientMessage::Answer { sdp: "v=0...".to_owned() },
        ClientMessage::Candidate,
        ClientMessage::Chat { message: "Hello, world!".to_owned() },
        ClientMessage::Publish { kind, source },
        ClientMessage::Unpublish { kind, source, mid },
        ClientMessage::Mute { source: Source::Microphone, muted: true },
        ClientMessage::Hand { raised: true },
        ClientMessage::Reaction { reaction: "👍".to_owned() },
        ClientMessage::Rename { name: "Ann Lee".to_owned() },
        ClientMessage::Admit { id: "w4".to_owned(), admitted: true },
        ClientMessage::Leave,
        ClientMessage::Renew,
        on_bob(ParticipantAction::Mute),
        on_bob(ParticipantAction::Remove),
        ClientMessage::Moderate(Moderation::Lock),
        ClientMessage::Moderate(Moderation::MuteAll),
        on_bob(ParticipantAction::LowerHand),
        on_bob(ParticipantAction::Spotlight),
        on_bob(ParticipantAction::Promote),
        ClientMessage::Moderate(Moderation::End),
        ClientMessage::View { views: vec![view(Viewed::MLine { mid: "2".to_owned() }, 1)] },
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
    let chat = |id| ChatMessage { message: "hi", time: "14:30:45", from: "b7", name: "Bob", id };
    let sent = [
        ServerMessage::Welcome {
            id: "k3v9x0q2",
            room: "default",
            name: "Ann",
            resume: "...",
            rights: Rights { publish: true, subscribe: true, moderate: false },
            locked: false,
            participants: vec![Participant {
                id: "b7",
                name: "Bob",
                moderator: true,
                muted: &[Source::Camera],
                media: None,
            }],
            hands: vec!["b7"],
            spotlight: Some("b7"),
            limits: Limits { chat_bytes: 4096, name_chars: 64, room_peers: 100, last_n: 16 },
            version: "0.1.0",
        },
        ServerMessage::History { messages: vec![chat(17)] },
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
        ServerMessage::Joined { id: "b7", name: "Bob", moderator: false },
        ServerMessage::Left { id: "b7", name: "Bob" },
        ServerMessage::Mute { id: "b7", source: Source::Camera, muted: true, by: None },
        ServerMessage::Mute { id: "b7", source: Source::Microphone, muted: true, by: Some("k3v9x0q2") },
        ServerMessage::Waiting { position: 2 },
        ServerMessage::Knock { id: "w4", name: "Dan", waiting: true },
        ServerMessage::Hand { id: "b7", raised: true, by: None },
        ServerMessage::Hand { id: "b7", raised: false, by: Some("k3v9x0q2") },
        ServerMessage::Reaction { id: "b7", reaction: "👍" },
        ServerMessage::Rename { id: "b7", name: "Bob Lee" },
        ServerMessage::Spotlight { id: Some("b7"), by: "k3v9x0q2" },
        ServerMessage::Promote { id: "b7", by: "k3v9x0q2" },
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
        ServerMessage::Notice { message: "The server restarts at 18:00." },
        ServerMessage::Closing { reason: "shutdown", retry_ms: 4000, url: None },
        ServerMessage::Closing { reason: "shutdown", retry_ms: 1000, url: Some("https://b.example.org/aq_server/") },
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
        "{\"event\":\"moderate\",\"action\":\"demote\",\"id\":\"b7\"}",
        "{\"event\":\"moderate\",\"action\":\"promote\"}",
        "{\"event\":\"moderate\",\"action\":\"lower-hand\"}",
        "{\"event\":\"admit\",\"id\":\"w4\"}",
        "{\"event\":\"admit\",\"admitted\":true}",
        "{\"event\":\"hand\"}",
        "{\"event\":\"hand\",\"raised\":1}",
        "{\"event\":\"reaction\"}",
        "{\"event\":\"rename\",\"name\":null}",
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

#[test]
fn a_spotlight_without_a_participant_ends_it() {
    let parsed = ClientMessage::parse("{\"event\":\"moderate\",\"action\":\"spotlight\"}");
    assert_eq!(parsed, Ok(ClientMessage::Moderate(Moderation::EndSpotlight)));
}
