//! Diagnosis: recognises misconfigured proxies by their requests, for the log and for the `check` route.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use log::warn;

use crate::id::ConnId;
use crate::server::Server;
use crate::web::http::Request;

/// Number of connection attempts that arrived without their upgrade and are remembered until their page requests
/// `check`. Fewer are evicted too early; more take memory that any client can fill.
const ATTEMPTS: usize = 64;

/// The longest name of an attempt, in characters.
const ATTEMPT_CHARS: usize = 32;

/// Minimum time between two warnings about the same cause.
const QUIET: Duration = Duration::from_secs(3600);

/// Evidence of misconfigured proxies.
#[derive(Default)]
pub struct Diagnosis {
    /// Names of the attempts that arrived without their upgrade, the oldest first.
    lost: VecDeque<String>,
    /// When a warning about each cause was last logged.
    upgrade_warned: Option<Instant>,
    host_warned: Option<Instant>,
}

impl Server {
    /// Handles a GET of the WebSocket path that is not an upgrade. If it has a `Sec-WebSocket-Key`, or its query names
    /// a connection attempt, then a browser has sent it and a proxy has removed `Upgrade` and `Connection`. The page
    /// then passes that name to `check`.
    pub(in crate::server) fn on_lost_upgrade(&mut self, id: ConnId, request: &Request) {
        let attempt = request.param("attempt").filter(|attempt| attempt.chars().count() <= ATTEMPT_CHARS);
        if let Some(attempt) = attempt {
            if self.admission.diagnosis.lost.len() >= ATTEMPTS {
                self.admission.diagnosis.lost.pop_front();
            }
            self.admission.diagnosis.lost.push_back(attempt.to_owned());
        }
        let is_browser = attempt.is_some() || request.has_websocket_key;
        if is_browser && take_due(self.now, &mut self.admission.diagnosis.upgrade_warned) {
            let remote = self.conns.get(id).map(|entry| entry.conn.remote().ip().to_string()).unwrap_or_default();
            warn!(
                "WebSocket refused: the proxy at {remote} does not forward upgrades; \
                 set Upgrade, Connection and HTTP/1.1 there as in docs/hosting.md"
            );
        }
    }

    /// Whether the attempt named by this `check` request arrived without its upgrade.
    pub(in crate::server) fn has_lost_upgrade(&self, request: &Request) -> bool {
        request.param("attempt").is_some_and(|attempt| self.admission.diagnosis.lost.iter().any(|lost| lost == attempt))
    }

    /// Logs a refused origin, once an hour at most: behind a proxy that changes `Host`, the server's own page is
    /// refused too.
    pub(in crate::server) fn on_refused_origin(&mut self, request: &Request) {
        if !take_due(self.now, &mut self.admission.diagnosis.host_warned) {
            return;
        }
        let short = |text: Option<&str>| text.unwrap_or_default().chars().take(100).collect::<String>();
        warn!(
            "page of origin {:?} refused: the request has host {:?}; a proxy in front must pass on Host with its port as in \
             docs/hosting.md; allow other pages with --allow-origin (ALLOWED_ORIGINS)",
            short(request.origin.as_deref().or_else(|| request.param("origin"))),
            short(request.host.as_deref())
        );
    }
}

/// Returns true, and starts a new interval, if a cause has not been logged for `QUIET`.
fn take_due(now: Instant, warned: &mut Option<Instant>) -> bool {
    let is_due = warned.is_none_or(|at| now >= at + QUIET);
    if is_due {
        *warned = Some(now);
    }
    is_due
}
