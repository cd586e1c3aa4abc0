//! The addresses of one peer, each validated by an authenticated ICE connectivity check.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::media::transport::route::Route;

/// Maximum number of addresses per peer. A lower one locks out a phone that roams between networks, a higher one lets a
/// participant create more ICE candidate pairs (str0m keeps one for each).
const MAX_ADDRESSES: usize = 8;

/// How long an address stays valid after its last check. It equals the lifetime of str0m's candidate pairs, so that
/// their number is bounded too.
const LIFETIME: Duration = Duration::from_secs(15);

/// Maximum time between two checks of a client that holds consent (RFC 7675 section 5.1).
const CHECK_INTERVAL: Duration = Duration::from_secs(6);

/// One peer's addresses, oldest first.
#[derive(Debug, Default)]
pub struct Addresses(Vec<Address>);

#[derive(Clone, Copy, Debug)]
struct Address {
    route: Route,
    last_checked: Instant,
}

/// The result of a check that validated an address, for the first time or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The expired address that it replaced.
    pub evicted: Option<SocketAddr>,
}

impl Addresses {
    /// Validates the address of an authenticated check. Returns `None` if the peer already has `MAX_ADDRESSES` valid
    /// ones.
    pub fn validate(&mut self, now: Instant, route: Route) -> Option<Validated> {
        if let Some(address) = self.0.iter_mut().find(|address| address.route.remote == route.remote) {
            *address = Address { route, last_checked: now };
            return Some(Validated { evicted: None });
        }
        let mut evicted = None;
        if self.0.len() >= MAX_ADDRESSES {
            let expired = self.0.iter().position(|address| now > address.last_checked + LIFETIME)?;
            evicted = Some(self.0.remove(expired).route.remote);
        }
        self.0.push(Address { route, last_checked: now });
        Some(Validated { evicted })
    }

    /// The route to an address of the peer; `None` for other addresses.
    pub fn route(&self, remote: SocketAddr) -> Option<Route> {
        self.0.iter().map(|address| address.route).find(|route| route.remote == remote)
    }

    /// Whether the validation of an address has not expired.
    pub fn holds(&self, now: Instant, remote: SocketAddr) -> bool {
        self.held_until(remote).is_some_and(|until| now <= until)
    }

    /// Whether the client behind an address may have ended: a check is overdue.
    pub fn is_overdue(&self, now: Instant, remote: SocketAddr) -> bool {
        self.checked_at(remote).is_none_or(|checked| now > checked + CHECK_INTERVAL)
    }

    /// Removes an address that now belongs to another peer.
    pub fn remove(&mut self, remote: SocketAddr) {
        self.0.retain(|address| address.route.remote != remote);
    }

    /// When the validation of an address expires.
    pub fn held_until(&self, remote: SocketAddr) -> Option<Instant> {
        Some(self.checked_at(remote)? + LIFETIME)
    }

    fn checked_at(&self, remote: SocketAddr) -> Option<Instant> {
        self.0.iter().find(|address| address.route.remote == remote).map(|address| address.last_checked)
    }

    /// The route to the most recently validated address, unless it has expired.
    pub fn latest(&self, now: Instant) -> Option<Route> {
        let held = self.0.iter().filter(|address| now <= address.last_checked + LIFETIME);
        held.max_by_key(|address| address.last_checked).map(|address| address.route)
    }

    /// All addresses.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|address| address.route.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Route {
        Route { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: SocketAddr::from(([192, 0, 2, 2], 9)) }
    }

    #[test]
    fn a_new_address_evicts_an_expired_one_only() {
        let start = Instant::now();
        let mut addresses = Addresses::default();
        for port in 1..=MAX_ADDRESSES as u16 {
            assert_eq!(addresses.validate(start, route(port)), Some(Validated { evicted: None }));
        }
        assert_eq!(addresses.validate(start, route(99)), None);
        let later = start + LIFETIME + Duration::from_millis(1);
        assert_eq!(addresses.validate(later, route(1)), Some(Validated { evicted: None }));
        assert!(addresses.holds(later, route(1).remote) && !addresses.holds(later, route(2).remote));
        assert_eq!(addresses.validate(later, route(99)), Some(Validated { evicted: Some(route(2).remote) }));
        assert_eq!(addresses.iter().count(), MAX_ADDRESSES);
        addresses.validate(later + Duration::from_secs(1), route(1));
        assert_eq!(addresses.latest(later + Duration::from_secs(1)), Some(route(1)));
        assert_eq!(addresses.latest(later + LIFETIME + LIFETIME), None);
        assert_eq!((addresses.route(route(99).remote), addresses.route(route(2).remote)), (Some(route(99)), None));
    }
}
