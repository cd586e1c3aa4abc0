//! Media over real UDP: IPv4 and IPv6, several local addresses, announced addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::client::{Client, exchange, run_until};
use crate::process::Process;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: this machine has no IPv6");
    }
    has
}

/// Ann and Bob exchange media through `server` from `local`, and receive datagrams from no other address.
fn talk(process: &Process, local: IpAddr, server: IpAddr) {
    let mut ann = Client::join(process, "Ann", local, server);
    let mut bob = Client::join(process, "Bob", local, server);
    exchange(&mut ann, &mut bob);
    let only = BTreeSet::from([SocketAddr::new(server, process.port())]);
    assert_eq!(ann.sources, only);
    assert_eq!(bob.sources, only);
}

#[test]
fn two_peers_hear_and_see_each_other_over_ipv4() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    talk(&process, HERE, HERE);
}

#[test]
fn two_peers_hear_and_see_each_other_over_ipv6() {
    if has_ipv6() {
        let process = Process::start(&["--addr", "[::1]:0"]);
        talk(&process, HERE_V6, HERE_V6);
    }
}

#[test]
fn one_port_of_a_wildcard_serves_both_families() {
    let process = Process::start(&["--addr", ":0"]);
    talk(&process, ip("127.0.0.2"), HERE);
    if has_ipv6() {
        talk(&process, HERE_V6, HERE_V6);
    }
}

/// By default the system would reply from 127.0.0.1, which the client does not know.
#[test]
fn replies_come_from_the_address_that_received_the_request() {
    for addr in [":0", "0.0.0.0:0"] {
        let process = Process::start(&["--addr", addr, "--public-ip", "127.0.0.3"]);
        talk(&process, ip("127.0.0.2"), ip("127.0.0.3"));
    }
}

#[test]
fn media_uses_the_port_of_media_addr() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let process = Process::start(&["--addr", "127.0.0.1:0", "--media-addr", &free.to_string()]);
    let mut ann = Client::join_on_loopback(&process, "Ann");
    let mut bob = Client::join_on_loopback(&process, "Bob");
    exchange(&mut ann, &mut bob);
    assert_eq!(ann.sources, BTreeSet::from([free]));
}

#[test]
fn public_addresses_are_announced() {
    let public = ip("203.0.113.7");
    let announced = |args: &[&str], env: &[(&str, &str)]| {
        let process = Process::start_with(args, env);
        let mut ann = Client::join_on_loopback(&process, "Ann");
        run_until(&mut [&mut ann], "an offer", |clients| !clients[0].candidates.is_empty());
        assert!(ann.candidates.iter().all(|candidate| candidate.port() == process.port()));
        let ips: BTreeSet<IpAddr> = ann.candidates.iter().map(SocketAddr::ip).collect();
        ips
    };
    let v4 = |ips: &BTreeSet<IpAddr>| ips.iter().copied().filter(IpAddr::is_ipv4).collect::<BTreeSet<_>>();
    let v6 = |ips: &BTreeSet<IpAddr>| ips.iter().copied().filter(IpAddr::is_ipv6).collect::<BTreeSet<_>>();

    let own = announced(&["--addr", ":0"], &[]);
    assert!(own.contains(&HERE) && !own.contains(&public), "{own:?}");
    assert!(own.iter().all(|ip| !ip.is_unspecified() && !ip.is_multicast()), "{own:?}");

    let instead = announced(&["--addr", ":0", "--public-ip", "203.0.113.7"], &[]);
    assert_eq!(v4(&instead), BTreeSet::from([public]));
    assert_eq!(v6(&instead), v6(&own), "the other family does not change");

    let beside = announced(&["--addr", ":0"], &[("PUBLIC_IP", "+203.0.113.7")]);
    assert_eq!(beside, own.iter().copied().chain([public]).collect());

    let bound = announced(&["--addr", "127.0.0.1:0"], &[]);
    assert_eq!(bound, BTreeSet::from([HERE]), "only bound addresses are announced");
}
