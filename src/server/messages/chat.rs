//! Chat: a message is sent to the other participants of the room and added to its history.

use crate::id::PeerId;
use crate::room::{CHAT_BYTES, ChatMessage, chat_bytes};
use crate::server::Server;
use crate::web::signal::{self, ServerMessage};

impl Server {
    /// Handles a chat message.
    pub(in crate::server) fn on_chat(&mut self, id: PeerId, text: String) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        if !participant.budget.take_chat(now) {
            return self.strike(id, "chat-too-fast", "Too many chat messages: at most 10 a second are allowed.");
        }
        if text.len() > CHAT_BYTES {
            let why = format!("A chat message may have at most {CHAT_BYTES} bytes.");
            return self.refuse(id, "chat-too-long", &why, true);
        }
        if text.trim().is_empty() {
            return self.refuse(id, "bad-message", "A chat message must not be empty.", false);
        }
        let Some(room) = self.rooms.get_mut(&participant.room) else {
            return;
        };
        let bytes = chat_bytes(&text, &participant.name);
        if !room.take_chat(now, bytes, participant.budget.is_heavy(now)) {
            let why = "There is too much chat in this room. Try again in a moment.";
            return self.refuse(id, "chat-too-fast", why, true);
        }
        participant.budget.count_chat(now, bytes);
        participant.budget.refund_chat();
        let time = self.wall.time_of_day(now);
        let message = room.chat(&participant.id, &participant.name, text, time, self.config.limits.chat_history);
        self.stats.chat_messages += 1;
        let message = ServerMessage::Chat(encode(&message));
        self.participants.broadcast(now, room, Some(id), &message, &mut self.conns);
    }
}

/// Converts a chat message to the form that the protocol sends.
pub(in crate::server) fn encode(message: &ChatMessage) -> signal::ChatMessage<'_> {
    let ChatMessage { id, text, time, from, name } = message;
    signal::ChatMessage { message: text, time, from, name, id: *id }
}
