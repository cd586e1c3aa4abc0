//! Parsers of the values of settings. An error says what to write instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use log::LevelFilter;

use super::{PublicIp, Tls, VideoCodec};

pub(super) fn limit(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let limit = text.parse().ok().filter(|limit| range.contains(limit));
        limit.ok_or_else(|| format!("write a whole number from {} to {}", range.start(), range.end()))
    }
}

pub(super) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let example = "write :8080, 192.0.2.1:8080 or [2001:db8::1]:8080";
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => return Err(format!("no port; {example}")),
    };
    let port = port.parse().map_err(|_| format!("the port is a number up to 65535; {example}"))?;
    let host = match host {
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().map(IpAddr::V6).ok(),
            None => host.parse().map(IpAddr::V4).ok(),
        }
        .ok_or_else(|| format!("not an IP address before the port; {example}"))?,
    };
    Ok(SocketAddr::new(host, port))
}

pub(super) fn parse_prefix(text: &str) -> Result<String, String> {
    let path = text.trim_matches('/');
    // Unreserved characters only (RFC 3986 section 2.3): the prefix is compared with request paths and written into the
    // page without escaping.
    let fits = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
    };
    match path {
        "" => Ok(String::new()),
        _ if path.split('/').all(fits) => Ok(format!("/{path}")),
        _ => Err("write a path of letters, digits and -._~ between slashes, such as /conference".to_owned()),
    }
}

pub(super) fn parse_public_ip(text: &str) -> Result<PublicIp, String> {
    let text = text.trim();
    let (text, is_additional) = text.strip_prefix('+').map_or((text, false), |text| (text, true));
    let addr = text.parse::<IpAddr>().map_err(|_| "write an IP address, such as 203.0.113.7 or +2001:db8::1")?;
    let addr = addr.to_canonical();
    if addr.is_unspecified() || addr.is_multicast() {
        return Err("not the address of one machine".to_owned());
    }
    Ok(PublicIp { addr, is_additional })
}

pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(|addr| IpNet::from(addr.to_canonical())));
    network.map_err(|_| "write an IP address or a network, such as 10.0.0.7 or 10.0.0.0/24".to_owned())
}

pub(super) fn parse_proxies(text: &str) -> Result<IpNet, String> {
    let network = parse_network(text)?;
    match network.prefix_len() {
        0 => Err("this network contains every client, not only proxies".to_owned()),
        _ => Ok(network),
    }
}

pub(super) fn parse_codec(text: &str) -> Result<VideoCodec, String> {
    let name = text.trim().to_ascii_lowercase();
    let codec = VideoCodec::ALL.into_iter().find(|codec| codec.to_string() == name);
    codec.ok_or_else(|| format!("not a video codec; choose from {}", VideoCodec::ALL.map(|c| c.to_string()).join(",")))
}

pub(super) fn parse_tls(text: &str) -> Result<Tls, String> {
    match text {
        "auto" => Ok(Tls::Auto),
        "off" => Ok(Tls::Off),
        _ => Err("choose from auto, off; name certificate files with --tls-cert and --tls-key".to_owned()),
    }
}

/// Parses an origin and normalizes it to the form that browsers send (RFC 6454 section 6.2).
pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let origin = text.trim().trim_end_matches('/').to_ascii_lowercase();
    if origin == "*" {
        return Ok(origin);
    }
    let host_port = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match host_port {
        Some(rest) if !rest.is_empty() && rest.bytes().all(plain) => {}
        _ => return Err("write a scheme and a host without path, such as https://example.org, or *".to_owned()),
    }
    let default_port = [("http://", ":80"), ("https://", ":443")]
        .into_iter()
        .find_map(|(scheme, port)| origin.strip_suffix(port).filter(|_| origin.starts_with(scheme)));
    Ok(default_port.unwrap_or(&origin).to_owned())
}

/// Parses the URL of another server's page. It gets a trailing slash, because the WebSocket URL is relative to it.
pub(super) fn parse_drain_url(text: &str) -> Result<String, String> {
    let url = text.trim();
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\<>".contains(&byte);
    let rest = ["https://", "http://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(plain) => {
            Ok(format!("{}/", url.trim_end_matches('/')))
        }
        _ => Err("write the URL of a page, such as https://b.example.org/aq_server/".to_owned()),
    }
}

pub(super) fn parse_log_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "choose from error, warn, info, debug, trace, off".to_owned())
}
