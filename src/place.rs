//! Where a client is, as far as limits count: by its own address, also behind a proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

/// Bits of an IPv6 address that stand for one place: who has a network has all that it could have (RFC 6177 section 2).
/// Fewer take many people for one, more let one person be many.
const NETWORK_BITS: u32 = 64;

/// Where all IPv4 addresses are in the view of a network without any (RFC 6052 section 2.1).
const NAT64: u128 = 0x0064_ff9b << 96;

/// What a limit takes for one person: an IPv4 address, or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(IpAddr);

impl Place {
    /// The place of an address.
    pub fn new(addr: IpAddr) -> Self {
        Self(match addr.to_canonical() {
            IpAddr::V6(addr) if addr.to_bits() >> 32 == NAT64 >> 32 => {
                Ipv4Addr::from_bits(addr.to_bits() as u32).into()
            }
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
            addr => addr,
        })
    }

    /// Where a client is whose connection comes from an address, with the values of its `X-Forwarded-For`, comma between
    /// them. Each proxy appends whom it heard, so the last that is none of ours is the client, and what stands before it
    /// anybody may have written. `None` if all that is known are proxies.
    pub fn find(proxies: &[IpNet], remote: IpAddr, forwarded_for: &str) -> Option<Self> {
        let (mut addr, mut heard) = (remote.to_canonical(), forwarded_for.rsplit(','));
        while proxies.iter().any(|proxies| proxies.contains(&addr)) {
            addr = parse(heard.next()?)?.to_canonical();
        }
        Some(Self::new(addr))
    }
}

/// How many of something each place has. A place with none takes no memory.
#[derive(Debug, Default)]
pub struct Tally(FxHashMap<Place, usize>);

impl Tally {
    /// How many this place has.
    pub fn of(&self, place: Place) -> usize {
        self.0.get(&place).copied().unwrap_or_default()
    }

    /// One more.
    pub fn add(&mut self, place: Place) {
        *self.0.entry(place).or_default() += 1;
    }

    /// One less.
    pub fn remove(&mut self, place: Place) {
        if let Some(count) = self.0.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&place);
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            IpAddr::V4(addr) => write!(f, "{addr}"),
            IpAddr::V6(addr) => write!(f, "{addr}/{NETWORK_BITS}"),
        }
    }
}

/// An address, which some proxies write with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let addr = text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    addr.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_where_the_last_proxy_heard_it() {
        let proxies = ["127.0.0.0/8", "::1/128", "10.1.0.0/16"].map(|net| net.parse().unwrap());
        for (name, remote, forwarded_for, expected) in [
            ("itself", "192.0.2.1", "", Some("192.0.2.1")),
            ("a liar", "192.0.2.1", "127.0.0.1, 192.0.2.2", Some("192.0.2.1")),
            ("behind a proxy", "127.0.0.1", "192.0.2.1", Some("192.0.2.1")),
            ("behind two", "::1", "192.0.2.1 ,10.1.2.3", Some("192.0.2.1")),
            ("a liar behind a proxy", "::ffff:127.0.0.1", "192.0.2.2, 192.0.2.1", Some("192.0.2.1")),
            ("a liar who is no address", "127.0.0.1", "nobody\u{fffd}, 192.0.2.1", Some("192.0.2.1")),
            ("with a port", "127.0.0.1", "192.0.2.1:4711", Some("192.0.2.1")),
            ("IPv6", "127.0.0.1", "2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("IPv6 in brackets", "127.0.0.1", "[2001:db8:1:2:3:4:5:6]", Some("2001:db8:1:2::/64")),
            ("IPv6 with a port", "127.0.0.1", "[2001:db8:1:2:3:4:5:6]:80", Some("2001:db8:1:2::/64")),
            ("IPv4 behind NAT64", "64:ff9b::192.0.2.1", "", Some("192.0.2.1")),
            ("a mapped address", "::ffff:192.0.2.1", "", Some("192.0.2.1")),
            ("the proxy says nothing", "127.0.0.1", "", None),
            ("it says nonsense", "127.0.0.1", "192.0.2.1, unknown", None),
            ("all are proxies", "127.0.0.1", "10.1.2.3, ::1", None),
        ] {
            let place = Place::find(&proxies, remote.parse().unwrap(), forwarded_for);
            assert_eq!(place.map(|place| place.to_string()).as_deref(), expected, "{name}");
        }
    }
}
