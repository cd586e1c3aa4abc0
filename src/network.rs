//! Networks: the unit of per-client limits, found from the client's own address even behind a proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

/// Prefix bits of an IPv6 address that name one network: an access provider assigns at least a /64 to each customer
/// (RFC 6177 section 2). Fewer bits count many people as one client, more let one person count as many.
const NETWORK_BITS: u32 = 64;

/// Prefix bits of an IPv6 address that name one site: providers assign a /48 to a /56 to a customer with several networks
/// (RFC 6177 section 2).
const SITE_BITS: u32 = 56;

/// The prefix under which IPv6-only networks see IPv4 addresses (RFC 6052 section 2.1).
const NAT64: u128 = 0x0064_ff9b << 96;

/// A network: an IPv4 address or an IPv6 /64. Limits count all clients in it as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// Returns the network of an address. IPv4-mapped and NAT64 addresses count as the IPv4 address in them.
    pub fn new(addr: IpAddr) -> Self {
        Self(match addr.to_canonical() {
            IpAddr::V6(addr) if addr.to_bits() >> 32 == NAT64 >> 32 => {
                Ipv4Addr::from_bits(addr.to_bits() as u32).into()
            }
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
            addr => addr,
        })
    }

    /// Returns the first network of the site, an IPv4 address or an IPv6 /56, which stands for all of them.
    pub fn site(self) -> Self {
        match self.0 {
            IpAddr::V6(addr) => {
                let kept = u128::BITS - SITE_BITS;
                Self(Ipv6Addr::from_bits(addr.to_bits() >> kept << kept).into())
            }
            IpAddr::V4(_) => self,
        }
    }

    /// Finds the network of a client from the remote address of its connection and the comma-joined values of its
    /// `X-Forwarded-For`. Each proxy appends the address it received the request from, so the last address that is not
    /// in `proxies` is the client's. Everything before it may be forged and is ignored. Returns `None` if every address
    /// is in `proxies`, or one of the addresses read is invalid.
    pub fn find(proxies: &[IpNet], remote: IpAddr, forwarded_for: &str) -> Option<Self> {
        client_address(proxies, remote, forwarded_for).map(Self::new)
    }
}

/// A count per network. A count of zero takes no memory.
#[derive(Debug, Default)]
pub struct Tally(FxHashMap<Network, usize>);

impl Tally {
    /// Returns the count of a network.
    pub fn of(&self, network: Network) -> usize {
        self.0.get(&network).copied().unwrap_or_default()
    }

    /// Increments the count of a network.
    pub fn add(&mut self, network: Network) {
        *self.0.entry(network).or_default() += 1;
    }

    /// Decrements the count of a network.
    pub fn remove(&mut self, network: Network) {
        if let Some(count) = self.0.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&network);
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            IpAddr::V4(addr) => write!(f, "{addr}"),
            IpAddr::V6(addr) => write!(f, "{addr}/{NETWORK_BITS}"),
        }
    }
}

/// Finds the address of a client, as [`Network::find`] finds its network.
pub fn client_address(proxies: &[IpNet], remote: IpAddr, forwarded_for: &str) -> Option<IpAddr> {
    let mut addr = remote.to_canonical();
    let mut hops = forwarded_for.rsplit(',');
    while proxies.iter().any(|proxies| proxies.contains(&addr)) {
        addr = parse(hops.next()?)?.to_canonical();
    }
    Some(addr)
}

/// Parses an address with or without a port; some proxies append one.
pub fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let addr = text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    addr.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_last_address_that_is_no_trusted_proxy() {
        let proxies = ["127.0.0.0/8", "::1/128", "10.1.0.0/16"].map(|net| net.parse().unwrap());
        for (name, remote, forwarded_for, expected) in [
            ("direct", "192.0.2.1", "", Some("192.0.2.1")),
            ("direct with a forged header", "192.0.2.1", "127.0.0.1, 192.0.2.2", Some("192.0.2.1")),
            ("behind a proxy", "127.0.0.1", "192.0.2.1", Some("192.0.2.1")),
            ("behind two proxies", "::1", "192.0.2.1 ,10.1.2.3", Some("192.0.2.1")),
            ("a forged header behind a proxy", "::ffff:127.0.0.1", "192.0.2.2, 192.0.2.1", Some("192.0.2.1")),
            ("a forged header that is no address", "127.0.0.1", "invalid\u{fffd}, 192.0.2.1", Some("192.0.2.1")),
            ("with a port", "127.0.0.1", "192.0.2.1:4711", Some("192.0.2.1")),
            ("IPv6", "127.0.0.1", "2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("IPv6 in brackets", "127.0.0.1", "[2001:db8:1:2:3:4:5:6]", Some("2001:db8:1:2::/64")),
            ("IPv6 with a port", "127.0.0.1", "[2001:db8:1:2:3:4:5:6]:80", Some("2001:db8:1:2::/64")),
            ("IPv4 behind NAT64", "64:ff9b::192.0.2.1", "", Some("192.0.2.1")),
            ("a mapped address", "::ffff:192.0.2.1", "", Some("192.0.2.1")),
            ("a proxy without the header", "127.0.0.1", "", None),
            ("a proxy with an invalid header", "127.0.0.1", "192.0.2.1, unknown", None),
            ("only proxies", "127.0.0.1", "10.1.2.3, ::1", None),
        ] {
            let network = Network::find(&proxies, remote.parse().unwrap(), forwarded_for);
            assert_eq!(network.map(|network| network.to_string()).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_site_is_a_56_prefix() {
        let site = |text: &str| Network::new(text.parse().unwrap()).site();
        assert_eq!(site("2001:db8:1:2::1"), site("2001:db8:1:ff::1"));
        assert_ne!(site("2001:db8:1:2::1"), site("2001:db8:1:102::1"));
        assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
    }
}
