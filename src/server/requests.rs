//! Requests: HTTP requests for the page, `health` and `check`, and admission of participants.

use std::time::{Duration, Instant};

use log::{debug, info, warn};
use serde_json::json;

use super::members::RESTART;
use super::{Member, Server};
use crate::id::{ConnId, PeerId};
use crate::load::Stage;
use crate::place::Place;
use crate::room::Room;
use crate::text::{participant_name, room_name};
use crate::web::http::{ALLOW, Request, Response};
use crate::web::origin;
use crate::web::token::Grant;

/// The `Retry-After` of temporary refusals.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What an admitted participant joins with.
pub(super) struct Admission {
    pub(super) room: String,
    pub(super) name: String,
    /// What the token grants.
    pub(super) grant: Grant,
    /// The client can send simulcast.
    pub(super) simulcast: bool,
    /// The client supports fresh transports on the same WebSocket.
    pub(super) can_renew: bool,
    /// The client's network, if known.
    pub(super) place: Option<Place>,
    /// The participant whose place the new connection takes.
    pub(super) replaces: Option<PeerId>,
    /// The `resume` secret of a participant that has left the locked room without being removed.
    pub(super) returns: Option<String>,
}

/// Why a join was refused.
struct Refusal {
    status: u16,
    code: &'static str,
    message: &'static str,
    /// When the client may try again; `None` if that is pointless.
    retry_after: Option<Duration>,
}

impl Server {
    pub(super) fn on_request(&mut self, id: ConnId, request: &Request) {
        self.warn_untrusted_proxy(id, request);
        let response = match self.route(request) {
            Route::Respond(response) => response,
            Route::Join => match self.admit(id, request) {
                Ok(admission) => return self.join(id, admission),
                Err(refusal) => {
                    if refusal.code == "origin" {
                        self.on_refused_origin(request);
                    }
                    self.on_refused(id, request, &refusal);
                    refusal.response()
                }
            },
            Route::NoUpgrade => {
                self.on_lost_upgrade(id, request);
                let response = Response::text(426, "This address accepts only WebSocket connections.\n");
                response.with_header("Upgrade", "websocket".to_owned())
            }
            Route::Check => match self.admit(id, request) {
                Ok(_) if self.has_lost_upgrade(request) => Refusal::new(
                    426,
                    "no-upgrade",
                    "The proxy in front of this server does not forward WebSocket upgrades; see docs/hosting.",
                )
                .response(),
                Ok(_) => Response::json(200, &json!({ "ok": true }).to_string()),
                Err(refusal) => refusal.response(),
            },
        };
        let is_last = self.draining.is_some() || self.is_half_used(id);
        self.with_conn(id, |now, conn| match is_last {
            true => conn.respond_last(now, response),
            false => conn.respond(now, response),
        });
    }

    fn on_refused(&mut self, id: ConnId, request: &Request, refusal: &Refusal) {
        self.stats.conns_refused += 1;
        let Some(remote) = self.conns.get(&id).map(|entry| entry.conn.remote().ip()) else {
            return;
        };
        if let Some(left_out) = self.refusals.take(self.now) {
            let place = self.place(id, request).map_or_else(|| remote.to_string(), |place| place.to_string());
            info!("join from {place} refused: {}{left_out}", refusal.code);
        }
    }

    /// Warns, once for each network, of a client that may be a proxy missing in `--trusted-proxies`.
    fn warn_untrusted_proxy(&mut self, id: ConnId, request: &Request) {
        let entry = self.conns.get(&id).filter(|entry| entry.place.is_some() && !request.forwarded_for.is_empty());
        if let Some(entry) = entry
            && self.faults.note_proxy(self.now, Place::new(entry.conn.remote().ip()))
            && let Some(left_out) = self.proxies.take(self.now)
        {
            warn!(
                "X-Forwarded-For of {} ignored: not in --trusted-proxies (TRUSTED_PROXIES); if it is your proxy, \
                 add it there, or all its clients count as one{left_out}",
                entry.conn.remote().ip()
            );
        }
    }

    /// The client's network; for a trusted proxy, as its request says.
    fn place(&self, id: ConnId, request: &Request) -> Option<Place> {
        let entry = self.conns.get(&id)?;
        let proxies = &self.config.trusted_proxies;
        entry.place.or_else(|| Place::find(proxies, entry.conn.remote().ip(), &request.forwarded_for))
    }

    fn route(&self, request: &Request) -> Route {
        // Reverse proxies check with OPTIONS whether the server is alive. It grants nothing to pages of other origins.
        if request.method == "OPTIONS" {
            return Route::Respond(Response::text(200, "").with_header("Allow", ALLOW.to_owned()));
        }
        let prefix = self.config.prefix.as_str();
        let not_found = || Route::Respond(Response::text(404, "This page does not exist.\n"));
        let Some(path) = request.path.strip_prefix(prefix) else {
            return match request.path.as_str() {
                "/" => Route::Respond(Response::redirect(format!("{prefix}/"))),
                _ => not_found(),
            };
        };
        match path {
            "" => Route::Respond(Response::redirect(format!("{prefix}/"))),
            "/health" => Route::Respond(Response::json(200, &self.health())),
            "/check" => Route::Check,
            "/websocket" | "/ws" if request.websocket_key.is_some() => Route::Join,
            "/websocket" | "/ws" => Route::NoUpgrade,
            _ => match path.strip_prefix('/').and_then(|path| self.assets.find(path)) {
                Some(asset) => Route::Respond(Response::file(request, asset.content_type, &asset.etag, &asset.body)),
                None => not_found(),
            },
        }
    }

    fn health(&self) -> String {
        let [conns, _, _, resumes, addresses, ufrags, timers] = self.sizes();
        json!({
            "status": if self.draining.is_some() { "closing" } else { "ok" },
            "version": env!("CARGO_PKG_VERSION"),
            "rooms": self.rooms.len(),
            "participants": self.member_ids().count(),
            "load_percent": self.load.percent(),
            "given_up": self.load.stage().name(),
            "uptime_s": (self.now - self.started).as_secs(),
            "sizes": {
                "conns": conns, "resumes": resumes, "addresses": addresses, "ufrags": ufrags, "timers": timers,
            },
        })
        .to_string()
    }

    fn admit(&self, id: ConnId, request: &Request) -> Result<Admission, Refusal> {
        let refuse = |status, code, message| Err(Refusal::new(status, code, message));
        let secure = self.conns.get(&id).is_some_and(|entry| entry.conn.is_secure());
        let allowed = &self.config.allowed_origins;
        // A page's GET of `check` has no `Origin`; the query says which one its upgrade would have.
        let is_allowed = |origin| origin::allowed(origin, request.host.as_deref(), secure, allowed);
        if !is_allowed(request.origin.as_deref()) || !is_allowed(request.param("origin")) {
            debug!("conn {}: join refused: origin {:?}", id.0, request.origin);
            let message = "The server does not know this page's address. A proxy in front has to pass on Host with its port; \
                           see docs/hosting. Pages elsewhere are allowed with --allow-origin.";
            return refuse(403, "origin", message);
        }
        if let Some(drain) = self.draining {
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
        let is_same = |member: &Member| member.participant.room == room && member.grant.identity == grant.identity;
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
            .and_then(|secret| self.resumes.get(secret).copied())
            .filter(|peer| self.member(*peer).is_some_and(is_same));
        let simulcast = request.param("simulcast") == Some("1");
        let can_renew = request.param("renew") == Some("1");
        let returns =
            resume.filter(|secret| existing.is_some_and(|existing| existing.is_returning(secret))).map(str::to_owned);
        let place = self.place(id, request);
        let admission = Admission { room, name, grant, simulcast, can_renew, place, replaces, returns };
        if replaces.is_some() {
            return Ok(admission);
        }
        if let Some(until) = place.and_then(|place| self.faults.refused_until(self.now, place)) {
            let message = "Too many calls from your network have failed. Try again in a minute.";
            return Err(Refusal::new(429, "too-many-faults", message).until(self.now, until));
        }
        // Behind a proxy the client's network was unknown until this request.
        let is_counted = self.conns.get(&id).is_some_and(|entry| entry.place.is_some());
        if !is_counted && place.is_some_and(|place| self.is_crowded(place)) {
            return refuse(429, "too-many-conns", "Too many connections from your network.");
        }
        let may_pass = admission.returns.is_some() || admission.grant.rights.moderate;
        if existing.is_some_and(Room::is_locked) && !may_pass {
            return refuse(403, "locked", "This room is locked. A moderator can unlock it.");
        }
        if self.load.stage() == Stage::Joins {
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
            _ if self.resumes.len() >= limits.max_participants.min(limits.max_conns) => {
                refuse(503, "server-full", "The server is full.")
            }
            _ if self.pending_members >= limits.max_pending => {
                refuse(503, "server-busy", "Too many people are joining right now. Try again in a moment.")
            }
            _ => Ok(admission),
        }
    }

    /// Verifies the token and returns what it grants. The client does not learn why a token was refused; the log says
    /// it.
    fn open_token(&self, id: ConnId, room: &str, token: Option<&str>) -> Result<Grant, Refusal> {
        let Some(key) = &self.key else {
            return Ok(Grant::OPEN);
        };
        key.open(self.wall.unix_at(self.now), room, token).map_err(|why| {
            debug!("conn {}: token for room {room:?} refused: {why}", id.0);
            let message = "This room is for invited people. Ask the host for a new link.";
            Refusal::new(401, "unauthorized", message)
        })
    }
}

enum Route {
    Respond(Response),
    Join,
    /// The WebSocket address, requested without an upgrade.
    NoUpgrade,
    Check,
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
