//! Admission: decides whether a client may join, and with which name, rights and limits.

use std::time::{Duration, Instant};

use log::debug;
use serde_json::json;

use super::budget::KeptBudgets;
use super::diagnosis::Diagnosis;
use crate::config::{Config, Limits};
use crate::id::{ConnId, PeerId};
use crate::limits::bucket::Bucket;
use crate::limits::faults::Faults;
use crate::limits::recent::Recent;
use crate::network::{Network, Tally};
use crate::room::Room;
use crate::server::Server;
use crate::server::drain::{Drain, RESTART};
use crate::server::participants::Participant;
use crate::text::{ROOM_CHARS, participant_name, room_name};
use crate::web::http::{Request, Response};
use crate::web::origin;
use crate::web::token::{Grant, Key};

/// How many STUN requests per second from unvalidated addresses have their HMAC verified. The rest are dropped, so that
/// a flood takes little of the core; clients that are joining retransmit.
const UNVERIFIED_CHECKS_PER_S: f64 = 10_000.0;

/// Maximum number of participants of one network that may stay without media. Each costs one fresh transport a minute;
/// a lower limit would keep people whose office blocks UDP out of the chat.
const MAX_MEDIALESS: usize = 20;

/// Networks that are remembered at once because clients of theirs were turned away.
const MAX_TURNED_AWAY: usize = 256;

/// How long a network has to wait before it may knock again after one of its clients was turned away.
const KNOCK_PAUSE: Duration = Duration::from_secs(10);

/// The `Retry-After` of temporary refusals.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The `Retry-After` of refusals under load. Bursts of joins end within seconds.
const RETRY_AFTER_BURST: Duration = Duration::from_secs(1);

/// Joins a second from one network, and the burst. Each is announced to the whole room, and brings a new budget of
/// messages; a lower limit keeps a school behind one address waiting when its lesson begins.
const JOIN_RATE: f64 = 10.0;
const JOIN_BURST: f64 = 100.0;

/// Networks whose joins are counted. More cost memory; with fewer, an attacker with many addresses is forgotten sooner.
const MAX_NETWORKS: usize = 4_096;

/// An admitted join.
#[derive(Clone)]
pub struct Join {
    pub room: String,
    pub name: String,
    /// What the token grants.
    pub grant: Grant,
    /// Whether the client can send simulcast.
    pub simulcast: bool,
    /// Whether the client supports fresh transports on the same WebSocket.
    pub can_renew: bool,
    /// The client's network, if known.
    pub network: Option<Network>,
    /// The participant that continues on the new connection.
    pub replaces: Option<PeerId>,
    /// The room is locked, and the client waits until a moderator admits it.
    pub must_wait: bool,
    /// The `resume` secret of a client that left without being removed. With it, the client may enter the room even if
    /// the room is locked.
    pub return_secret: Option<String>,
}

/// Why a join was refused.
pub struct JoinRefusal {
    status: u16,
    /// The code for programs; one of `JOIN_OUTCOMES`, or `no-upgrade`.
    pub code: &'static str,
    /// The text for the user.
    message: &'static str,
    /// When the client may try again; `None` if that is pointless.
    retry_after: Option<Duration>,
    /// The setting whose limit is reached.
    pub setting: Option<&'static str>,
}

/// The counts and limits that decide which clients may join, and which participants may stay.
pub struct Admission {
    /// The key that verifies tokens; `None` if joining needs no token.
    pub key: Option<Key>,
    /// Protocol errors by network.
    pub faults: Faults,
    /// Budgets of participants whose connections have ended, for clients of the same networks that join next.
    pub kept_budgets: KeptBudgets,
    /// Joins by network.
    joins: Recent<Network, Bucket>,
    /// Evidence of misconfigured proxies.
    pub diagnosis: Diagnosis,
    /// The shutdown in progress.
    pub drain: Option<Drain>,
    /// The number of participants without a connection, by site.
    absent: Tally,
    /// The number of participants whose media is lost, by network.
    medialess: Tally,
    /// The number of participants whose media has not connected yet.
    pending: usize,
    unverified_checks: Bucket,
    /// When a moderator has turned away a client, by room and network.
    turned_away: Recent<(String, Network), ()>,
}

impl Admission {
    /// Upper bound of the memory in bytes, excluding the counts, which cannot outnumber the participants.
    pub const MAX_BYTES: usize = Faults::MAX_BYTES
        + KeptBudgets::MAX_BYTES
        + MAX_NETWORKS * Recent::<Network, Bucket>::BYTES_EACH
        + MAX_TURNED_AWAY * (Recent::<(String, Network), ()>::BYTES_EACH + 4 * ROOM_CHARS);

    pub fn new(now: Instant, config: &Config) -> Self {
        Self {
            key: config.token_secret.as_ref().map(Key::new),
            faults: Faults::default(),
            kept_budgets: KeptBudgets::default(),
            diagnosis: Diagnosis::default(),
            drain: None,
            absent: Tally::default(),
            medialess: Tally::default(),
            pending: 0,
            unverified_checks: Bucket::new(now, UNVERIFIED_CHECKS_PER_S, UNVERIFIED_CHECKS_PER_S),
            joins: Recent::new(MAX_NETWORKS),
            turned_away: Recent::new(MAX_TURNED_AWAY),
        }
    }

    /// Counts an admitted join, and refuses it if its network is above the limit.
    pub fn count_join(&mut self, now: Instant, join: Join) -> Result<Join, JoinRefusal> {
        let bucket = || Bucket::new(now, JOIN_RATE, JOIN_BURST);
        if join.network.is_none_or(|network| self.joins.entry(now, network, bucket).take(now)) {
            return Ok(join);
        }
        let message = "Too many people from your network are joining at the moment.";
        Err(JoinRefusal::new(429, "too-many-joins", message).until(now, now + RETRY_AFTER_BURST))
    }

    /// Counts a new participant.
    pub fn add(&mut self, participant: &Participant) {
        self.pending += usize::from(participant.transport.is_pending);
        if let Some(network) = participant.network {
            if participant.absent_until.is_some() {
                self.absent.add(network.site());
            }
            if participant.transport.is_lost {
                self.medialess.add(network);
            }
        }
    }

    /// Stops counting a participant.
    pub fn remove(&mut self, participant: &Participant) {
        self.pending -= usize::from(participant.transport.is_pending);
        if let Some(network) = participant.network {
            if participant.absent_until.is_some() {
                self.absent.remove(network.site());
            }
            if participant.transport.is_lost {
                self.medialess.remove(network);
            }
        }
    }

    /// Sets until when a disconnected participant may return, and keeps its budget for the next client of its network.
    pub fn set_absent(&mut self, now: Instant, participant: &mut Participant, until: Instant) {
        participant.absent_until = Some(until);
        if let Some(network) = participant.network {
            self.absent.add(network.site());
            self.kept_budgets.keep(now, network, participant.id.clone(), participant.budget);
        }
    }

    /// Sets whether a participant's media is lost. Returns true if this is a change.
    pub fn set_lost(&mut self, participant: &mut Participant, is_lost: bool) -> bool {
        if participant.transport.is_lost == is_lost {
            return false;
        }
        participant.transport.is_lost = is_lost;
        match participant.network {
            Some(network) if is_lost => self.medialess.add(network),
            Some(network) => self.medialess.remove(network),
            None => {}
        }
        true
    }

    /// Ends the pending state of a participant: its first transport has connected.
    pub fn end_pending(&mut self, participant: &mut Participant) {
        self.pending -= usize::from(participant.transport.is_pending);
        participant.transport.is_pending = false;
    }

    /// Whether another participant of this site may stay without a connection. A site has many networks and could fill the
    /// server with rooms that it has abandoned.
    pub fn may_be_absent(&self, network: Option<Network>, limits: &Limits) -> bool {
        network.is_none_or(|network| self.absent.of(network.site()) < limits.max_conns_per_addr)
    }

    /// Whether another participant of this network may stay without media.
    pub fn may_be_medialess(&self, network: Option<Network>) -> bool {
        network.is_none_or(|network| self.medialess.of(network) < MAX_MEDIALESS)
    }

    /// Whether the limit of participants whose media has not connected yet is reached.
    pub fn is_busy(&self, limits: &Limits) -> bool {
        self.pending >= limits.max_pending
    }

    /// Notes that a moderator has turned away a client that waited.
    pub fn turn_away(&mut self, now: Instant, join: &Join) {
        if let Some(network) = join.network {
            self.turned_away.entry(now, (join.room.clone(), network), || ());
        }
    }

    /// Whether a client of this network was turned away just now.
    fn is_turned_away(&self, now: Instant, join: &Join) -> bool {
        let key = join.network.map(|network| (join.room.clone(), network));
        key.and_then(|key| self.turned_away.used(&key)).is_some_and(|at| now < at + KNOCK_PAUSE)
    }

    /// Whether the drain is over: its time has passed, or no connections are left.
    pub fn has_drained(&self, conns: usize) -> bool {
        self.drain.is_some_and(|drain| drain.is_over || conns == 0)
    }

    /// Counts the verification of a STUN request from an address that no peer has validated. Returns false if the limit
    /// is reached.
    pub fn take_unverified_check(&mut self, now: Instant) -> bool {
        self.unverified_checks.take(now)
    }
}

impl Server {
    /// Decides whether a request to join is admitted. It changes nothing.
    pub(in crate::server) fn admit(&self, id: ConnId, request: &Request) -> Result<Join, JoinRefusal> {
        let refuse = |status, code, message| Err(JoinRefusal::new(status, code, message));
        let secure = self.conns.get(id).is_some_and(|entry| entry.conn.is_secure());
        let allowed = &self.config.allowed_origins;
        // A GET of `check` carries no `Origin` field, so the page passes its origin in the query.
        let is_allowed = |origin| origin::allowed(origin, request.host.as_deref(), secure, allowed);
        if !is_allowed(request.origin.as_deref()) || !is_allowed(request.param("origin")) {
            debug!("conn {}: join refused: origin {:?}", id.0, request.origin);
            let message = "The server does not know this page's address. A proxy in front has to pass on Host with its port; \
                           see docs/hosting. To allow pages of other origins, use --allow-origin.";
            return refuse(403, "origin", message);
        }
        if let Some(drain) = self.admission.drain {
            let refusal = JoinRefusal::new(503, "closing", "The server is restarting.");
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
        let return_secret =
            resume.filter(|secret| existing.is_some_and(|it| it.is_returning(secret, grant.identity.as_deref())));
        let return_secret = return_secret.map(str::to_owned);
        let network = self.network(id, request);
        let may_pass = replaces.is_some() || return_secret.is_some() || grant.rights.moderate;
        let must_wait = existing.is_some_and(Room::is_locked) && !may_pass;
        let join = Join { room, name, grant, simulcast, can_renew, network, replaces, must_wait, return_secret };
        if replaces.is_none() {
            self.check_limits(id, &join, request.param("knock") == Some("1"))?;
        }
        Ok(join)
    }

    /// Checks whether the server, the room and the client's network have capacity for another participant, or for a
    /// client that knocks at a locked room.
    fn check_limits(&self, id: ConnId, join: &Join, knocks: bool) -> Result<(), JoinRefusal> {
        let limits = &self.config.limits;
        let existing = self.rooms.get(&join.room);
        let refuse = |status, code, message, setting| {
            Err(JoinRefusal { setting: Some(setting), ..JoinRefusal::new(status, code, message) })
        };
        let is_blocked = |network| self.admission.faults.refused_until(self.now, network);
        if let Some(until) = join.network.and_then(is_blocked) {
            let message = "Too many calls from your network have failed. Try again in a minute.";
            return Err(JoinRefusal::new(429, "too-many-faults", message).until(self.now, until));
        }
        // A proxied connection is counted for its client's network only once it joins.
        let is_counted = self.conns.get(id).is_some_and(|entry| entry.network.is_some());
        if !is_counted && join.network.is_some_and(|network| self.conns.is_crowded(network, limits)) {
            let message = "Too many connections from your network.";
            return refuse(429, "too-many-conns", message, "--max-conns-per-addr");
        }
        if join.must_wait && !knocks {
            return Err(JoinRefusal::new(403, "locked", "This room is locked. A moderator can unlock it."));
        }
        if join.must_wait && self.admission.is_turned_away(self.now, join) {
            let message = "A moderator has not admitted you to this room. Try again in a moment.";
            return Err(JoinRefusal::new(503, "waiting-full", message).until(self.now, self.now + KNOCK_PAUSE));
        }
        if join.must_wait && self.waiting.is_full(&join.room, join.network) {
            let message = "Too many people are waiting for this room. Try again later.";
            return Err(JoinRefusal::new(503, "waiting-full", message));
        }
        if self.shedding.refuses_joins() {
            let refusal = JoinRefusal::new(503, "full", "The server is overloaded. Try again in a moment.");
            return Err(refusal.until(self.now, self.now + RETRY_AFTER_BURST));
        }
        match existing {
            Some(existing) if !join.must_wait && self.is_full(existing) && self.longest_absent(existing).is_none() => {
                refuse(503, "room-full", "This room is full.", "--max-room-size")
            }
            None if self.rooms.len() >= limits.max_rooms => {
                refuse(503, "server-full", "The server has no space for another room.", "--max-rooms")
            }
            // Disconnected participants count too: `Bounds` includes their memory.
            _ if self.participants.len() >= limits.participants() => {
                let has_fewer_conns = limits.max_conns < limits.max_participants;
                let setting = if has_fewer_conns { "--max-conns" } else { "--max-participants" };
                refuse(503, "server-full", "The server is full.", setting)
            }
            _ if self.admission.is_busy(limits) => {
                let message = "Too many people are joining right now. Try again in a moment.";
                refuse(503, "server-busy", message, "--max-pending")
            }
            _ => Ok(()),
        }
    }

    /// Verifies the token and returns what it grants. The reason for a refusal is only logged, not sent to the client.
    fn open_token(&self, id: ConnId, room: &str, token: Option<&str>) -> Result<Grant, JoinRefusal> {
        let Some(key) = &self.admission.key else {
            return Ok(Grant::OPEN);
        };
        key.open(self.wall.unix_at(self.now), room, token).map_err(|why| {
            debug!("conn {}: token for room {room:?} refused: {why}", id.0);
            let message = "This room is for invited people. Ask the host for a new link.";
            JoinRefusal::new(401, "unauthorized", message)
        })
    }

    /// The client's network. Behind a trusted proxy, `X-Forwarded-For` names the client.
    pub(in crate::server) fn network(&self, id: ConnId, request: &Request) -> Option<Network> {
        let entry = self.conns.get(id)?;
        let proxies = &self.config.trusted_proxies;
        entry.network.or_else(|| Network::find(proxies, entry.conn.remote().ip(), &request.forwarded_for))
    }
}

impl JoinRefusal {
    pub fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        let retry_after = matches!(status, 429 | 503).then_some(RETRY_AFTER);
        Self { status, code, message, retry_after, setting: None }
    }

    /// Sets when the client may try again.
    fn until(self, now: Instant, end: Instant) -> Self {
        Self { retry_after: Some(end.saturating_duration_since(now)), ..self }
    }

    pub fn response(&self) -> Response {
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
