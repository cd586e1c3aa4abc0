//! Notices: messages from the operator to the participants, sent with a POST request.

use log::info;
use serde::Deserialize;
use serde_json::json;

use crate::id::ConnId;
use crate::room::CHAT_BYTES;
use crate::server::Server;
use crate::text::room_name;
use crate::web::http::{Body, Request, Response};
use crate::web::signal::ServerMessage;
use crate::web::websocket::encode_text;

/// The body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notice {
    message: String,
    /// The room; absent means all rooms.
    room: Option<String>,
}

impl Server {
    /// Sends a notice to the participants of one room or of all, if the request carries the admin token. The token is
    /// required even from loopback: a page of any site can make a browser on this machine send a POST.
    pub(in crate::server) fn answer_notice(&mut self, _: ConnId, request: &Request) -> Option<Response> {
        if !self.has_admin_token(request) {
            let text = "Sending a notice needs the token of --admin-token-file (ADMIN_TOKEN_FILE) in the field \
                        Authorization: Bearer.\n";
            let response = Response::text(401, text);
            return Some(response.with_header("WWW-Authenticate", "Bearer".to_owned()));
        }
        let Body::Read(body) = &request.body else {
            return Some(Response::text(400, "The body of a notice must be JSON.\n"));
        };
        let Notice { message, room } = match serde_json::from_slice(body) {
            Ok(notice) => notice,
            Err(error) => return Some(Response::text(400, &format!("The notice could not be read: {error}.\n"))),
        };
        if message.trim().is_empty() || message.len() > CHAT_BYTES {
            let text = format!("The message of a notice must have 1 to {CHAT_BYTES} bytes.\n");
            return Some(Response::text(400, &text));
        }
        let name = room.as_deref().map(|room| room_name(room).unwrap_or_default());
        let is_addressed = |room: &str| name.as_ref().is_none_or(|name| name == room);
        let rooms = self.rooms.iter().filter(|(room, _)| is_addressed(room)).map(|(_, room)| room);
        let frame = encode_text(&ServerMessage::Notice { message: &message }.to_json());
        let mut count = 0;
        for (_, participant) in rooms.flat_map(|room| self.participants.of(room)) {
            if let Some(conn) = self.conns.touch(participant.conn) {
                conn.send_encoded(self.now, &frame);
                count += 1;
            }
        }
        info!("notice sent to {count} participants");
        Some(match (count, name) {
            (0, Some(_)) => Response::text(404, "There is no such room.\n"),
            _ => Response::json(200, &json!({ "participants": count }).to_string()),
        })
    }
}
