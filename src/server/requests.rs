//! HTTP requests: finding their route, and the functions that answer the routes.

use log::{info, warn};
use serde_json::json;

use super::presence::admission::JoinRefusal;
use super::{Server, Sizes, routes};
use crate::id::ConnId;
use crate::limits::notices::Notice;
use crate::network::Network;
use crate::web::http::{self, Body, Method, Request, Response};

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
            // Close after a refused POST, PATCH or DELETE: the client is likely to repeat its mistake.
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

    /// Answers whether a join with these parameters would be admitted.
    pub(super) fn answer_check(&mut self, id: ConnId, request: &Request) -> Option<Response> {
        Some(match self.admit(id, request) {
            Ok(_) if self.has_lost_upgrade(request) => JoinRefusal::new(
                426,
                "no-upgrade",
                "The proxy in front of this server does not forward WebSocket upgrades; see docs/hosting.",
            )
            .response(),
            Ok(join) => {
                let room = self.rooms.get(&join.room);
                let participants = room.map_or(0, |room| room.participants().len());
                let answer = json!({ "ok": true, "participants": participants, "waiting": join.must_wait });
                Response::json(200, &answer.to_string())
            }
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
        let now = self.now;
        match self.admit(id, request).and_then(|join| self.admission.count_join(now, join)) {
            Ok(join) if join.must_wait => {
                self.stats.count_join("waiting");
                self.wait(id, join);
                None
            }
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
            Some(asset) => asset.response(request.if_none_match.as_deref(), request.accepts_gzip),
            None => routes::not_found(),
        })
    }

    fn on_refused(&mut self, id: ConnId, request: &Request, refusal: &JoinRefusal) {
        self.stats.conns_refused += 1;
        self.stats.count_join(refusal.code);
        let Some(remote) = self.conns.get(id).map(|entry| entry.conn.remote().ip()) else {
            return;
        };
        if let Some(omitted) = self.notices.take(self.now, Notice::Refused) {
            let network = self.network(id, request).map_or_else(|| remote.to_string(), |network| network.to_string());
            let advice = refusal.setting.map(|setting| format!("; raise {setting}")).unwrap_or_default();
            info!("join from {network} refused: {}{advice}{omitted}", refusal.code);
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

    fn health(&self) -> String {
        let Sizes { conns, resumes, addresses, ufrags, timers, .. } = self.sizes();
        json!({
            "status": if self.admission.drain.is_some() { "closing" } else { "ok" },
            "version": env!("CARGO_PKG_VERSION"),
            "rooms": self.rooms.len(),
            "participants": self.participants.len(),
            "load_percent": self.shedding.load().percent(),
            "shed": self.shedding.stage_name(),
            "rooms_shed": self.shedding.rooms(),
            "uptime_s": (self.now - self.started).as_secs(),
            "sizes": {
                "conns": conns, "resumes": resumes, "addresses": addresses, "ufrags": ufrags, "timers": timers,
            },
        })
        .to_string()
    }
}
