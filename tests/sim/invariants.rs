//! Invariants of the server after every turn: its work is bounded by its inputs, and its state by the participants
//! present.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aq_server::id::ConnId;
use aq_server::server::{Input, Sizes};

use crate::sim::{Sim, UNNOTICED};
use crate::story::RETURN;

/// Largest number of outputs for one input: for each participant, and in addition.
const OUTPUTS_EACH: usize = 5;
const OUTPUTS_MORE: usize = 64;

/// The same for each participant whose timer fires at that instant: a DTLS flight, reports and queued packets.
const DUE_EACH: usize = 12;

/// The same for each connection that times out at that instant: a response and the close.
const DUE_CONN: usize = 2;

/// Turns at one instant in which only the server's own timers fired, in addition to one for each participant's offer.
const SPINS: usize = 8;

/// Longest time until the server must have noticed that a client is gone.
const GONE_WITHIN: Duration = Duration::from_secs(61);

/// Addresses per peer, and timers per participant and its connection.
const ADDRESSES: usize = 8;
const TIMERS: usize = 4;

/// Counters for the checks, since the start or the last turn.
#[derive(Default)]
pub struct Invariants {
    /// Outputs since the last turn.
    pub outputs: usize,
    inputs: usize,
    last: String,
    is_idle: bool,
    /// A timer was due anyway.
    is_due: bool,
    idle_turns: (Option<Instant>, usize),
    members: usize,
    conns: usize,
    /// When each browser was found to be gone.
    gone: BTreeMap<usize, Instant>,
    /// Browsers that were reported as left while they were live.
    reported: Vec<(Instant, usize)>,
    /// Absent participants may be evicted, because their room or network is at its limit.
    pub may_evict: bool,
    /// When each connection without a browser was found to be closed.
    closed: BTreeMap<ConnId, Instant>,
}

impl Invariants {
    /// When the browser was found to be gone.
    pub fn gone_since(&self, tag: usize) -> Option<Instant> {
        self.gone.get(&tag).copied()
    }

    pub fn handle_input(&mut self, input: &Input<'_>, is_due: bool) {
        self.is_due |= is_due;
        self.is_idle = matches!(input, Input::Timeout) && (self.inputs == 0 || self.is_idle);
        self.inputs += 1;
        self.last = format!("{input:?}").chars().take(60).collect();
    }
}

impl Sim {
    /// Checks the participants reported to browser `tag` as left, from index `known` on: each must have lost its
    /// connection, and must have sent `leave` or stayed away too long to return.
    pub fn check_left(&mut self, tag: usize, known: usize) {
        for (_, id, name) in self.browsers[tag].page.left[known..].iter() {
            let of_id = |tag: &usize| self.browsers[*tag].page.id == *id;
            let Some(last) = (0..self.browsers.len()).rfind(of_id) else { continue };
            let browser = &self.browsers[last];
            let is_final = browser.page.errors.iter().any(|(_, error)| error["retry"] == false);
            if browser.has_left || is_final || self.links[last].is_troubled {
                continue;
            }
            if browser.is_live() {
                // The server may have closed the connection, and the close is still on its way.
                self.invariants.reported.push((self.now, last));
                continue;
            }
            let has_sent_message = browser.connected_at.is_some() || browser.renewals > 0;
            let is_late = self.gone_for(last).is_some_and(|gone| gone >= RETURN);
            assert!(
                is_late || !has_sent_message || self.invariants.may_evict,
                "{name} was reported as left although it may still return"
            );
        }
    }

    fn gone_for(&self, tag: usize) -> Option<Duration> {
        self.invariants.gone_since(tag).map(|since| self.now - since)
    }

    /// Checks the invariants after the server has handled its inputs.
    pub fn check_turn(&mut self) {
        let now = self.now;
        let Sizes { conns, participants: members, rooms, resumes, addresses, ufrags, timers } = self.server.sizes();
        let before = std::mem::replace(&mut self.invariants.members, members);
        let conns_before = std::mem::replace(&mut self.invariants.conns, conns);
        let inputs = std::mem::take(&mut self.invariants.inputs).max(1);
        let outputs = std::mem::take(&mut self.invariants.outputs);
        // Any number of timers may fire at the same instant.
        let due = match std::mem::take(&mut self.invariants.is_due) {
            true => DUE_EACH * before.max(members) + DUE_CONN * conns_before,
            false => 0,
        };
        let most = inputs * (OUTPUTS_EACH * before.max(members) + OUTPUTS_MORE) + due;
        assert!(
            outputs <= most,
            "{outputs} outputs for {inputs} inputs, {members} participants, last input {}",
            self.invariants.last
        );

        let turns = match self.invariants.idle_turns {
            (Some(at), turns) if at == now => turns + usize::from(self.invariants.is_idle),
            _ => 0,
        };
        self.invariants.idle_turns = (Some(now), turns);
        assert!(turns <= SPINS + before.max(members), "{turns} turns at one instant without input");

        for (tag, browser) in self.browsers.iter().enumerate() {
            if !browser.is_live() {
                self.invariants.gone.entry(tag).or_insert(now);
            }
        }
        self.invariants.reported.retain(|(at, tag)| {
            let browser = &self.browsers[*tag];
            let is_over = now > *at + UNNOTICED;
            let is_there = browser.is_live() && self.links[*tag].is_open;
            assert!(!is_over || !is_there, "{} was reported as left although it is connected", browser.name);
            !is_over
        });
        let is_gone = |tag: &usize| self.invariants.gone.get(tag).is_some_and(|at| now > *at + GONE_WITHIN);
        let gone = (0..self.browsers.len()).filter(is_gone).count();
        for (conn, _) in self.strangers.iter().filter(|(_, stranger)| !stranger.is_open) {
            self.invariants.closed.entry(*conn).or_insert(now);
        }
        let has_gone = |conn| self.invariants.closed.get(conn).is_some_and(|at| now > *at + GONE_WITHIN);
        let strangers = self.strangers.keys().filter(|conn| !has_gone(conn)).count();
        let most = self.browsers.len() - gone + strangers;
        assert!(members <= most, "{members} participants in the server, at most {most} exist");
        assert!(conns <= most, "{conns} connections in the server, at most {most} exist");
        assert!(rooms <= members && resumes == members && ufrags == members, "{:?}", self.server.sizes());
        let checked = self.tap.checked(|tag| !is_gone(&tag));
        assert!(addresses <= checked, "{addresses} addresses are assigned to peers, but only {checked} sent a check");
        assert!(
            addresses <= ADDRESSES * members && timers <= TIMERS * conns.max(members) + 1,
            "{:?}",
            self.server.sizes()
        );
    }
}

impl Sim {
    /// Checks that each packet that the server received was forwarded, or dropped for a reason, once for each other
    /// participant of the room.
    pub fn check_drops(&mut self) {
        self.server.settle_drops();
        let stats = self.server.stats();
        let decided = stats.packets_forwarded + stats.drops.total();
        let undecided = self.server.undecided_packets();
        assert_eq!(decided + undecided, stats.packets_due, "forwarded {}, {:?}", stats.packets_forwarded, stats.drops);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_drops();
        }
    }
}
