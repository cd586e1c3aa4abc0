//! What is true of the server after every turn, whatever happened: its work is bounded by what it was given, and what it
//! keeps by who is there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aq_server::id::ConnId;
use aq_server::server::Input;

use crate::sim::{Sim, UNNOTICED};
use crate::story::RETURN;

/// Outputs for one input, for each member and beside.
const OUTPUTS_EACH: usize = 5;
const OUTPUTS_MORE: usize = 64;

/// The same for each member that is woken at that instant: a flight of DTLS, reports, what was held back.
const DUE_EACH: usize = 12;

/// The same for each connection that is given up at that instant: a reply and its end.
const DUE_CONN: usize = 2;

/// Turns at one instant in which the server had nothing but its own timers, beside one for each member's offer.
const SPINS: usize = 8;

/// Until when the server has to have noticed that somebody is gone.
const GONE_WITHIN: Duration = Duration::from_secs(61);

/// Addresses that one peer may have, and deadlines of one member and its connection.
const ADDRESSES: usize = 8;
const TIMERS: usize = 4;

/// What is counted to see it.
#[derive(Default)]
pub struct Invariants {
    /// Since the last turn.
    pub outputs: usize,
    inputs: usize,
    last: String,
    is_idle: bool,
    /// Somebody was to be woken anyway.
    is_due: bool,
    idle_turns: (Option<Instant>, usize),
    members: usize,
    conns: usize,
    /// When each browser was found to be gone.
    gone: BTreeMap<usize, Instant>,
    /// Browsers that were reported as left while they were live.
    reported: Vec<(Instant, usize)>,
    /// The absent may be more than the room or their network may have.
    pub may_evict: bool,
    /// The same of connections that no browser has.
    closed: BTreeMap<ConnId, Instant>,
}

impl Invariants {
    /// Since when a browser is known to be gone, if it is.
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
    /// Whoever was reported to a browser as left, after the first so many, has a connection no longer, and has said
    /// goodbye or did not return for a while.
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
                // The server may have closed it, and the news of that is on its way.
                self.invariants.reported.push((self.now, last));
                continue;
            }
            let has_spoken = browser.connected_at.is_some() || browser.renewals > 0;
            let is_late = self.gone_for(last).is_some_and(|gone| gone >= RETURN);
            assert!(is_late || !has_spoken || self.invariants.may_evict, "{name} may return, and is reported as left");
        }
    }

    fn gone_for(&self, tag: usize) -> Option<Duration> {
        self.invariants.gone_since(tag).map(|since| self.now - since)
    }

    /// The server has done all that its inputs caused.
    pub fn check_turn(&mut self) {
        let now = self.now;
        let [conns, members, rooms, resumes, addresses, ufrags, timers] = self.server.sizes();
        let before = std::mem::replace(&mut self.invariants.members, members);
        let conns_before = std::mem::replace(&mut self.invariants.conns, conns);
        let inputs = std::mem::take(&mut self.invariants.inputs).max(1);
        let outputs = std::mem::take(&mut self.invariants.outputs);
        // Any number may wait for the same instant.
        let due = match std::mem::take(&mut self.invariants.is_due) {
            true => DUE_EACH * before.max(members) + DUE_CONN * conns_before,
            false => 0,
        };
        let most = inputs * (OUTPUTS_EACH * before.max(members) + OUTPUTS_MORE) + due;
        assert!(outputs <= most, "{outputs} outputs for {inputs} inputs, {members} members, {}", self.invariants.last);

        let turns = match self.invariants.idle_turns {
            (Some(at), turns) if at == now => turns + usize::from(self.invariants.is_idle),
            _ => 0,
        };
        self.invariants.idle_turns = (Some(now), turns);
        assert!(turns <= SPINS + before.max(members), "{turns} turns at one instant for nothing");

        for (tag, browser) in self.browsers.iter().enumerate() {
            if !browser.is_live() {
                self.invariants.gone.entry(tag).or_insert(now);
            }
        }
        self.invariants.reported.retain(|(at, tag)| {
            let browser = &self.browsers[*tag];
            let is_over = now > *at + UNNOTICED;
            let is_there = browser.is_live() && self.links[*tag].is_open;
            assert!(!is_over || !is_there, "{} is there, and was reported as left", browser.name);
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
        assert!(members <= most, "{members} members, {most} may still be there");
        assert!(conns <= most, "{conns} connections, {most} may still be there");
        assert!(rooms <= members && resumes == members && ufrags == members, "{:?}", self.server.sizes());
        let checked = self.tap.checked(|tag| !is_gone(&tag));
        assert!(addresses <= checked, "{addresses} addresses are taken for somebody's, {checked} have shown to be");
        assert!(
            addresses <= ADDRESSES * members && timers <= TIMERS * conns.max(members) + 1,
            "{:?}",
            self.server.sizes()
        );
    }
}
