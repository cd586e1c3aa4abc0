//! The requests on a connection: one head read at a time, one response each, and the upgrade to a WebSocket.

use std::time::Instant;

use super::{Conn, ConnEvent, HEAD_TIMEOUT, State, Transmit};
use crate::web::http::{self, MAX_HEAD, Refusal, Request, Response};
use crate::web::websocket::WebSocket;

/// The most requests on one connection, so that no client keeps it forever. Fewer would make proxies that reuse connections
/// reconnect often.
pub(super) const MAX_REQUESTS: u32 = 1000;

impl Conn {
    /// Sends the response to the pending request. Does nothing if there is none because the client is gone.
    pub fn respond(&mut self, now: Instant, response: Response) {
        self.answer(now, response, true);
    }

    /// Like `respond`, and closes the connection afterwards.
    pub fn respond_last(&mut self, now: Instant, response: Response) {
        self.answer(now, response, false);
    }

    fn answer(&mut self, now: Instant, response: Response, may_stay: bool) {
        let State::Pending { is_head, keep_alive, .. } = self.state else {
            return;
        };
        let more_to_come = !self.is_eof || !self.input.is_empty();
        let keep_alive = may_stay && keep_alive && self.requests < MAX_REQUESTS && more_to_come;
        self.state = State::Responding { keep_alive };
        self.queue_response(now, response, keep_alive, is_head);
    }

    /// Accepts the pending request as a WebSocket upgrade, with status 101. A request that is not an upgrade gets 426.
    pub fn upgrade(&mut self, now: Instant) {
        let State::Pending { websocket_key, .. } = &mut self.state else {
            return;
        };
        let Some(key) = websocket_key.take() else {
            self.respond(now, Refusal::WebSocketVersion.response());
            return;
        };
        self.queue(now, Transmit::Own(http::switching_protocols(&key)));
        self.state = State::WebSocket(Box::new(WebSocket::new(now, self.limits)));
        // The client may have sent frames without waiting for the response.
        let early = std::mem::take(&mut self.input);
        self.handle_data(now, &early);
        if self.is_eof {
            self.handle_eof(now);
        }
    }

    /// Parses the request head at the beginning of the input, if it is complete.
    pub(super) fn read_head(&mut self, now: Instant) {
        // RFC 9112 section 2.2: empty lines before a request are skipped. They do not start the head's time limit.
        let blank = self.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.input.drain(..blank);
        if self.input.is_empty() {
            return;
        }
        if let State::Head { begun: begun @ false } = &mut self.state {
            *begun = true;
            self.deadline = Some(now + HEAD_TIMEOUT);
        }
        match Request::parse(&self.input) {
            Ok(None) => {}
            Ok(Some((request, length))) => {
                self.input.drain(..length);
                self.input.shrink_to_fit();
                self.requests += 1;
                self.deadline = None;
                self.state = State::Pending {
                    websocket_key: request.websocket_key.clone(),
                    is_head: request.method == "HEAD",
                    keep_alive: request.keep_alive,
                };
                self.events.push_back(ConnEvent::Request(request));
            }
            Err(refusal) => self.refuse(now, refusal),
        }
    }

    /// Closes a connection whose client sends more than a request head without reading the pending response.
    pub(super) fn check_input(&mut self) {
        if matches!(self.state, State::Pending { .. } | State::Responding { .. }) && self.input.len() > MAX_HEAD {
            self.finish("too much input before the response");
        }
    }

    pub(super) fn refuse(&mut self, now: Instant, refusal: Refusal) {
        self.drain(refusal.reason(), true);
        self.queue_response(now, refusal.response(), false, false);
    }

    fn queue_response(&mut self, now: Instant, response: Response, keep_alive: bool, is_head: bool) {
        self.queue(now, Transmit::Own(response.head(keep_alive)));
        if !is_head && !response.body.is_empty() {
            self.queue(now, Transmit::Shared(response.body));
        }
    }
}
