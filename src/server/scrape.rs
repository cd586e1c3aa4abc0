//! The `/metrics` route: the access check, and the values computed at a scrape.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Server;
use crate::id::ConnId;
use crate::metrics::{self, Gauges};
use crate::network::{client_address, parse};
use crate::web::http::{Request, Response};

impl Server {
    /// Responds with the metrics, if the client may read them.
    pub(super) fn answer_metrics(&mut self, id: ConnId, request: &Request) -> Option<Response> {
        let has_token = self.has_admin_token(request);
        let remote = self.conns.get(id)?.conn.remote().ip();
        let config = &self.config;
        if !has_token && !is_permitted(&config.metrics_allow, &config.trusted_proxies, remote, request) {
            let text = "Metrics can be read from loopback only. Permit your network with --metrics-allow \
                        (METRICS_ALLOW), or send the token of --admin-token-file (ADMIN_TOKEN_FILE) in the field \
                        Authorization: Bearer.\n";
            return Some(Response::text(403, text));
        }
        self.settle_drops();
        Some(Response::metrics(&metrics::text(&self.stats, &self.gauges())))
    }

    /// Whether a request carries the admin token. Compared in constant time.
    pub(super) fn has_admin_token(&self, request: &Request) -> bool {
        let token = self.config.admin_token.as_ref().zip(request.bearer.as_ref());
        token.is_some_and(|(token, bearer)| token.is_equal(bearer.as_bytes()))
    }

    fn gauges(&self) -> Gauges {
        let sizes = self.sizes();
        Gauges {
            rooms: sizes.rooms,
            participants: sizes.participants,
            connections: sizes.conns,
            addresses: sizes.addresses,
            timers: sizes.timers,
            load: self.shedding.load().share(),
            shed_stage: self.shedding.stage(),
            rooms_shed: self.shedding.rooms(),
            is_draining: self.admission.drain.is_some(),
            uptime: self.now - self.started,
        }
    }
}

/// Whether a client without a token may read the metrics. The remote address of its connection and, if a proxy has
/// forwarded the request, also the address of the proxy's client must be loopback or in `allowed`. Otherwise a proxy on
/// this machine would make every client local.
fn is_permitted(allowed: &[IpNet], proxies: &[IpNet], remote: IpAddr, request: &Request) -> bool {
    let is_allowed = |addr: IpAddr| {
        let addr = addr.to_canonical();
        addr.is_loopback() || allowed.iter().any(|network| network.contains(&addr))
    };
    // The address that the nearest proxy has appended counts even if that proxy is not in --trusted-proxies: a client
    // that forges it can only lose access.
    let (before, nearest) = request.forwarded_for.rsplit_once(',').unwrap_or(("", &request.forwarded_for));
    let is_client_allowed = if request.forwarded_for.is_empty() {
        !request.has_proxy_fields
    } else {
        parse(nearest).and_then(|addr| client_address(proxies, addr, before)).is_some_and(is_allowed)
    };
    is_allowed(remote) && is_client_allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_address_and_the_forwarded_client_have_to_be_permitted() {
        let proxies = ["127.0.0.0/8", "::1/128", "10.1.0.0/16"].map(|net| net.parse().unwrap());
        let allowed = ["192.0.2.0/24", "2001:db8::/32", "10.1.0.9/32"].map(|net| net.parse().unwrap());
        let far = "X-Forwarded-For: 203.0.113.7\r\n";
        for (expected, allowed, remote, fields) in [
            (true, &[][..], "127.0.0.1", ""),
            (true, &[], "::1", ""),
            (true, &[], "::ffff:127.0.0.2", ""),
            (false, &[], "203.0.113.7", ""),
            (false, &[], "192.0.2.1", ""),
            (true, &allowed, "192.0.2.1", ""),
            (true, &allowed, "::ffff:192.0.2.1", ""),
            (true, &allowed, "2001:db8::1", ""),
            (false, &allowed, "198.51.100.1", ""),
            // Through a proxy on this machine.
            (false, &[], "127.0.0.1", far),
            (false, &allowed, "127.0.0.1", far),
            (true, &allowed, "127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n"),
            (true, &allowed, "127.0.0.1", "X-Forwarded-For: 203.0.113.7, 192.0.2.1:4000\r\n"),
            (false, &allowed, "127.0.0.1", "X-Forwarded-For: 192.0.2.1, 203.0.113.7\r\n"),
            // Forged: the proxy has appended the address of its client.
            (false, &[], "127.0.0.1", "X-Forwarded-For: 127.0.0.1, 203.0.113.7\r\n"),
            (false, &[], "127.0.0.1", "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 203.0.113.7\r\n"),
            // Two proxies.
            (true, &allowed, "127.0.0.1", "X-Forwarded-For: 192.0.2.1, 10.1.0.2\r\n"),
            (false, &allowed, "127.0.0.1", "X-Forwarded-For: 203.0.113.7, 10.1.0.2\r\n"),
            (false, &allowed, "10.1.0.2", "X-Forwarded-For: 192.0.2.1\r\n"),
            (true, &allowed, "10.1.0.9", "X-Forwarded-For: 192.0.2.1\r\n"),
            // A proxy that is not trusted.
            (false, &allowed, "192.0.2.1", far),
            // The client is unknown.
            (false, &allowed, "127.0.0.1", "X-Forwarded-For: 127.0.0.1\r\n"),
            (false, &allowed, "127.0.0.1", "X-Forwarded-For: unknown\r\n"),
            (false, &allowed, "127.0.0.1", "X-Forwarded-For: 192.0.2.1, \r\n"),
            (false, &[], "127.0.0.1", "Via: 1.1 proxy\r\n"),
            (false, &[], "127.0.0.1", "Forwarded: for=203.0.113.7\r\n"),
            (false, &[], "127.0.0.1", "X-Real-IP: 203.0.113.7\r\n"),
        ] {
            let head = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let (request, _) = Request::parse(head.as_bytes()).unwrap().unwrap();
            let is_permitted = is_permitted(allowed, &proxies, remote.parse().unwrap(), &request);
            assert_eq!(is_permitted, expected, "{remote} {fields:?} with {} networks", allowed.len());
        }
    }
}
