//! The messages of participants: they are charged to a budget, parsed, and dispatched or refused.

pub(super) mod chat;
mod gestures;
mod moderation;
mod notice;

use std::time::Duration;

use log::{debug, log};

use crate::id::{ConnId, PeerId};
use crate::server::Server;
use crate::server::presence::budget::MAX_FAULTS;
use crate::web::signal::{BadMessage, ClientMessage, ServerMessage};

/// The WebSocket close code for a policy violation (RFC 6455 section 7.4.1).
pub const POLICY: u16 = 1008;

/// Bytes of the longest `candidate` message that browsers send, with room for extensions.
const CANDIDATE_BYTES: usize = 1_024;

impl Server {
    /// Handles a text frame of a participant.
    pub(in crate::server) fn on_message(&mut self, conn: ConnId, text: &str) {
        let Some(id) = self.conns.get(conn).and_then(|entry| entry.participant) else {
            return self.on_waiting_message(conn, text);
        };
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        participant.has_sent_message = true;
        let budget = &mut participant.budget;
        let is_answer = || ClientMessage::may_be("answer", text);
        if !(budget.charge(self.now, text.len()) || is_answer() && budget.take_answer(text.len())) {
            // Not a fault: browsers send many candidates at once, and their content is never used.
            if text.len() <= CANDIDATE_BYTES && ClientMessage::may_be("candidate", text) {
                return;
            }
            return self.strike(
                id,
                "too-fast",
                "Too many messages: at most 10 a second and 240 KiB a second are allowed.",
            );
        }
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Answer { sdp }) => self.on_answer(id, sdp, text.len()),
            // An ICE-lite server learns addresses from connectivity checks. It never sends to a client's candidates,
            // which may be addresses of third parties.
            Ok(ClientMessage::Candidate) => {}
            Ok(ClientMessage::Chat { message }) => self.on_chat(id, message),
            Ok(ClientMessage::Publish { kind, source }) => self.on_publish(id, kind, source),
            Ok(ClientMessage::Unpublish { kind, source, mid }) => self.on_unpublish(id, kind, source, mid),
            Ok(ClientMessage::View { views }) => self.on_view(id, &views),
            Ok(ClientMessage::Mute { source, muted }) => self.on_mute(id, source, muted),
            Ok(ClientMessage::Hand { raised }) => self.on_hand(id, raised),
            Ok(ClientMessage::Reaction { reaction }) => self.on_reaction(id, &reaction),
            Ok(ClientMessage::Rename { name }) => self.on_rename(id, &name),
            Ok(ClientMessage::Admit { id: waiting, admitted }) => self.on_admit(id, &waiting, admitted),
            Ok(ClientMessage::Leave) => self.on_leave(id),
            Ok(ClientMessage::Renew) => self.on_renew(id),
            Ok(ClientMessage::Moderate(moderation)) => self.on_moderate(id, &moderation),
            Err(BadMessage::Malformed(why)) => {
                self.strike(id, "bad-message", &format!("The message could not be read: {why}."));
            }
            Err(BadMessage::UnknownEvent(event)) => {
                debug!("{id}: unknown event {:?}", event.chars().take(32).collect::<String>());
                let message = "This server does not know the event and has ignored it.";
                self.send(id, &ServerMessage::error("unknown-event", message, false));
            }
        }
    }

    /// Sends a message to one participant.
    pub(in crate::server) fn send(&mut self, id: PeerId, message: &ServerMessage<'_>) {
        if let Some(participant) = self.participants.get(id)
            && let Some(conn) = self.conns.touch(participant.conn)
        {
            conn.send_text(self.now, &message.to_json());
        }
    }

    /// Refuses a message and counts a protocol error. Too many of them end the connection.
    pub(in crate::server) fn strike(&mut self, id: PeerId, code: &str, message: &str) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        if participant.budget.tolerate_fault(now) {
            self.refuse(id, code, message, true);
        } else {
            // Limited, because a client that keeps reconnecting and repeating its errors must not fill the log.
            let network = participant.network.map_or_else(|| "unknown network".to_owned(), |it| it.to_string());
            log!(
                self.notices.take_warning(now),
                "connection from {network} closed: more than {MAX_FAULTS} protocol errors, last {code}; {id}"
            );
            self.dismiss(id, code, message, false);
        }
    }

    /// Refuses a message: answers it with `error`.
    pub(in crate::server) fn refuse(&mut self, id: PeerId, code: &str, message: &str, retry: bool) {
        self.stats.messages_refused += 1;
        self.send(id, &ServerMessage::error(code, message, retry));
    }

    /// Sends an error to a participant and closes its connection.
    pub(in crate::server) fn dismiss(&mut self, id: PeerId, code: &str, message: &str, retry: bool) {
        self.refuse(id, code, message, retry);
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        let conn = participant.conn;
        self.conns.release(conn);
        self.close(conn, POLICY, code);
        if retry {
            // The participant stays in the room, with a new peer, because its client may return.
            if let Some(id) = self.reset(id, Duration::ZERO) {
                self.set_lost(id, true);
                self.on_disconnected(id, code);
            }
        } else {
            self.leave(id, code);
        }
    }
}
