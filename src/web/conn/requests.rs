//! The requests on a connection: one head and body at a time, one response each, and the upgrade to a WebSocket.

use std::time::Instant;

use super::{Conn, ConnEvent, REQUEST_TIMEOUT, State, Transmit};
use crate::web::http::{
    self, Body, BodyReader, CONTINUE, MAX_BODY, MAX_CHUNK_FRAMING, MAX_HEAD, Method, Refusal, Request, Response,
};
use crate::web::websocket::WebSocket;

/// The most requests on one connection, so that no client keeps it forever. Fewer would make proxies that reuse
/// connections reconnect often.
pub(super) const MAX_REQUESTS: u32 = 1000;

/// The most bytes buffered before the server decides whether to read a request's body: the whole body and the next
/// head. Fewer would refuse clients that send the body with the head.
pub(super) const MAX_UNREAD: usize = MAX_HEAD + MAX_BODY + MAX_CHUNK_FRAMING;

/// A request whose body is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    request: Box<Request>,
    body: BodyReader,
}

impl Conn {
    /// Reads the body of the pending request, which comes back in another `ConnEvent::Request`.
    pub fn read_body(&mut self, now: Instant, request: Box<Request>) {
        let State::Pending { body_until: Some(until), .. } = self.state else {
            return;
        };
        let Body::Unread(framing) = request.body else {
            return;
        };
        // RFC 9110 section 10.1.1: a client that has sent part of the body does not wait.
        if request.expects_continue && self.input.is_empty() {
            self.queue(now, Transmit::Own(CONTINUE.to_vec()));
        }
        self.deadline = Some(until);
        self.state = State::Body(Box::new(Incoming { request, body: BodyReader::new(framing) }));
        let early = std::mem::take(&mut self.input);
        self.handle_data(now, &early);
        if self.is_eof {
            self.handle_eof(now);
        }
    }

    /// Sends the response to the pending request. Does nothing if there is none because the client is gone.
    pub fn respond(&mut self, now: Instant, response: Response) {
        self.answer(now, response, true);
    }

    /// Like `respond`, and closes the connection afterwards.
    pub fn respond_last(&mut self, now: Instant, response: Response) {
        self.answer(now, response, false);
    }

    fn answer(&mut self, now: Instant, response: Response, may_stay: bool) {
        let State::Pending { is_head, keep_alive, body_until, .. } = self.state else {
            return;
        };
        if body_until.is_some() {
            // The next request begins after the body. Closing costs less than reading the body only to find its end.
            self.drain("answered before its body was read", true);
            self.queue_response(now, response, false, is_head);
            return;
        }
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
            self.deadline = Some(now + REQUEST_TIMEOUT);
        }
        match Request::parse(&self.input) {
            Ok(None) => {}
            Ok(Some((request, length))) => {
                self.input.drain(..length);
                self.input.shrink_to_fit();
                self.requests += 1;
                self.hand_out(Box::new(request));
            }
            Err(refusal) => self.refuse(now, refusal),
        }
    }

    /// Takes bytes of the body, and what follows it.
    pub(super) fn on_body(&mut self, now: Instant, data: &[u8]) {
        let State::Body(incoming) = &mut self.state else {
            return;
        };
        let taken = match incoming.body.handle_data(data) {
            Ok(taken) => taken,
            Err(refusal) => return self.refuse(now, refusal),
        };
        if !incoming.body.is_complete() {
            return;
        }
        self.input.extend_from_slice(&data[taken..]);
        let State::Body(incoming) = std::mem::replace(&mut self.state, State::Closed) else {
            unreachable!("the state was checked above");
        };
        let Incoming { mut request, body } = *incoming;
        request.body = Body::Read(body.into_bytes());
        self.hand_out(request);
        self.check_input();
    }

    /// Hands a request to the server. A request with a body is handed out twice, before and after its body is read.
    fn hand_out(&mut self, request: Box<Request>) {
        let deadline = self.deadline.take();
        self.state = State::Pending {
            websocket_key: request.websocket_key.clone(),
            is_head: request.method == Method::Head,
            keep_alive: request.keep_alive,
            body_until: deadline.filter(|_| request.has_unread_body()),
        };
        self.events.push_back(ConnEvent::Request(request));
    }

    /// Closes the connection if its client sends too much without waiting for the pending response.
    pub(super) fn check_input(&mut self) {
        let limit = match self.state {
            State::Pending { body_until: Some(_), .. } => MAX_UNREAD,
            State::Pending { .. } | State::Responding { .. } => MAX_HEAD,
            _ => return,
        };
        if self.input.len() > limit {
            self.finish("too much input before the response");
        }
    }

    pub(super) fn refuse(&mut self, now: Instant, refusal: Refusal) {
        self.events.push_back(ConnEvent::Refused(refusal));
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
