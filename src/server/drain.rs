//! The drain: a shutdown during which calls continue until the drain time has passed.

use std::time::{Duration, Instant};

use log::info;

use super::Server;
use super::output::Output;
use crate::id::ConnId;
use crate::timers::Waiter;
use crate::web::signal::ServerMessage;
use crate::web::websocket::encode_text;

/// Time for close frames to be exchanged at the end of a drain. A longer time shortens the calls; a shorter one cuts
/// off clients on slow networks.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// How long a restart of the server is expected to take. With a shorter time, pages reconnect too early and retry; a
/// longer one prolongs the interruption.
pub const RESTART: Duration = Duration::from_secs(1);

/// The WebSocket close code of a server that is going down (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// A shutdown in progress. Calls continue until shortly before it ends.
#[derive(Clone, Copy)]
pub struct Drain {
    /// When the process ends at the latest.
    pub ends: Instant,
    /// Whether `ends` has passed.
    pub is_over: bool,
}

impl Server {
    /// Starts the drain. A second request ends the process at once.
    pub(super) fn on_shutdown(&mut self) {
        if self.admission.drain.is_some() {
            self.outputs.push(Output::Exit);
            return;
        }
        let ends = self.now + self.config.drain;
        let closes = ends - CLOSE_TIME.min(self.config.drain / 2);
        info!("shutting down: {} participants notified", self.participants.len());
        self.admission.drain = Some(Drain { ends, is_over: false });
        self.announce_shutdown(ends);
        self.timers.set(Waiter::Server, closes);
    }

    /// Closes all connections `CLOSE_TIME` before the end of the drain, and again at its end.
    pub(super) fn on_drained(&mut self) {
        let Some(drain) = &mut self.admission.drain else {
            return;
        };
        drain.is_over = self.now >= drain.ends;
        if !drain.is_over {
            self.timers.set(Waiter::Server, drain.ends);
        }
        for id in self.conns.ids().collect::<Vec<_>>() {
            self.close(id, GOING_AWAY, "shutdown");
        }
    }

    /// Sends `closing` to all participants and to clients that wait. The message says when to reconnect: soon if
    /// another server takes over, otherwise after this server's restart. Closes all other connections.
    fn announce_shutdown(&mut self, ends: Instant) {
        let url = self.config.drain_url.as_deref();
        let retry = if url.is_some() { RESTART } else { ends + RESTART - self.now };
        let closing = ServerMessage::Closing { reason: "shutdown", retry_ms: retry.as_millis() as u64, url };
        let frame = encode_text(&closing.to_json());
        for id in self.conns.ids().collect::<Vec<ConnId>>() {
            let is_present = self.is_waiting(id) || self.conns.get(id).is_some_and(|entry| entry.participant.is_some());
            let Some(conn) = self.conns.touch(id) else {
                continue;
            };
            if is_present {
                conn.send_encoded(self.now, &frame);
            } else {
                conn.close(self.now, GOING_AWAY, "shutdown");
            }
        }
    }
}
