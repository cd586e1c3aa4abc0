//! The origin check: which pages may open a WebSocket to this server (RFC 6454, RFC 6455 section 10.2).
//!
//! Browsers let any page open a WebSocket to any server, and only `Origin` says which page it is. Clients other than
//! browsers send no `Origin` and could send any value: the check protects browser users, not the server.

use std::net::Ipv6Addr;

/// Whether a page with this `Origin` may open a WebSocket on a connection with this `Host`.
///
/// If `list` is empty, the origin must have the host and port of `Host`. `secure` means that the connection itself is
/// TLS; on a plain one the scheme is not compared, since a proxy may have terminated TLS. Otherwise the origin must
/// equal an entry of `list` (`scheme://host[:port]`, or `*` for any), and `Host` does not matter.
pub fn allowed(origin: Option<&str>, host: Option<&str>, secure: bool, list: &[String]) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    if list.iter().any(|entry| entry == "*") {
        return true;
    }
    let Some(origin) = Origin::parse(origin) else {
        return false;
    };
    if !list.is_empty() {
        return list.iter().any(|entry| Origin::parse(entry).as_ref() == Some(&origin));
    }
    let Some((host, port)) = host.and_then(parse_authority) else {
        return false;
    };
    if secure && origin.scheme != "https" {
        return false;
    }
    let Some(default_port) = default_port(&origin.scheme) else {
        return false;
    };
    origin.host == host && origin.port == Some(port.unwrap_or(default_port))
}

/// A parsed origin. Everything is in lower case, so that equal origins compare equal.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    /// The scheme's default if the origin has none; `None` if the scheme has no default port.
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || !scheme.chars().all(is_scheme_char) {
            return None;
        }
        let (host, port) = parse_authority(authority)?;
        let port = port.or(default_port(&scheme));
        Some(Origin { scheme, host, port })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Parses `host[:port]`. The host is in lower case, an IPv6 literal in canonical form. Anything else (user info, a
/// path, an empty port) is `None`.
fn parse_authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        (format!("[{address}]"), port)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (host, port) = text.split_at(end);
        let is_host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !host.chars().all(is_host_char) {
            return None;
        }
        (host.to_ascii_lowercase(), port)
    };
    if port.is_empty() {
        return Some((host, None));
    }
    let digits = port.strip_prefix(':')?;
    // `parse` alone accepts a sign.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host, Some(digits.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_the_origin_must_match_the_host() {
        const PLAIN: bool = false;
        const TLS: bool = true;
        let table: &[(bool, Option<&str>, Option<&str>, bool)] = &[
            (true, None, Some("call.example.org"), PLAIN),
            (true, None, None, PLAIN),
            (true, Some("https://call.example.org"), Some("call.example.org"), TLS),
            // Behind a proxy that terminates TLS.
            (true, Some("https://call.example.org"), Some("call.example.org"), PLAIN),
            (true, Some("https://call.example.org"), Some("call.example.org:443"), PLAIN),
            (true, Some("http://call.example.org"), Some("call.example.org:80"), PLAIN),
            (true, Some("http://localhost:8080"), Some("localhost:8080"), PLAIN),
            (true, Some("HTTPS://Call.Example.ORG"), Some("call.example.org"), TLS),
            (true, Some("https://call.example.org"), Some("CALL.example.org"), TLS),
            (true, Some("http://[::1]:8080"), Some("[::1]:8080"), PLAIN),
            (true, Some("http://[0:0:0:0:0:0:0:1]:8080"), Some("[::1]:8080"), PLAIN),
            (true, Some("https://[2001:DB8::1]"), Some("[2001:db8::1]"), TLS),
            (true, Some("http://127.0.0.1:8080"), Some("127.0.0.1:8080"), PLAIN),
            (false, Some("null"), Some("call.example.org"), PLAIN),
            (false, Some(""), Some("call.example.org"), PLAIN),
            (false, Some("call.example.org"), Some("call.example.org"), PLAIN),
            (false, Some("://call.example.org"), Some("call.example.org"), PLAIN),
            (false, Some("https://call.example.org"), None, TLS),
            (false, Some("https://call.example.org"), Some(""), TLS),
            // A page without TLS must not use a connection with TLS.
            (false, Some("http://call.example.org"), Some("call.example.org"), TLS),
            (false, Some("http://call.example.org:443"), Some("call.example.org"), TLS),
            // Suffix, prefix and user info tricks.
            (false, Some("https://call.example.org.evil.com"), Some("call.example.org"), TLS),
            (false, Some("https://evilcall.example.org"), Some("call.example.org"), TLS),
            (false, Some("https://example.org"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org."), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org@evil.com"), Some("call.example.org"), TLS),
            (false, Some("https://evil.com@call.example.org"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org/"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org#.evil.com"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org, https://evil.com"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org\\.evil.com"), Some("call.example.org"), TLS),
            // Other ports.
            (false, Some("https://call.example.org:8443"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org"), Some("call.example.org:8443"), TLS),
            (false, Some("http://localhost:3000"), Some("localhost:8080"), PLAIN),
            (false, Some("https://call.example.org:"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org:+443"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org:65979"), Some("call.example.org"), TLS),
            (false, Some("https://call.example.org:443:443"), Some("call.example.org"), TLS),
            (false, Some("http://[::1"), Some("[::1"), PLAIN),
            (false, Some("http://[::1]x:8080"), Some("[::1]:8080"), PLAIN),
            (false, Some("http://[localhost]:8080"), Some("[localhost]:8080"), PLAIN),
            // The origins of browser extensions and files never match.
            (false, Some("file://"), Some("localhost"), PLAIN),
            (false, Some("chrome-extension://localhost"), Some("localhost"), PLAIN),
        ];
        for &(expected, origin, host, secure) in table {
            assert_eq!(allowed(origin, host, secure, &[]), expected, "{origin:?} at {host:?}, secure {secure}");
        }
    }

    #[test]
    fn with_a_list_the_origin_must_equal_an_entry() {
        let list = ["https://a.example".to_owned(), "http://b.example:8080".to_owned(), "app://pages".to_owned()];
        let all = ["*".to_owned()];
        let table: &[(bool, Option<&str>, &[String])] = &[
            (true, None, &list),
            (true, Some("https://a.example"), &list),
            (true, Some("https://A.example:443"), &list),
            (true, Some("http://b.example:8080"), &list),
            (true, Some("app://pages"), &list),
            (false, Some("http://a.example"), &list),
            (false, Some("https://a.example:444"), &list),
            (false, Some("https://sub.a.example"), &list),
            (false, Some("http://b.example"), &list),
            (false, Some("null"), &list),
            // The list replaces the comparison with Host.
            (false, Some("https://host.example"), &list),
            (true, Some("https://anything.example"), &all),
            (true, Some("null"), &all),
        ];
        for &(expected, origin, list) in table {
            assert_eq!(allowed(origin, Some("host.example"), true, list), expected, "{origin:?} in {list:?}");
        }
        assert!(!allowed(Some("null"), Some("host.example"), true, &["null".to_owned()]));
    }
}
