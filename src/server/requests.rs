//! Requests: what answers each route, and the admission of participants.

use std::time::{Duration, Instant};

use log::{debug, info, warn};
use serde_json::json;

use super::participants::Participant;
use super::presence::admission::{Join, RESTART};
use super::{Server, routes};
use crate::id::ConnId;
use crate::limits::notices::Notice;
use crate::network::Network;
use crate::room::Room;
use crate::text::{participant_name, room_name};
use crate::web::http::{self, Body, Method, Request, Response};
use crate::web::origin;
use crate::web::token::Grant;

/// The `Retry-After` of temporary refusals.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a join was refused.
struct Refusal {
    status: u16,
    code: &'static str,
    message: &'static str,
    /// When the client may try again; `None` if that is pointless.
    retry_after: Option<Duration>,
}

impl Server {
    pub(super) fn on_request(&mut self, id: ConnId, request: Box<Request>) {
        self.warn_untrusted_proxy(id, &request);
        let (response, is_last) = match routes::find(&self.config.prefix, &request) {
            Ok(_) if request.has_unread_body() => {
                if let Some(conn) = self.conns.touch(id) {
                    conn.read_body(self.now, request);
                }
                return;
            }
            Ok(route) => match (route.answer)(self, id, &request) {
                Some(response) => (response, false),
                None => return,
            },
            // A client that is wrong about an address may be wrong about what it sends next.
            Err(response) => (response, !matches!(request.method, Method::Get | Method::Head | Method::Options)),
        };
        if let Body::Read(bytes) = &request.body {
            self.stats.bodies_in += 1;
            self.stats.body_bytes_in += bytes.len() as u64;
        }
        self.stats.responses[usize::from(response.status / 100).min(5)] += 1;
        let is_closing = self.admission.drain.is_some() || self.conns.is_half_used(id, &self.config.limits);
        let Some(conn) = self.conns.touch(id) else {
            return;
        };
        if is_last || is_closing {
            conn.respond_last(self.now, response);
        } else {
            conn.respond(self.now, response);
        }
    }

    /// Handles a request that the connection has refused.
    pub(super) fn on_refused_request(&mut self, refusal: http::Refusal) {
        self.stats.requests_refused[refusal as usize] += 1;
        self.stats.responses[usize::from(refusal.status() / 100).min(5)] += 1;
    }

    /// Redirects to the page.
    pub(super) fn answer_root(&mut self, _: ConnId, _: &Request) -> Option<Response> {
        Some(Response::redirect(format!("{}/", self.config.prefix)))
    }

    /// Reports the state of the server.
    pub(super) fn answer_health(&mut self, _: ConnId, _: &Request) -> Option<Response> {
        Some(Response::json(200, &self.health()))
    }

    /// Responds as a join with these parameters would be.
    pub(super) fn answer_check(&mut self, id: ConnId, request: &Request) -> Option<Response> {
        Some(match self.admit(id, request) {
            Ok(_) if self.has_lost_upgrade(request) => Refusal::new(
                426,
                "no-upgrade",
                "The proxy in front of this server does not forward WebSocket upgrades; see docs/hosting.",
            )
            .response(),
            Ok(_) => Response::json(200, &json!({ "ok": true }).to_string()),
            Err(refusal) => refusal.response(),
        })
    }

    /// Lets a participant join.
    pub(super) fn answer_websocket(&mut self, id: ConnId, request: &Request) -> Option<Response> {
        if request.websocket_key.is_none() {
            self.on_lost_upgrade(id, request);
            let response = Response::text(426, "This address accepts only WebSocket connections.\n");
            return Some(response.with_header("Upgrade", "websocket".to_owned()));
        }
        match self.admit(id, request) {
            Ok(join) => {
                self.stats.count_join(if join.replaces.is_some() { "resumed" } else { "joined" });
                self.join(id, join);
                None
            }
            Err(refusal) => {
                if refusal.code == "origin" {
                    self.on_refused_origin(request);
                }
                self.on_refused(id, request, &refusal);
                Some(refusal.response())
            }
        }
    }

    /// Serves a file of the page.
    pub(super) fn answer_file(&mut self, _: ConnId, request: &Request) -> Option<Response> {
        let path = routes::path_below(&self.config.prefix, request).and_then(|path| path.strip_prefix('/'));
        Some(match path.and_then(|path| self.assets.find(path)) {
            Some(asset) => {
                Response::file(request.if_none_match.as_deref(), asset.content_type, &asset.etag, &asset.body)
            }
            None => routes::not_found(),
        })
    }

    fn on_refused(&mut self, id: ConnId, request: &Request, refusal: &Refusal) {
        self.stats.conns_refused += 1;
        self.stats.count_join(refusal.code);
        let Some(remote) = self.conns.get(id).map(|entry| entry.conn.remote().ip()) else {
            return;
        };
        if let Some(omitted) = self.notices.take(self.now, Notice::Refused) {
            let network = self.network(id, request).map_or_else(|| remote.to_string(), |network| network.to_string());
            info!("join from {network} refused: {}{omitted}", refusal.code);
        }
    }

    /// Warns, once for each network, of a client that may be a proxy missing in `--trusted-proxies`.
    fn warn_untrusted_proxy(&mut self, id: ConnId, request: &Request) {
        let entry = self.conns.get(id).filter(|entry| entry.network.is_some() && !request.forwarded_for.is_empty());
        if let Some(entry) = entry
            && let Some(omitted) = self.notices.take_proxy(self.now, Network::new(entry.conn.remote().ip()))
        {
            warn!(
                "X-Forwarded-For of {} ignored: not in --trusted-proxies (TRUSTED_PROXIES); if it is your proxy, \
                 add it there, or all its clients count as one{omitted}",
                entry.conn.remote().ip()
            );
        }
    }

    /// The client's network; for a trusted proxy, as its request says.
    fn network(&self, id: ConnId, request: &Request) -> Option<Network> {
        let entry = self.conns.get(id)?;
        let proxies = &self.config.trusted_proxies;
        entry.network.or_else(|| Network::find(proxies, entry.conn.remote().ip(), &request.forwarded_for))
    }

    fn health(&self) -> String {
        let [conns, _, _, resumes, addresses, ufrags, timers] = self.sizes();
        json!({
            "status": if self.admission.drain.is_some() { "closing" } else { "ok" },
            "version": env!("CARGO_PKG_VERSION"),
            "rooms": self.rooms.len(),
            "participants": self.participants.len(),
            "load_percent": self.shedding.load().percent(),
            "given_up": self.shedding.load().stage().name(),
            "uptime_s": (self.now - self.started).as_secs(),
            "sizes": {
                "conns": conns, "resumes": resumes, "addresses": addresses, "ufrags": ufrags, "timers": timers,
            },
        })
        .to_string()
    }

    fn admit(&self, id: ConnId, request: &Request) -> Result<Join, Refusal> {
        let refuse = |status, code, message| Err(Refusal::new(status, code, message));
        let secure = self.conns.get(id).is_some_and(|entry| entry.conn.is_secure());
        let allowed = &self.config.allowed_origins;
        // A page's GET of `check` has no `Origin`; the query says which one its upgrade would have.
        let is_allowed = |origin| origin::allowed(origin, request.host.as_deref(), secure, allowed);
        if !is_allowed(request.origin.as_deref()) || !is_allowed(request.param("origin")) {
            debug!("conn {}: join refused: origin {:?}", id.0, request.origin);
            let message = "The server does not know this page's address. A proxy in front has to pass on Host with its port; \
                           see docs/hosting. Pages elsewhere are allowed with --allow-origin.";
            return refuse(403, "origin", message);
        }
        if let Some(drain) = self.admission.drain {
            let refusal = Refusal::new(503, "closing", "The server is restarting.");
            return Err(refusal.until(self.now, drain.ends + RESTART));
        }
        let room = request.param("room").filter(|room| !room.is_empty()).unwrap_or("default");
        let Some(room) = room_name(room) else {
            return refuse(400, "bad-room", "A room name must have 1 to 128 visible characters.");
        };
        let grant = self.open_token(id, &room, request.param("token"))?;
        let requested = request.param("name").or_else(|| request.param("username")).unwrap_or_default();
        let name = grant.name.as_deref().and_then(participant_name);
        let name = name.or_else(|| participant_name(requested)).unwrap_or_else(|| "Guest".to_owned());
        let is_same =
            |participant: &Participant| participant.room == room && participant.grant.identity == grant.identity;
        let existing = self.rooms.get(&room);
        if grant
            .identity
            .as_ref()
            .is_some_and(|identity| existing.is_some_and(|existing| existing.is_removed(identity)))
        {
            return refuse(403, "removed", "A moderator has removed you from this room.");
        }
        let resume = request.param("resume");
        let replaces = resume
            .and_then(|secret| self.participants.find_resume(secret))
            .filter(|peer| self.participants.get(*peer).is_some_and(is_same));
        let simulcast = request.param("simulcast") == Some("1");
        let can_renew = request.param("renew") == Some("1");
        let returns =
            resume.filter(|secret| existing.is_some_and(|existing| existing.is_returning(secret))).map(str::to_owned);
        let network = self.network(id, request);
        let join = Join { room, name, grant, simulcast, can_renew, network, replaces, returns };
        if replaces.is_some() {
            return Ok(join);
        }
        if let Some(until) = network.and_then(|network| self.admission.faults.refused_until(self.now, network)) {
            let message = "Too many calls from your network have failed. Try again in a minute.";
            return Err(Refusal::new(429, "too-many-faults", message).until(self.now, until));
        }
        // Behind a proxy the client's network was unknown until this request.
        let is_counted = self.conns.get(id).is_some_and(|entry| entry.network.is_some());
        if !is_counted && network.is_some_and(|network| self.conns.is_crowded(network, &self.config.limits)) {
            return refuse(429, "too-many-conns", "Too many connections from your network.");
        }
        let may_pass = join.returns.is_some() || join.grant.rights.moderate;
        if existing.is_some_and(Room::is_locked) && !may_pass {
            return refuse(403, "locked", "This room is locked. A moderator can unlock it.");
        }
        if self.shedding.refuses_joins() {
            return refuse(503, "full", "The server is overloaded. Try again in a moment.");
        }
        let limits = &self.config.limits;
        match existing {
            Some(existing) if self.is_full(existing) && self.longest_absent(existing).is_none() => {
                refuse(503, "room-full", "This room is full.")
            }
            None if self.rooms.len() >= limits.max_rooms => {
                refuse(503, "server-full", "The server has no space for another room.")
            }
            // Participants without a connection count too: `Bounds` includes their memory.
            _ if self.participants.len() >= limits.max_participants.min(limits.max_conns) => {
                refuse(503, "server-full", "The server is full.")
            }
            _ if self.admission.is_busy(limits) => {
                refuse(503, "server-busy", "Too many people are joining right now. Try again in a moment.")
            }
            _ => Ok(join),
        }
    }

    /// Verifies the token and returns what it grants. The client does not learn why a token was refused; the log says
    /// it.
    fn open_token(&self, id: ConnId, room: &str, token: Option<&str>) -> Result<Grant, Refusal> {
        let Some(key) = &self.admission.key else {
            return Ok(Grant::OPEN);
        };
        key.open(self.wall.unix_at(self.now), room, token).map_err(|why| {
            debug!("conn {}: token for room {room:?} refused: {why}", id.0);
            let message = "This room is for invited people. Ask the host for a new link.";
            Refusal::new(401, "unauthorized", message)
        })
    }
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        let retry_after = matches!(status, 429 | 503).then_some(RETRY_AFTER);
        Self { status, code, message, retry_after }
    }

    /// Sets when the client may try again.
    fn until(self, now: Instant, end: Instant) -> Self {
        Self { retry_after: Some(end.saturating_duration_since(now)), ..self }
    }

    fn response(&self) -> Response {
        let body = json!({
            "event": "error",
            "code": self.code,
            "message": self.message,
            "retry": self.retry_after.is_some(),
        });
        let mut response = Response::json(self.status, &body.to_string());
        if self.status == 401 {
            // Required by RFC 9110 section 11.6.1. Browsers show no dialog for this scheme.
            response = response.with_header("WWW-Authenticate", "Bearer".to_owned());
        }
        match self.retry_after {
            Some(after) => response.with_header("Retry-After", after.as_secs_f64().ceil().to_string()),
            None => response,
        }
    }
}
