//! The machine's own addresses and names, for host candidates, certificates and printed URLs.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use if_addrs::Interface;

use crate::config::PublicIp;

/// The kernel's host name, read from a file to avoid `unsafe`. Without it only addresses are used.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Names and addresses under which browsers on this machine and its networks can reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanNames {
    /// In lower case; `None` if the host name is not valid in a URL.
    pub host_name: Option<String>,
    /// The addresses that [`local_addrs`] returns.
    pub addrs: Vec<IpAddr>,
}

/// The source of the announced addresses: the interfaces and the settings.
pub struct Announced {
    /// Address of the media socket.
    local: SocketAddr,
    public_ips: Vec<PublicIp>,
}

impl Announced {
    /// Creates the source for a media socket bound to `local`, with the addresses of `--public-ip`.
    pub fn new(local: SocketAddr, public_ips: Vec<PublicIp>) -> Self {
        Self { local, public_ips }
    }

    /// Returns the current candidates: the public addresses, and the addresses of the interfaces (or the bound one)
    /// unless a public one of the same family replaces them.
    ///
    /// # Errors
    /// Fails as [`local_addrs`] does.
    pub fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        let own = if self.local.ip().is_unspecified() {
            let usable = local_addrs()?;
            usable.into_iter().filter(|ip| self.local.is_ipv6() || ip.is_ipv4()).collect()
        } else {
            vec![self.local.ip()]
        };
        let is_replaced = |ip: &IpAddr| {
            let mut public = self.public_ips.iter();
            public.any(|public| !public.is_additional && public.addr.is_ipv4() == ip.is_ipv4())
        };
        let public = self.public_ips.iter().map(|public| public.addr);
        let mut announced: Vec<SocketAddr> = Vec::new();
        for ip in public.chain(own.into_iter().filter(|ip| !is_replaced(ip))) {
            let candidate = SocketAddr::new(ip, self.local.port());
            if !announced.contains(&candidate) {
                announced.push(candidate);
            }
        }
        Ok(announced)
    }
}

impl LanNames {
    /// Returns the names that a certificate for this machine covers, without duplicates: `localhost`, the host name
    /// alone and under `.local` (RFC 6762), loopback of both families, and all other addresses.
    pub fn certificate_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned()];
        names.extend(self.host_name.clone());
        names.extend(self.mdns_name());
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let others = self.addrs.iter().filter(|addr| !loopback.contains(addr));
        names.extend(loopback.iter().chain(others).map(IpAddr::to_string));
        names
    }

    /// Returns the hosts of URLs that reach a socket bound to `addr`, the most useful first; IPv6 in brackets.
    ///
    /// For a wildcard address these are `localhost` and the addresses of its families. The host name is not included:
    /// most networks don't resolve it.
    pub fn url_hosts(&self, addr: IpAddr) -> Vec<String> {
        if !addr.is_unspecified() {
            return vec![url_host(addr)];
        }
        let reached = self.addrs.iter().filter(|local| !local.is_loopback() && (addr.is_ipv6() || local.is_ipv4()));
        std::iter::once("localhost".to_owned()).chain(reached.map(|addr| url_host(*addr))).collect()
    }

    /// Returns the name under which mDNS responders announce the machine: the first label under `.local`.
    fn mdns_name(&self) -> Option<String> {
        let label = self.host_name.as_deref()?.split('.').next()?;
        let name = format!("{label}.local");
        (self.host_name.as_deref() != Some(&name)).then_some(name)
    }
}

/// Returns the addresses for host candidates: IPv4, then IPv6, then loopback, each in the system's order.
///
/// They are the addresses of all interfaces that are up and have a carrier, without duplicates and without unspecified,
/// multicast and IPv6 link-local addresses: link-local ones need a zone, which a candidate can't carry (RFC 8839
/// section 5.1). Container bridges count like any other interface: containers reach the server there, and a bridge
/// without containers has no carrier.
///
/// # Errors
/// Fails if the system call fails.
pub fn local_addrs() -> io::Result<Vec<IpAddr>> {
    let up = if_addrs::get_if_addrs()?;
    Ok(usable(up.iter().filter(|interface| interface.is_oper_up()).map(Interface::ip)))
}

/// Returns the machine's current names and addresses.
///
/// # Errors
/// Fails as [`local_addrs`] does.
pub fn lan_names() -> io::Result<LanNames> {
    let host_name = fs::read_to_string(HOST_NAME_FILE).ok().and_then(|name| valid_host_name(&name));
    Ok(LanNames { host_name, addrs: local_addrs()? })
}

fn usable(addrs: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut usable: Vec<IpAddr> = Vec::new();
    for addr in addrs {
        let link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        if !link_local && !addr.is_unspecified() && !addr.is_multicast() && !usable.contains(&addr) {
            usable.push(addr);
        }
    }
    usable.sort_by_key(|addr| (addr.is_loopback(), addr.is_ipv6()));
    usable
}

/// Returns the host name in lower case if it is valid in a certificate and a URL (RFC 1123 section 2.1) and is not
/// `localhost`.
fn valid_host_name(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric = name.parse::<IpAddr>().is_ok();
    let short = name.len() <= 253 && name != "localhost" && !numeric;
    (short && name.split('.').all(fits)).then_some(name)
}

fn url_host(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => addr.to_string(),
        IpAddr::V6(addr) => format!("[{addr}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    fn names(host_name: &str, list: &[&str]) -> LanNames {
        LanNames { host_name: valid_host_name(host_name), addrs: addrs(list) }
    }

    #[test]
    fn candidates_are_usable_and_loopback_is_last() {
        let all = ["127.0.0.1", "::1", "fd00::2", "10.0.0.2", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::"];
        let more = ["10.0.0.1", "10.0.0.2", "169.254.1.1", "2001:db8::1"];
        let expected = ["10.0.0.2", "10.0.0.1", "169.254.1.1", "fd00::2", "2001:db8::1", "127.0.0.1", "::1"];
        assert_eq!(usable(addrs(&[&all[..], &more[..]].concat()).into_iter()), addrs(&expected));
    }

    #[test]
    fn host_names() {
        for (text, expected) in [
            ("Box\n", Some("box")),
            ("box.example.org", Some("box.example.org")),
            ("localhost", None),
            ("", None),
            ("(none)", None),
            ("my_box", None),
            ("-box", None),
            ("a..b", None),
            ("192.0.2.1", None),
        ] {
            assert_eq!(valid_host_name(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(valid_host_name(&"a".repeat(64)), None);
    }

    #[test]
    fn certificates_cover_every_name_once() {
        for (host_name, list, expected) in [
            ("", &[][..], &["localhost", "127.0.0.1", "::1"][..]),
            ("box", &["10.0.0.1", "127.0.0.1"], &["localhost", "box", "box.local", "127.0.0.1", "::1", "10.0.0.1"]),
            ("box.local", &["::1", "fd00::1"], &["localhost", "box.local", "127.0.0.1", "::1", "fd00::1"]),
            ("box.a.org", &[], &["localhost", "box.a.org", "box.local", "127.0.0.1", "::1"]),
        ] {
            assert_eq!(names(host_name, list).certificate_names(), expected, "{host_name} {list:?}");
        }
    }

    #[test]
    fn url_hosts_reach_the_bound_address() {
        let lan = names("box", &["10.0.0.1", "fd00::1", "127.0.0.1", "::1"]);
        for (bound, expected) in [
            ("::", &["localhost", "10.0.0.1", "[fd00::1]"][..]),
            ("0.0.0.0", &["localhost", "10.0.0.1"]),
            ("127.0.0.1", &["127.0.0.1"]),
            ("fd00::1", &["[fd00::1]"]),
        ] {
            assert_eq!(lan.url_hosts(bound.parse().unwrap()), expected, "{bound}");
        }
    }

    #[test]
    fn loopback_is_the_last_local_address() {
        let local = local_addrs().unwrap();
        assert!(local.last().is_some_and(IpAddr::is_loopback), "{local:?}");
        assert_eq!(lan_names().unwrap().addrs, local, "the order is stable");
    }
}
