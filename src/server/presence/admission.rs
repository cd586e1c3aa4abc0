//! Admission: what decides whether a client may join, and what an admitted client joins with.

use std::time::{Duration, Instant};

use super::budget::KeptBudgets;
use super::diagnosis::Diagnosis;
use crate::config::{Config, Limits};
use crate::id::PeerId;
use crate::limits::bucket::Bucket;
use crate::limits::faults::Faults;
use crate::network::{Network, Tally};
use crate::server::participants::Participant;
use crate::web::token::{Grant, Key};

/// STUN requests to verify per second from addresses that no peer has validated; each costs an HMAC. Others are
/// dropped, so that a flood takes little of the core; clients that are joining retransmit.
const UNVERIFIED_CHECKS_PER_S: f64 = 10_000.0;

/// Participants of one network who may stay without media. Each costs a transport a minute; with fewer, people in an
/// office that blocks UDP lose the chat.
const MAX_MEDIALESS: usize = 20;

/// How long a restart of the server is expected to take. With a shorter time, pages reconnect too early and retry; a
/// longer one prolongs the interruption.
pub const RESTART: Duration = Duration::from_secs(1);

/// What an admitted participant joins with.
pub struct Join {
    pub room: String,
    pub name: String,
    /// What the token grants.
    pub grant: Grant,
    /// The client can send simulcast.
    pub simulcast: bool,
    /// The client supports fresh transports on the same WebSocket.
    pub can_renew: bool,
    /// The client's network, if known.
    pub network: Option<Network>,
    /// The participant that continues on the new connection.
    pub replaces: Option<PeerId>,
    /// The `resume` secret of a participant that has left the locked room without being removed.
    pub returns: Option<String>,
}

/// The counts and limits that decide which clients may join, and which participants may stay.
pub struct Admission {
    /// The key that verifies tokens; `None` if joining needs no token.
    pub key: Option<Key>,
    /// Protocol errors by network.
    pub faults: Faults,
    /// Budgets of participants whose connections have ended, for newcomers from their networks.
    pub kept_budgets: KeptBudgets,
    /// Evidence of misconfigured proxies.
    pub diagnosis: Diagnosis,
    /// The shutdown in progress.
    pub drain: Option<Drain>,
    /// Counts participants without a connection.
    absent: Tally,
    /// Counts participants whose media is disconnected.
    medialess: Tally,
    /// The number of participants whose media has not connected yet.
    pending: usize,
    unverified_checks: Bucket,
}

/// A shutdown in progress: calls continue until it ends.
#[derive(Clone, Copy)]
pub struct Drain {
    /// When the process ends at the latest.
    pub ends: Instant,
    /// Whether `ends` has passed.
    pub is_over: bool,
}

impl Admission {
    /// Upper bound of the memory in bytes, without what it counts for each participant.
    pub const MAX_BYTES: usize = Faults::MAX_BYTES + KeptBudgets::MAX_BYTES;

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
        }
    }

    /// Counts a new participant.
    pub fn add(&mut self, participant: &Participant) {
        self.pending += usize::from(participant.transport.is_pending);
        if let Some(network) = participant.network {
            if participant.absent_until.is_some() {
                self.absent.add(network);
            }
            if participant.transport.is_lost {
                self.medialess.add(network);
            }
        }
    }

    /// Ends the counts of a participant.
    pub fn remove(&mut self, participant: &Participant) {
        self.pending -= usize::from(participant.transport.is_pending);
        if let Some(network) = participant.network {
            if participant.absent_until.is_some() {
                self.absent.remove(network);
            }
            if participant.transport.is_lost {
                self.medialess.remove(network);
            }
        }
    }

    /// Sets until when a participant whose connection has ended may return, and keeps its budget for newcomers.
    pub fn set_absent(&mut self, now: Instant, participant: &mut Participant, until: Instant) {
        participant.absent_until = Some(until);
        if let Some(network) = participant.network {
            self.absent.add(network);
            self.kept_budgets.keep(now, network, participant.id.clone(), participant.budget);
        }
    }

    /// Sets whether a participant's media is lost. Returns whether that has changed.
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

    /// Whether another participant of this network may stay without a connection.
    pub fn may_be_absent(&self, network: Option<Network>, limits: &Limits) -> bool {
        network.is_none_or(|network| self.absent.of(network) < limits.max_conns_per_addr)
    }

    /// Whether another participant of this network may stay without media.
    pub fn may_be_medialess(&self, network: Option<Network>) -> bool {
        network.is_none_or(|network| self.medialess.of(network) < MAX_MEDIALESS)
    }

    /// Whether the limit of participants whose media has not connected yet is reached.
    pub fn is_busy(&self, limits: &Limits) -> bool {
        self.pending >= limits.max_pending
    }

    /// Whether the drain is over, or nothing is left to wait for.
    pub fn has_drained(&self, conns: usize) -> bool {
        self.drain.is_some_and(|drain| drain.is_over || conns == 0)
    }

    /// Takes one verification of a STUN request from an address that no peer has validated. Returns false above the
    /// limit.
    pub fn take_unverified_check(&mut self, now: Instant) -> bool {
        self.unverified_checks.take(now)
    }
}
