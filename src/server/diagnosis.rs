//! Proxies in front that are set up wrong: what a request shows of it, for the page that asks `check` and for the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use log::warn;

use super::Server;
use crate::id::ConnId;
use crate::web::http::Request;

/// Attempts to join that came without their upgrade, kept until the page asks. Fewer are pushed out by others' before
/// that; more are more memory that strangers fill.
const ATTEMPTS: usize = 64;

/// Characters of the name that a page gives an attempt.
const ATTEMPT_CHARS: usize = 32;

/// How long a cause is not logged again.
const QUIET: Duration = Duration::from_secs(3600);

/// What a page's failed attempts showed.
#[derive(Default)]
pub(super) struct Diagnosis {
    /// Attempts whose upgrade was lost on the way, the oldest first.
    lost: VecDeque<String>,
    /// When the log named each cause.
    upgrade_warned: Option<Instant>,
    host_warned: Option<Instant>,
}

impl Server {
    /// A GET of the WebSocket's address that is no upgrade. A browser that opens one gives the attempt a name, which its
    /// page asks `check` about; `Sec-WebSocket-Key` gets through where only `Upgrade` and `Connection` do not.
    pub(super) fn on_lost_upgrade(&mut self, id: ConnId, request: &Request) {
        let attempt = request.param("attempt").filter(|attempt| attempt.chars().count() <= ATTEMPT_CHARS);
        if let Some(attempt) = attempt {
            if self.diagnosis.lost.len() >= ATTEMPTS {
                self.diagnosis.lost.pop_front();
            }
            self.diagnosis.lost.push_back(attempt.to_owned());
        }
        let is_browser = attempt.is_some() || request.has_websocket_key;
        if is_browser && is_due(self.now, &mut self.diagnosis.upgrade_warned) {
            let remote = self.conns.get(&id).map(|entry| entry.conn.remote().ip().to_string()).unwrap_or_default();
            warn!(
                "WebSocket refused: the proxy at {remote} does not forward upgrades; \
                 set Upgrade, Connection and HTTP/1.1 there as in docs/hosting.md"
            );
        }
    }

    /// Whether the attempt that `check` is asked about came without its upgrade.
    pub(super) fn has_lost_upgrade(&self, request: &Request) -> bool {
        request.param("attempt").is_some_and(|attempt| self.diagnosis.lost.iter().any(|lost| lost == attempt))
    }

    /// Says why an origin is refused, once in a while: a proxy that hides `Host` looks like a stranger's page.
    pub(super) fn on_refused_origin(&mut self, request: &Request) {
        if !is_due(self.now, &mut self.diagnosis.host_warned) {
            return;
        }
        let short = |text: Option<&str>| text.unwrap_or_default().chars().take(100).collect::<String>();
        warn!(
            "page of origin {:?} refused: the request names host {:?}; a proxy in front must pass on Host with its port as in \
             docs/hosting.md, other pages are allowed with --allow-origin (ALLOWED_ORIGINS)",
            short(request.origin.as_deref().or_else(|| request.param("origin"))),
            short(request.host.as_deref())
        );
    }
}

fn is_due(now: Instant, warned: &mut Option<Instant>) -> bool {
    let is_due = warned.is_none_or(|at| now >= at + QUIET);
    if is_due {
        *warned = Some(now);
    }
    is_due
}
