//! Settings as users write them, and as `docs/settings.md` lists them.

use super::values::parse_prefix;
use super::*;

/// Parses a command line and variables, both split at spaces; a variable is `NAME=value`.
fn read(variables: &str, line: &str) -> Result<Config, ParseError> {
    let args = std::iter::once("aq-server").chain(line.split_whitespace()).map(OsString::from);
    let lookup = |name: &str| {
        let pairs = variables.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.into()).next()
    };
    Config::parse(args, lookup)
}

fn config(variables: &str, line: &str) -> Config {
    read(variables, line).unwrap_or_else(|error| panic!("{variables} {line}: {error}"))
}

fn invalid(variables: &str, line: &str) -> String {
    match read(variables, line) {
        Err(ParseError::Invalid(text)) => text,
        other => panic!("{variables} {line}: {other:?}"),
    }
}

/// Rows of a Markdown table for each group of the help.
fn documented_settings() -> String {
    let command = Flags::command();
    let mut groups: Vec<(String, String)> = Vec::new();
    for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let heading = arg.get_help_heading().expect("every setting has one").to_owned();
        let flag = format!("--{}", arg.get_long().expect("a long flag"));
        let value = arg.get_value_names().and_then(|names| names.first()).expect("a value");
        let variable = arg.get_env().and_then(|name| name.to_str()).expect("a variable");
        let default: Vec<_> = arg.get_default_values().iter().filter_map(|value| value.to_str()).collect();
        let default = if default.is_empty() { String::new() } else { format!("`{}`", default.join(",")) };
        let help = arg.get_help().expect("a description").to_string().replace('\n', " ").replace('|', "\\|");
        let value = value.replace('|', "\\|");
        let row = format!("| `{flag} {value}` | `{variable}` | {default} | {help} |\n");
        match groups.last_mut().filter(|(last, _)| *last == heading) {
            Some((_, rows)) => rows.push_str(&row),
            None => groups.push((heading, row)),
        }
    }
    let head = "| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n";
    groups.iter().map(|(heading, rows)| format!("\n## {heading}\n\n{head}{rows}")).collect()
}

#[test]
fn the_documented_settings_are_those_of_the_help() {
    let documented = include_str!("../../docs/settings.md");
    let wanted = documented_settings();
    let begin = documented.find("\n## ").unwrap_or(documented.len());
    assert!(documented[begin..] == wanted, "docs/settings.md ends with:\n{wanted}");
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn public(addr: &str, is_additional: bool) -> PublicIp {
    PublicIp { addr: addr.parse().unwrap(), is_additional }
}

#[test]
fn proxies_are_addresses_and_networks() {
    for line in [
        "--trusted-proxies 10.0.0.7,172.17.0.0/16",
        "--trusted-proxies ::ffff:10.0.0.7 --trusted-proxies 172.17.0.0/16",
    ] {
        assert_eq!(config("", line).trusted_proxies, networks(&["10.0.0.7/32", "172.17.0.0/16"]), "{line}");
    }
    assert!(invalid("", "--trusted-proxies 0.0.0.0/0").contains("contains every client"));
    let error = invalid("", "--trusted-proxies nginx");
    assert!(error.contains("--trusted-proxies") && error.contains("10.0.0.0/24"), "{error}");
}

#[test]
fn defaults() {
    let addr: SocketAddr = "[::]:8080".parse().unwrap();
    let expected = Config {
        addr,
        prefix: "/aq_server".into(),
        media_addr: addr,
        public_ips: vec![],
        codecs: vec![VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1],
        tls: Tls::Off,
        state_dir: "/var/lib/aq-server".into(),
        allowed_origins: vec![],
        trusted_proxies: networks(&["127.0.0.0/8", "::1/128"]),
        token_secret: None,
        token_secret_file: None,
        metrics_allow: Vec::new(),
        admin_token: None,
        admin_token_file: None,
        www: None,
        log_level: LevelFilter::Info,
        gather: Duration::from_millis(1),
        drain: Duration::from_secs(3),
        drain_url: None,
        limits: Limits {
            max_rooms: 1_000,
            max_participants: 10_000,
            max_room_size: 100,
            max_conns: 10_000,
            max_conns_per_addr: 100,
            max_pending: 1_000,
            max_publish_kbps: 10_000,
            max_publish_packets: 2_000,
            loudest: 3,
            loudest_above: 6,
            last_n: 16,
            chat_history: 50,
        },
    };
    assert_eq!(Config::default(), expected);
    assert_eq!(config("", ""), expected);
}

#[test]
fn every_setting_works_as_flag_with_one_dash_and_as_variable() {
    type Row = (&'static str, &'static str, &'static str, fn(&mut Config));
    let changes: &[Row] = &[
        ("addr", "SERVER_ADDR", "10.0.0.1:9000", |c| {
            c.addr = "10.0.0.1:9000".parse().unwrap();
            c.media_addr = c.addr;
        }),
        ("prefix", "PATH_PREFIX", "/x", |c| c.prefix = "/x".into()),
        ("media-addr", "MEDIA_ADDR", ":3478", |c| c.media_addr = "[::]:3478".parse().unwrap()),
        ("public-ip", "PUBLIC_IP", "1.2.3.4,+2001:db8::1", |c| {
            c.public_ips = vec![public("1.2.3.4", false), public("2001:db8::1", true)];
        }),
        ("codecs", "CODECS", "av1,VP8", |c| c.codecs = vec![VideoCodec::Av1, VideoCodec::Vp8]),
        ("tls", "TLS", "auto", |c| c.tls = Tls::Auto),
        ("state-dir", "STATE_DIR", "/s", |c| c.state_dir = "/s".into()),
        ("allow-origin", "ALLOWED_ORIGINS", "https://a.org,http://b:81", |c| {
            c.allowed_origins = vec!["https://a.org".into(), "http://b:81".into()];
        }),
        ("token-secret", "TOKEN_SECRET", "0123456789abcdef0123456789abcdef", |c| {
            c.token_secret = Some(Secret::new(b"0123456789abcdef0123456789abcdef").unwrap());
        }),
        ("token-secret-file", "TOKEN_SECRET_FILE", "/f", |c| c.token_secret_file = Some("/f".into())),
        ("www", "WWW_DIR", "/w", |c| c.www = Some("/w".into())),
        ("log-level", "LOG_LEVEL", "debug", |c| c.log_level = LevelFilter::Debug),
        ("gather", "GATHER", "0", |c| c.gather = Duration::ZERO),
        ("drain", "DRAIN", "0", |c| c.drain = Duration::ZERO),
        ("drain-url", "DRAIN_URL", "https://b.org/x", |c| c.drain_url = Some("https://b.org/x/".into())),
        ("max-rooms", "MAX_ROOMS", "7", |c| c.limits.max_rooms = 7),
        ("max-participants", "MAX_PARTICIPANTS", "7", |c| c.limits.max_participants = 7),
        ("max-room-size", "MAX_ROOM_SIZE", "7", |c| c.limits.max_room_size = 7),
        ("max-conns", "MAX_CONNS", "7", |c| c.limits.max_conns = 7),
        ("max-conns-per-addr", "MAX_CONNS_PER_ADDR", "7", |c| c.limits.max_conns_per_addr = 7),
        ("max-pending", "MAX_PENDING", "7", |c| c.limits.max_pending = 7),
        ("max-publish-kbps", "MAX_PUBLISH_KBPS", "900", |c| c.limits.max_publish_kbps = 900),
        ("max-publish-packets", "MAX_PUBLISH_PACKETS", "300", |c| c.limits.max_publish_packets = 300),
        ("loudest", "LOUDEST", "5", |c| c.limits.loudest = 5),
        ("loudest-above", "LOUDEST_ABOVE", "20", |c| c.limits.loudest_above = 20),
        ("last-n", "LAST_N", "0", |c| c.limits.last_n = 0),
        ("metrics-allow", "METRICS_ALLOW", "10.0.0.0/8,2001:db8::1", |c| {
            c.metrics_allow = networks(&["10.0.0.0/8", "2001:db8::1/128"]);
        }),
        ("admin-token-file", "ADMIN_TOKEN_FILE", "/f", |c| c.admin_token_file = Some("/f".into())),
        ("trusted-proxies", "TRUSTED_PROXIES", "::1", |c| c.trusted_proxies = networks(&["::1/128"])),
        ("chat-history", "CHAT_HISTORY", "0", |c| c.limits.chat_history = 0),
    ];
    for (flag, variable, value, change) in changes {
        let mut expected = Config::default();
        change(&mut expected);
        assert_ne!(expected, Config::default(), "{flag}");
        for line in [
            format!("--{flag} {value}"),
            format!("--{flag}={value}"),
            format!("-{flag} {value}"),
            format!("-{flag}={value}"),
        ] {
            assert_eq!(config("", &line), expected, "{line}");
            assert_eq!(config(&format!("{variable}=!"), &line), expected, "{line} wins over {variable}");
        }
        assert_eq!(config(&format!("{variable}={value}"), ""), expected, "{variable}");
        assert_eq!(config(&format!("{variable}="), ""), Config::default(), "empty {variable} is unset");
    }
    // Every setting is listed above except the certificate and its key, which need each other.
    let tested: Vec<_> =
        changes.iter().map(|(flag, variable, ..)| (format!("--{flag}"), variable.to_string())).collect();
    for setting in settings(&Flags::command()) {
        assert!(setting.0.starts_with("--tls-") || tested.contains(&setting), "{setting:?} is not tested");
    }
}

#[test]
fn only_the_loudest_microphones_are_forwarded_in_a_large_room() {
    for (line, participants, audible) in [
        ("", 6, None),
        ("", 7, Some(3)),
        ("--last-n 4", 5, None),
        ("--last-n 4", 6, Some(3)),
        ("--last-n 2", 4, Some(2)),
        ("--last-n 0 --loudest 5 --loudest-above 20", 20, None),
        ("--last-n 0 --loudest 5 --loudest-above 20", 21, Some(5)),
        ("--loudest-above 20", 17, None),
        ("--loudest-above 20", 18, Some(3)),
    ] {
        assert_eq!(config("", line).limits.max_audible(participants), audible, "{line} {participants}");
    }
}

#[test]
fn listen_addresses() {
    for (text, expected) in [
        (":9000", "[::]:9000"),
        ("0.0.0.0:9000", "0.0.0.0:9000"),
        ("[::1]:0", "[::1]:0"),
        ("localhost:80", "127.0.0.1:80"),
    ] {
        assert_eq!(config("", &format!("-addr {text}")).addr.to_string(), expected);
    }
    let both = config("", "-addr 127.0.0.1:1 -media-addr :2");
    assert_eq!((both.addr.to_string(), both.media_addr.to_string()), ("127.0.0.1:1".into(), "[::]:2".into()));
}

#[test]
fn prefixes() {
    for (text, expected) in
        [("/", ""), ("//", ""), ("x", "/x"), ("/x/", "/x"), ("a/b-c", "/a/b-c"), ("/.well-known", "/.well-known")]
    {
        assert_eq!(config("", &format!("-prefix {text}")).prefix, expected, "{text}");
    }
    assert_eq!(parse_prefix(""), Ok(String::new()));
}

#[test]
fn lists_repeat_and_single_values_override() {
    let repeated = config("PUBLIC_IP=9.9.9.9", "--public-ip 1.1.1.1 --public-ip=+::ffff:2.2.2.2");
    assert_eq!(repeated.public_ips, [public("1.1.1.1", false), public("2.2.2.2", true)]);
    assert_eq!(config("", "--prefix /a --prefix /b").prefix, "/b", "the last value wins, as in Go");
    let origins = config("", "--allow-origin HTTPS://A.org:443/ --allow-origin http://b:80,https://[::1]:8443,*");
    assert_eq!(origins.allowed_origins, ["https://a.org", "http://b", "https://[::1]:8443", "*"]);
    assert_eq!(config("", "--codecs vp9 --codecs h264").codecs, [VideoCodec::Vp9, VideoCodec::H264]);
}

#[test]
fn certificates() {
    let files = Tls::Files { cert: "/c".into(), key: "/k".into() };
    for (variables, line, expected) in [
        ("", "--tls-cert /c --tls-key /k", files.clone()),
        ("TLS_CERT=/c TLS_KEY=/k", "", files.clone()),
        ("TLS_KEY=/k", "-tls-cert /c", files),
        ("TLS_CERT=/c TLS_KEY=/k", "--tls off", Tls::Off),
        ("TLS=auto", "--tls off", Tls::Off),
    ] {
        assert_eq!(config(variables, line).tls, expected, "{variables} {line}");
    }
}

#[test]
fn state_folders() {
    for (variables, expected) in [
        ("HOME=/h", "/h/.local/state/aq-server"),
        ("HOME=/h XDG_STATE_HOME=/x", "/x/aq-server"),
        ("HOME=/h XDG_STATE_HOME=relative", "/h/.local/state/aq-server"),
        ("HOME=/h XDG_STATE_HOME=/x STATE_DIRECTORY=/a:/b", "/a"),
        ("STATE_DIRECTORY=/a STATE_DIR=/s", "/s"),
    ] {
        assert_eq!(config(variables, "").state_dir.to_str(), Some(expected), "{variables}");
    }
}

#[test]
fn invalid_values_give_one_error_line_that_names_the_setting() {
    let addr = "write :8080, 192.0.2.1:8080 or [2001:db8::1]:8080";
    let prefix = "write a path of letters, digits and -._~ between slashes, such as /conference";
    let there = "write the URL of a page, such as https://b.example.org/aq_server/";
    let origin = "write a scheme and a host without path, such as https://example.org, or *";
    let short = |length| {
        format!(
            "--token-secret (TOKEN_SECRET): the secret has {length} bytes and needs at least 32 (RFC 7518 section 3.2); \
             create one with: openssl rand -base64 32"
        )
    };
    let codecs = "not a video codec; choose from vp8,h264,vp9,av1";
    for (variables, line, expected) in [
        ("", "--addr 8080", format!("--addr (SERVER_ADDR): \"8080\": no port; {addr}")),
        ("", "-addr ::1", format!("--addr (SERVER_ADDR): \"::1\": no port; {addr}")),
        ("SERVER_ADDR=:http", "", format!("--addr (SERVER_ADDR): \":http\": the port is a number up to 65535; {addr}")),
        ("", "--addr :65536", format!("--addr (SERVER_ADDR): \":65536\": the port is a number up to 65535; {addr}")),
        ("", "--addr a.org:80", format!("--addr (SERVER_ADDR): \"a.org:80\": not an IP address before the port; {addr}")),
        ("", "--media-addr x", format!("--media-addr (MEDIA_ADDR): \"x\": no port; {addr}")),
        ("", "--prefix /a//b", format!("--prefix (PATH_PREFIX): \"/a//b\": {prefix}")),
        ("", "--prefix /a/../b", format!("--prefix (PATH_PREFIX): \"/a/../b\": {prefix}")),
        ("PATH_PREFIX=/a?b", "", format!("--prefix (PATH_PREFIX): \"/a?b\": {prefix}")),
        ("", "--public-ip 1.2.3", "--public-ip (PUBLIC_IP): \"1.2.3\": write an IP address, such as 203.0.113.7 or +2001:db8::1".into()),
        ("PUBLIC_IP=1.2.3.4,::", "", "--public-ip (PUBLIC_IP): \"::\": not the address of one machine".into()),
        ("", "--public-ip 1.2.3.4,+1.2.3.4", "--public-ip (PUBLIC_IP): \"1.2.3.4\": given twice".into()),
        ("", "--codecs vp8,h265", format!("--codecs (CODECS): \"h265\": {codecs}")),
        ("", "--codecs vp8,", format!("--codecs (CODECS): \"\": {codecs}")),
        ("CODECS=vp8,av1,vp8", "", "--codecs (CODECS): \"vp8\": given twice".into()),
        ("", "--tls on", "--tls (TLS): \"on\": choose from auto, off; name certificate files with --tls-cert and --tls-key".into()),
        ("", "--tls-cert c", "--tls-cert (TLS_CERT) needs --tls-key (TLS_KEY)".into()),
        ("TLS_KEY=k", "", "--tls-key (TLS_KEY) needs --tls-cert (TLS_CERT)".into()),
        ("TLS=auto", "--tls-cert c --tls-key k", "--tls auto (TLS) creates its own certificate: omit --tls-cert (TLS_CERT) and --tls-key (TLS_KEY), or --tls".into()),
        ("", "--allow-origin example.org", format!("--allow-origin (ALLOWED_ORIGINS): \"example.org\": {origin}")),
        ("", "--allow-origin https://a/b", format!("--allow-origin (ALLOWED_ORIGINS): \"https://a/b\": {origin}")),
        ("", "--allow-origin https://", format!("--allow-origin (ALLOWED_ORIGINS): \"https://\": {origin}")),
        ("", "--token-secret hunter2", short("7")),
        ("TOKEN_SECRET=0123456789abcdef0123456789abcde", "", short("31")),
        ("TOKEN_SECRET=x", "--token-secret-file f", "--token-secret (TOKEN_SECRET) and --token-secret-file (TOKEN_SECRET_FILE) exclude each other: omit one".into()),
        ("LOG_LEVEL=loud", "", "--log-level (LOG_LEVEL): \"loud\": choose from error, warn, info, debug, trace, off".into()),
        ("MAX_ROOMS=0", "", "--max-rooms (MAX_ROOMS): \"0\": write a whole number from 1 to 1000000".into()),
        ("", "--drain 1.5", "--drain (DRAIN): \"1.5\": write a whole number from 0 to 86400".into()),
        ("", "--drain-url b.org", format!("--drain-url (DRAIN_URL): \"b.org\": {there}")),
        ("", "--drain-url wss://b.org/", format!("--drain-url (DRAIN_URL): \"wss://b.org/\": {there}")),
        ("", "--drain-url https:///a", format!("--drain-url (DRAIN_URL): \"https:///a\": {there}")),
        ("", "--drain-url https://b.org/?a", format!("--drain-url (DRAIN_URL): \"https://b.org/?a\": {there}")),
        ("", "--max-participants x", "--max-participants (MAX_PARTICIPANTS): \"x\": write a whole number from 1 to 1000000".into()),
        ("", "--max-room-size=-5", "--max-room-size (MAX_ROOM_SIZE): \"-5\": write a whole number from 1 to 1000000".into()),
        ("", "--last-n all", "--last-n (LAST_N): \"all\": write a whole number from 0 to 1000000".into()),
        ("", "--chat-history 1001", "--chat-history (CHAT_HISTORY): \"1001\": write a whole number from 0 to 1000".into()),
        ("", "--metrics-allow x", "--metrics-allow (METRICS_ALLOW): \"x\": write an IP address or a network, such as 10.0.0.7 or 10.0.0.0/24".into()),
        ("", "--adr :1", "unexpected argument '--adr' found; did you mean --addr?".into()),
        ("", "-adr :1", "unexpected argument '--adr' found; did you mean --addr?".into()),
        ("", "-x", "unexpected argument '-x' found; --help lists every setting".into()),
        ("", "stray", "unexpected argument 'stray' found; --help lists every setting".into()),
        ("", "--www", "a value is required for '--www <DIR>' but none was supplied; --help lists every setting".into()),
    ] {
        assert_eq!(invalid(variables, line), expected, "{variables} {line}");
    }
}

#[test]
fn a_secret_does_not_appear_in_debug_output_or_help() {
    let secret = "correct horse battery staple, and more";
    let shown = format!("{:?}", Secret::new(secret.as_bytes()).unwrap());
    assert_eq!(shown, "Secret");
    let args = ["aq-server", "--token-secret", secret, "--help"].into_iter().map(OsString::from);
    let variable = |name: &str| (name == "TOKEN_SECRET").then(|| secret.into());
    let Err(ParseError::Asked(help)) = Config::parse(args, variable) else { panic!("no help") };
    assert!(!help.contains("horse"), "{help}");
}

#[test]
fn help_and_version_are_printed_and_are_no_errors() {
    for line in ["-h", "-help", "--help", "--addr :1 --help"] {
        let Err(ParseError::Asked(text)) = read("SERVER_ADDR=:7777", line) else { panic!("{line}") };
        for (flag, variable) in settings(&Flags::command()) {
            assert!(
                text.contains(&flag) && text.contains(&format!("[env: {variable}]")),
                "{flag} is missing in:\n{text}"
            );
        }
        assert!(text.lines().all(|line| line.chars().count() <= 150), "{text}");
    }
    for line in ["-V", "-version", "--version"] {
        let version = format!("aq-server {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(read("", line), Err(ParseError::Asked(version)), "{line}");
    }
}
