//! Messages from clients.

use serde::Deserialize;

use super::Description;
use crate::track::{Kind, Source};

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
        /// The source that the new track will carry.
        source: Source,
    },
    /// Ends a published track.
    Unpublish {
        /// Audio or video.
        kind: Kind,
        /// The source that the track carries.
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
    /// Raises or lowers the participant's hand.
    Hand {
        /// The new state.
        raised: bool,
    },
    /// Shows a reaction to the room.
    Reaction {
        /// An emoji.
        reaction: String,
    },
    /// Changes the participant's name.
    Rename {
        /// The new name.
        name: String,
    },
    /// Admits or turns away a client that waits.
    Admit {
        /// The client.
        id: String,
        /// False turns it away.
        admitted: bool,
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
    /// An action on one participant.
    Participant {
        /// The participant.
        id: String,
        /// The action.
        action: ParticipantAction,
    },
    /// Mute the microphones of all who are not moderators.
    MuteAll,
    /// End the spotlight.
    EndSpotlight,
    /// Lock the room: only moderators can join.
    Lock,
    /// Unlock the room.
    Unlock,
    /// Remove everyone and end the room.
    End,
}

/// A moderator's action on one participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParticipantAction {
    /// Mute the microphone.
    Mute,
    /// Lower the hand.
    LowerHand,
    /// Show the participant large to everyone.
    Spotlight,
    /// Make the participant a moderator.
    Promote,
    /// Remove the participant from the room.
    Remove,
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
    MLine {
        /// The m-line.
        mid: String,
    },
    /// A participant's track, on whichever m-line it is or will be.
    Participant {
        /// The participant.
        id: String,
        /// Camera or screen.
        source: Source,
    },
}

/// Why a text frame is not a client message.
#[derive(Debug, PartialEq, Eq)]
pub enum BadMessage {
    /// The text is not JSON, or a field of the event is missing or invalid. The string says where.
    Malformed(String),
    /// The server does not know this event; the page may be newer than the server.
    UnknownEvent(String),
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
    raised: Option<bool>,
    reaction: Option<String>,
    name: Option<String>,
    admitted: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Mute,
    MuteAll,
    LowerHand,
    Spotlight,
    Promote,
    Remove,
    Lock,
    Unlock,
    End,
}

/// The names of the client events.
const EVENTS: [&str; 14] = [
    "answer",
    "candidate",
    "chat",
    "publish",
    "unpublish",
    "mute",
    "view",
    "hand",
    "reaction",
    "rename",
    "admit",
    "leave",
    "renew",
    "moderate",
];

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
        let missing = |field: &str| missing(&event, field);
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
            "hand" => Ok(Self::Hand { raised: fields.raised.ok_or_else(|| missing("raised"))? }),
            "reaction" => Ok(Self::Reaction { reaction: fields.reaction.ok_or_else(|| missing("reaction"))? }),
            "rename" => Ok(Self::Rename { name: fields.name.ok_or_else(|| missing("name"))? }),
            "admit" => Ok(Self::Admit {
                id: fields.id.ok_or_else(|| missing("id"))?,
                admitted: fields.admitted.ok_or_else(|| missing("admitted"))?,
            }),
            "leave" => Ok(Self::Leave),
            "renew" => Ok(Self::Renew),
            "moderate" => {
                let action = fields.action.ok_or_else(|| missing("action"))?;
                Ok(Self::Moderate(Moderation::new(action, fields.id)?))
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

impl Moderation {
    /// Creates a moderator's action. `id` names the participant that it concerns.
    fn new(action: Action, id: Option<String>) -> Result<Self, BadMessage> {
        let names_one = id.is_some();
        let on = |action| match id {
            Some(id) => Ok(Self::Participant { id, action }),
            None => Err(missing("moderate", "id")),
        };
        Ok(match action {
            Action::Mute => on(ParticipantAction::Mute)?,
            Action::LowerHand => on(ParticipantAction::LowerHand)?,
            Action::Spotlight if !names_one => Self::EndSpotlight,
            Action::Spotlight => on(ParticipantAction::Spotlight)?,
            Action::Promote => on(ParticipantAction::Promote)?,
            Action::Remove => on(ParticipantAction::Remove)?,
            Action::MuteAll => Self::MuteAll,
            Action::Lock => Self::Lock,
            Action::Unlock => Self::Unlock,
            Action::End => Self::End,
        })
    }
}

fn missing(event: &str, field: &str) -> BadMessage {
    BadMessage::Malformed(format!("`{event}` needs `{field}`"))
}
