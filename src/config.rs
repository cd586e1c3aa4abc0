//! The configuration: flags and environment variables, validated and with defaults filled in.
//!
//! A flag takes precedence over its variable, a variable over the default; an empty variable counts as unset. Long flags
//! also work with one dash (`-addr :9000`), as in Go. This module opens no file and no socket: errors such as a port in
//! use or a missing file appear later, where it is opened.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};
use ipnet::IpNet;
use log::LevelFilter;

const LISTEN: &str = "Listening";
const MEDIA: &str = "Media";
const TLS: &str = "HTTPS";
const PAGE: &str = "Page, access and logs";
const END: &str = "Restart";

/// Largest value of a limit. A higher one is probably a typo; the bound also keeps sums of limits far from overflow.
const MAX_LIMIT: usize = 1_000_000;
/// Largest chat history of a room, in messages. Each participant that joins receives all of them in one burst.
const MAX_CHAT_HISTORY: usize = 1_000;
/// Longest drain in seconds: a day. A higher value is probably a typo.
const MAX_DRAIN: usize = 86_400;
/// Minimum length of a token secret in bytes: the hash length of HS256 (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;
/// State folder if neither systemd, XDG_STATE_HOME nor HOME names one.
const FALLBACK_STATE_DIR: &str = "/var/lib/aq-server";

const EXAMPLES: &str = "\
Each long flag also works with one dash (-addr :9000). A flag wins over its variable.

Examples:
  aq-server                            try it on this machine: open http://localhost:8080
  aq-server --tls auto                 calls with other machines on the same network
  aq-server --addr 127.0.0.1:8080 --media-addr :8080 --public-ip 203.0.113.7
                                       behind nginx on a server with a public address";

/// The server's settings, fixed at start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// TCP address for HTTP and WebSocket. `[::]` means every interface, IPv4 included.
    pub addr: SocketAddr,
    /// Path before every route: empty for the root, or a leading slash and no trailing one.
    pub prefix: String,
    /// UDP address for media. `[::]` as in `addr`.
    pub media_addr: SocketAddr,
    /// Addresses to announce to browsers, in the order given, without duplicates.
    pub public_ips: Vec<PublicIp>,
    /// Video codecs to offer, in order of preference; never empty, without duplicates.
    pub codecs: Vec<VideoCodec>,
    /// Source of the HTTPS certificate, if any.
    pub tls: Tls,
    /// Folder for state that outlives a run. It need not exist.
    pub state_dir: PathBuf,
    /// Origins whose pages may connect; if empty, only the server's own. `*` means any; others are in lower case as
    /// browsers send them (`https://example.org`, no default port, no trailing slash).
    pub allowed_origins: Vec<String>,
    /// Proxies whose X-Forwarded-For is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Secret that signs tokens. Without it and `token_secret_file`, participants need no token.
    pub token_secret: Option<Secret>,
    /// File that holds the secret instead.
    pub token_secret_file: Option<PathBuf>,
    /// Folder whose files replace the embedded page.
    pub www: Option<PathBuf>,
    /// Least severe level that is logged.
    pub log_level: LevelFilter,
    /// How long calls continue after SIGTERM.
    pub drain: Duration,
    /// URL of another server's page, ending in a slash, to which pages move during the drain.
    pub drain_url: Option<String>,
    /// Limits on what clients can make the server allocate.
    pub limits: Limits,
}

/// An address at which the server is reached although no interface has it (port forwarding, cloud NAT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicIp {
    /// The address.
    pub addr: IpAddr,
    /// Whether it is announced in addition to the interface addresses of its family, not instead of them.
    pub beside: bool,
}

/// The secret that signs tokens, at least 32 bytes. `Debug` does not print it, so it never appears in logs and errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A video codec that the server can offer, in one profile each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// VP8.
    Vp8,
    /// H.264, constrained baseline.
    H264,
    /// VP9, profile 0.
    Vp9,
    /// AV1, main profile.
    Av1,
}

/// Source of the HTTPS certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP.
    Off,
    /// PEM files: a certificate chain, leaf first, and its private key.
    Files {
        /// The chain.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// The server's own self-signed certificate, kept in the state folder.
    Auto,
}

/// Limits on what clients can make the server allocate. A higher limit costs memory under attack, a lower one refuses
/// participants. The field comments are the help text.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Rooms at once
    #[arg(long, env, value_name = "N", default_value = "1000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_rooms: usize,
    /// Participants at once, in all rooms
    #[arg(long, env, value_name = "N", default_value = "10000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_participants: usize,
    /// Participants at once in one room
    #[arg(long, env, value_name = "N", default_value = "100", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_room_size: usize,
    /// TCP connections at once
    #[arg(long, env, value_name = "N", default_value = "10000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_conns: usize,
    /// TCP connections at once from one IPv4 address or IPv6 /64
    #[arg(long, env, value_name = "N", default_value = "100", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_conns_per_addr: usize,
    /// Participants at once whose media is still connecting
    #[arg(long, env, value_name = "N", default_value = "1000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_pending: usize,
    /// Media that one participant may publish, in kbit/s
    #[arg(long, env, value_name = "KBPS", default_value = "10000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_publish_kbps: usize,
    /// Media packets a second that one participant may publish
    #[arg(long, env, value_name = "N", default_value = "2000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_publish_packets: usize,
    /// Microphones that are forwarded in a large room: the loudest
    #[arg(long, env, value_name = "N", default_value = "3", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub loudest: usize,
    /// Rooms with more participants than this are large
    #[arg(long, env, value_name = "N", default_value = "6", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub loudest_above: usize,
    /// Participants that one participant receives at once; 0 for no limit
    #[arg(long, env, value_name = "N", default_value = "16", allow_negative_numbers = true, value_parser = limit(0..=MAX_LIMIT))]
    pub last_n: usize,
    /// Chat messages that a room keeps for newcomers; 0 keeps none
    #[arg(long, env, value_name = "N", default_value = "50", allow_negative_numbers = true, value_parser = limit(0..=MAX_CHAT_HISTORY))]
    pub chat_history: usize,
}

impl Limits {
    /// Returns the maximum number of other participants that one participant receives.
    pub fn seats(&self) -> usize {
        if self.last_n == 0 { usize::MAX } else { self.last_n }
    }

    /// Returns the number of microphones to forward in a room with this many participants, or `None` for all. It is at
    /// most `seats`: a speaker takes the seat of a participant that does not speak.
    pub fn max_audible(&self, participants: usize) -> Option<usize> {
        let is_large = participants > self.loudest_above.min(self.seats().saturating_add(1));
        is_large.then_some(self.loudest.min(self.seats()))
    }
}

/// Why [`Config::parse`] returned no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Text of `--help` or `--version`, for standard output; exit code 0.
    Asked(String),
    /// An error in one line that names the setting, for standard error; exit code 1.
    Invalid(String),
}

impl Config {
    /// Parses the command line, program name first. `variable` looks up an environment variable.
    ///
    /// # Errors
    /// A setting is invalid, or help or the version was requested. The error is the text to print before exit.
    pub fn parse(
        args: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Config, ParseError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let command = Flags::command();
        let mut args: Vec<OsString> = args.map(two_dashes).collect();
        for (flag, name) in settings(&command) {
            let Some(value) = variable(&name) else { continue };
            let given = |arg: &OsString| {
                let arg = arg.as_encoded_bytes().strip_prefix(flag.as_bytes());
                arg.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
            };
            if !args.iter().any(given) {
                let mut arg = OsString::from(flag + "=");
                arg.push(value);
                args.insert(args.len().min(1), arg);
            }
        }
        // Variables are looked up above, where an empty one counts as unset; clap lists them only in its help.
        let matches = command.mut_args(|arg| arg.env(None::<&'static str>)).try_get_matches_from(args);
        let flags = matches.and_then(|matches| Flags::from_arg_matches(&matches)).map_err(ParseError::from)?;
        flags.into_config(variable).map_err(ParseError::Invalid)
    }
}

impl Default for Config {
    /// Returns the configuration for no flags and an empty environment.
    fn default() -> Self {
        Config::parse(std::iter::empty(), |_| None).expect("the defaults are valid, as a test checks")
    }
}

impl Secret {
    /// Creates a secret from bytes.
    ///
    /// # Errors
    /// There are fewer than 32 bytes. The text says how to create a secret and contains none of the bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        match bytes.len() {
            SECRET_BYTES.. => Ok(Self(bytes.to_vec())),
            length => Err(format!(
                "{length} bytes are too short for a secret: {SECRET_BYTES} and more make one (RFC 7518 section 3.2), \
                 as of: openssl rand -base64 32"
            )),
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl VideoCodec {
    /// All codecs, in the default order of preference.
    pub const ALL: [VideoCodec; 4] = [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1];
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            VideoCodec::Vp8 => "vp8",
            VideoCodec::H264 => "h264",
            VideoCodec::Vp9 => "vp9",
            VideoCodec::Av1 => "av1",
        })
    }
}

impl From<clap::Error> for ParseError {
    fn from(error: clap::Error) -> Self {
        let text = |kind| error.get(kind).map(|value| value.to_string()).unwrap_or_default();
        match error.kind() {
            ErrorKind::DisplayHelp => {
                let mut command = Flags::command().mut_args(|arg| arg.hide_env_values(true));
                ParseError::Asked(command.render_help().to_string())
            }
            ErrorKind::DisplayVersion => ParseError::Asked(error.render().to_string()),
            // `InvalidArg` is "--addr <ADDR>", the source is the error of its value parser.
            ErrorKind::ValueValidation => {
                let (arg, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
                let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                ParseError::Invalid(refuse(arg.split_whitespace().next().unwrap_or(&arg), &value, &why))
            }
            _ => {
                let message = error.render().to_string();
                let line = message.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                let hint = match text(ContextKind::SuggestedArg) {
                    similar if similar.is_empty() => "--help lists every setting".to_owned(),
                    similar => format!("did you mean {similar}?"),
                };
                ParseError::Invalid(format!("{line}; {hint}"))
            }
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (ParseError::Asked(text) | ParseError::Invalid(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for ParseError {}

/// The command line as clap parses it. The field comments are the help text.
#[derive(Parser)]
#[command(name = "aq-server", version, about, after_help = EXAMPLES, args_override_self = true)]
struct Flags {
    /// Address of the page and signaling (TCP). ":8080" is every interface, IPv4 and IPv6;
    /// "0.0.0.0:8080" is every IPv4 interface; port 0 is any free port
    #[arg(long, env = "SERVER_ADDR", default_value = ":8080", value_parser = parse_addr)]
    #[arg(help_heading = LISTEN, verbatim_doc_comment)]
    addr: SocketAddr,
    /// Path in front of every route; "/" for none
    #[arg(long, env = "PATH_PREFIX", value_name = "PATH", default_value = "/aq_server")]
    #[arg(value_parser = parse_prefix, help_heading = LISTEN)]
    prefix: String,
    /// Address of media (UDP), in the form of --addr. Required behind a proxy, where --addr is
    /// 127.0.0.1: media does not go through the proxy [default: --addr]
    #[arg(long, env, value_name = "ADDR", value_parser = parse_addr)]
    #[arg(help_heading = MEDIA, verbatim_doc_comment)]
    media_addr: Option<SocketAddr>,
    /// Address at which clients reach this machine if no interface has it: announced instead of the
    /// interface addresses of its family (IPv4 or IPv6), or with a plus sign (+203.0.113.7) beside
    /// them. Repeatable, or a comma list
    #[arg(long = "public-ip", env = "PUBLIC_IP", value_name = "[+]IP", value_parser = parse_public_ip)]
    #[arg(value_delimiter = ',', help_heading = MEDIA, verbatim_doc_comment)]
    public_ips: Vec<PublicIp>,
    /// Video codecs in the order of preference
    #[arg(long, env, value_name = "LIST", default_value = "vp8,h264,vp9,av1", value_parser = parse_codec)]
    #[arg(value_delimiter = ',', help_heading = MEDIA)]
    codecs: Vec<VideoCodec>,
    /// "auto": HTTPS with a certificate for this machine's names and addresses, created on the first
    /// run and kept in --state-dir. "off": plain HTTP, even if certificate files are set
    #[arg(long, env, value_name = "auto|off", value_parser = parse_tls, help_heading = TLS)]
    #[arg(verbatim_doc_comment)]
    tls: Option<Tls>,
    /// HTTPS with this certificate chain: a PEM file, leaf first
    #[arg(long, env, value_name = "FILE", help_heading = TLS)]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert: a PEM file
    #[arg(long, env, value_name = "FILE", help_heading = TLS)]
    tls_key: Option<PathBuf>,
    /// Folder for the certificate of --tls auto [default: systemd's $STATE_DIRECTORY, else
    /// $XDG_STATE_HOME/aq-server, else ~/.local/state/aq-server]
    #[arg(long, env, value_name = "DIR", help_heading = TLS, verbatim_doc_comment)]
    state_dir: Option<PathBuf>,
    /// Origin whose pages may connect (https://example.org), or * for any. Without it only the server's
    /// own page may connect, with it only the origins in the list. Repeatable, or a comma list
    #[arg(long = "allow-origin", env = "ALLOWED_ORIGINS", value_name = "ORIGIN", value_parser = parse_origin)]
    #[arg(value_delimiter = ',', help_heading = PAGE, verbatim_doc_comment)]
    allowed_origins: Vec<String>,
    /// Reverse proxies, as addresses or networks (10.0.0.0/24). The address of a client comes from their
    /// X-Forwarded-For; limits by network do not apply to requests without that header. A request
    /// from these addresses is believed. Repeatable, or a comma list
    #[arg(long, env, value_name = "IP[/BITS]", default_value = "127.0.0.0/8,::1", value_parser = parse_network)]
    #[arg(value_delimiter = ',', help_heading = PAGE, verbatim_doc_comment)]
    trusted_proxies: Vec<IpNet>,
    /// Admits only participants with a token that is signed with this secret of at least 32 bytes
    /// (docs/hosting.md). Flags are visible to others on this machine (ps); files are not
    #[arg(long, env, value_name = "SECRET", help_heading = PAGE, verbatim_doc_comment)]
    token_secret: Option<String>,
    /// File with the secret for tokens; a line break at its end is ignored
    #[arg(long, env, value_name = "FILE", help_heading = PAGE)]
    token_secret_file: Option<PathBuf>,
    /// Folder with a page of your own, served instead of the built-in page; changes apply at once
    #[arg(long, env = "WWW_DIR", value_name = "DIR", help_heading = PAGE)]
    www: Option<PathBuf>,
    /// Least severe level to log: error, warn, info, debug, trace, or off
    #[arg(long, env, value_name = "LEVEL", default_value = "info", value_parser = parse_log_level)]
    #[arg(help_heading = PAGE)]
    log_level: LevelFilter,
    /// Seconds for which calls continue after SIGTERM; new participants are refused meanwhile. A second
    /// SIGTERM ends the process at once
    #[arg(long, env, value_name = "SECONDS", default_value = "3", allow_negative_numbers = true)]
    #[arg(value_parser = limit(0..=MAX_DRAIN), help_heading = END, verbatim_doc_comment)]
    drain: usize,
    /// Page of another server to which pages move during the drain; without it they reconnect to this server
    #[arg(long, env, value_name = "URL", value_parser = parse_drain_url, help_heading = END)]
    drain_url: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

impl Flags {
    fn into_config(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Config, String> {
        refuse_doubled("--codecs", &self.codecs, ToString::to_string)?;
        let addrs: Vec<IpAddr> = self.public_ips.iter().map(|public_ip| public_ip.addr).collect();
        refuse_doubled("--public-ip", &addrs, ToString::to_string)?;
        let tls = match (self.tls, self.tls_cert, self.tls_key) {
            (Some(Tls::Auto), None, None) => Tls::Auto,
            (Some(Tls::Auto), _, _) => {
                return Err("--tls auto (TLS) makes its own certificate: leave out --tls-cert (TLS_CERT) and \
                            --tls-key (TLS_KEY), or --tls"
                    .to_owned());
            }
            (Some(_), _, _) | (None, None, None) => Tls::Off,
            (None, Some(cert), Some(key)) => Tls::Files { cert, key },
            (None, Some(_), None) => return Err("--tls-cert (TLS_CERT) needs --tls-key (TLS_KEY)".to_owned()),
            (None, None, Some(_)) => return Err("--tls-key (TLS_KEY) needs --tls-cert (TLS_CERT)".to_owned()),
        };
        let token_secret = match (&self.token_secret, &self.token_secret_file) {
            (Some(_), Some(_)) => {
                return Err("--token-secret (TOKEN_SECRET) and --token-secret-file (TOKEN_SECRET_FILE) say the same: \
                            leave one out"
                    .to_owned());
            }
            (Some(secret), None) => {
                let secret = Secret::new(secret.as_bytes());
                Some(secret.map_err(|why| format!("--token-secret (TOKEN_SECRET): {why}"))?)
            }
            (None, _) => None,
        };
        Ok(Config {
            addr: self.addr,
            prefix: self.prefix,
            media_addr: self.media_addr.unwrap_or(self.addr),
            public_ips: self.public_ips,
            codecs: self.codecs,
            tls,
            state_dir: self.state_dir.unwrap_or_else(|| default_state_dir(variable)),
            allowed_origins: self.allowed_origins,
            trusted_proxies: self.trusted_proxies,
            token_secret,
            token_secret_file: self.token_secret_file,
            www: self.www,
            log_level: self.log_level,
            drain: Duration::from_secs(self.drain as u64),
            drain_url: self.drain_url,
            limits: self.limits,
        })
    }
}

/// Turns `-addr` into `--addr`, because Go's flag package accepts both. `-h` and `-V` stay.
fn two_dashes(arg: OsString) -> OsString {
    match arg.as_encoded_bytes() {
        [b'-', first, _, ..] if first.is_ascii_alphabetic() => {
            let mut long = OsString::from("-");
            long.push(arg);
            long
        }
        _ => arg,
    }
}

/// Returns the pairs of flag, with its dashes, and environment variable.
fn settings(command: &clap::Command) -> Vec<(String, String)> {
    let pair = |arg: &clap::Arg| Some((format!("--{}", arg.get_long()?), arg.get_env()?.to_str()?.to_owned()));
    command.get_arguments().filter_map(pair).collect()
}

/// Returns the error line for an invalid value.
fn refuse(flag: &str, value: &str, why: &str) -> String {
    let settings = settings(&Flags::command());
    let variable = settings.iter().find(|(long, _)| long == flag).map_or("", |(_, variable)| variable);
    format!("{flag} ({variable}): {value:?}: {why}")
}

fn refuse_doubled<T: PartialEq>(flag: &str, values: &[T], show: impl Fn(&T) -> String) -> Result<(), String> {
    let doubled = values.iter().enumerate().find(|(index, value)| values[..*index].contains(value));
    doubled.map_or(Ok(()), |(_, value)| Err(refuse(flag, &show(value), "given twice")))
}

fn limit(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let limit = text.parse().ok().filter(|limit| range.contains(limit));
        limit.ok_or_else(|| format!("write a whole number from {} to {}", range.start(), range.end()))
    }
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
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

fn parse_prefix(text: &str) -> Result<String, String> {
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
        _ => Err("a path of letters, digits and -._~ between slashes, as /conference".to_owned()),
    }
}

fn parse_public_ip(text: &str) -> Result<PublicIp, String> {
    let text = text.trim();
    let (text, beside) = text.strip_prefix('+').map_or((text, false), |text| (text, true));
    let addr = text.parse::<IpAddr>().map_err(|_| "write an IP address, as 203.0.113.7 or +2001:db8::1")?;
    let addr = addr.to_canonical();
    if addr.is_unspecified() || addr.is_multicast() {
        return Err("nobody can reach a machine at this address".to_owned());
    }
    Ok(PublicIp { addr, beside })
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(|addr| IpNet::from(addr.to_canonical())));
    let network = network.map_err(|_| "write an IP address or a network, as 10.0.0.7 or 10.0.0.0/24")?;
    match network.prefix_len() {
        0 => Err("not everybody is a proxy".to_owned()),
        _ => Ok(network),
    }
}

fn parse_codec(text: &str) -> Result<VideoCodec, String> {
    let name = text.trim().to_ascii_lowercase();
    let codec = VideoCodec::ALL.into_iter().find(|codec| codec.to_string() == name);
    codec.ok_or_else(|| format!("not a video codec; choose from {}", VideoCodec::ALL.map(|c| c.to_string()).join(",")))
}

fn parse_tls(text: &str) -> Result<Tls, String> {
    match text {
        "auto" => Ok(Tls::Auto),
        "off" => Ok(Tls::Off),
        _ => Err("choose from auto, off; certificate files go to --tls-cert and --tls-key".to_owned()),
    }
}

/// Parses an origin and normalizes it to the form that browsers send (RFC 6454 section 6.2).
fn parse_origin(text: &str) -> Result<String, String> {
    let origin = text.trim().trim_end_matches('/').to_ascii_lowercase();
    if origin == "*" {
        return Ok(origin);
    }
    let host_port = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match host_port {
        Some(rest) if !rest.is_empty() && rest.bytes().all(plain) => {}
        _ => return Err("write a scheme and a host without path, as https://example.org, or *".to_owned()),
    }
    let default_port = [("http://", ":80"), ("https://", ":443")]
        .into_iter()
        .find_map(|(scheme, port)| origin.strip_suffix(port).filter(|_| origin.starts_with(scheme)));
    Ok(default_port.unwrap_or(&origin).to_owned())
}

/// Parses the URL of another server's page. It gets a trailing slash, because the WebSocket URL is relative to it.
fn parse_drain_url(text: &str) -> Result<String, String> {
    let url = text.trim();
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\<>".contains(&byte);
    let rest = ["https://", "http://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(plain) => {
            Ok(format!("{}/", url.trim_end_matches('/')))
        }
        _ => Err("write the address of a page, as https://b.example.org/aq_server/".to_owned()),
    }
}

fn parse_log_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "choose from error, warn, info, debug, trace, off".to_owned())
}

fn default_state_dir(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    // systemd separates several folders with colons (systemd.exec(5)); the first one is used. A relative
    // XDG_STATE_HOME has to be ignored (XDG Base Directory Specification).
    let systemd = variable("STATE_DIRECTORY").and_then(|dirs| {
        let first = dirs.to_str()?.split(':').next()?;
        Some(PathBuf::from(first))
    });
    let xdg = || variable("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    systemd
        .or_else(|| xdg().or_else(home).map(|dir| dir.join("aq-server")))
        .unwrap_or_else(|| FALLBACK_STATE_DIR.into())
}

#[cfg(test)]
mod tests {
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
        let documented = include_str!("../docs/settings.md");
        let wanted = documented_settings();
        let begin = documented.find("\n## ").unwrap_or(documented.len());
        assert!(documented[begin..] == wanted, "docs/settings.md ends with:\n{wanted}");
    }

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn public(addr: &str, beside: bool) -> PublicIp {
        PublicIp { addr: addr.parse().unwrap(), beside }
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        for line in [
            "--trusted-proxies 10.0.0.7,172.17.0.0/16",
            "--trusted-proxies ::ffff:10.0.0.7 --trusted-proxies 172.17.0.0/16",
        ] {
            assert_eq!(config("", line).trusted_proxies, networks(&["10.0.0.7/32", "172.17.0.0/16"]), "{line}");
        }
        assert!(invalid("", "--trusted-proxies 0.0.0.0/0").contains("not everybody"));
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
            www: None,
            log_level: LevelFilter::Info,
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
        let prefix = "a path of letters, digits and -._~ between slashes, as /conference";
        let there = "write the address of a page, as https://b.example.org/aq_server/";
        let origin = "write a scheme and a host without path, as https://example.org, or *";
        let short = |length| {
            format!(
                "--token-secret (TOKEN_SECRET): {length} bytes are too short for a secret: 32 and more make one \
                 (RFC 7518 section 3.2), as of: openssl rand -base64 32"
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
            ("", "--public-ip 1.2.3", "--public-ip (PUBLIC_IP): \"1.2.3\": write an IP address, as 203.0.113.7 or +2001:db8::1".into()),
            ("PUBLIC_IP=1.2.3.4,::", "", "--public-ip (PUBLIC_IP): \"::\": nobody can reach a machine at this address".into()),
            ("", "--public-ip 1.2.3.4,+1.2.3.4", "--public-ip (PUBLIC_IP): \"1.2.3.4\": given twice".into()),
            ("", "--codecs vp8,h265", format!("--codecs (CODECS): \"h265\": {codecs}")),
            ("", "--codecs vp8,", format!("--codecs (CODECS): \"\": {codecs}")),
            ("CODECS=vp8,av1,vp8", "", "--codecs (CODECS): \"vp8\": given twice".into()),
            ("", "--tls on", "--tls (TLS): \"on\": choose from auto, off; certificate files go to --tls-cert and --tls-key".into()),
            ("", "--tls-cert c", "--tls-cert (TLS_CERT) needs --tls-key (TLS_KEY)".into()),
            ("TLS_KEY=k", "", "--tls-key (TLS_KEY) needs --tls-cert (TLS_CERT)".into()),
            ("TLS=auto", "--tls-cert c --tls-key k", "--tls auto (TLS) makes its own certificate: leave out --tls-cert (TLS_CERT) and --tls-key (TLS_KEY), or --tls".into()),
            ("", "--allow-origin example.org", format!("--allow-origin (ALLOWED_ORIGINS): \"example.org\": {origin}")),
            ("", "--allow-origin https://a/b", format!("--allow-origin (ALLOWED_ORIGINS): \"https://a/b\": {origin}")),
            ("", "--allow-origin https://", format!("--allow-origin (ALLOWED_ORIGINS): \"https://\": {origin}")),
            ("", "--token-secret hunter2", short("7")),
            ("TOKEN_SECRET=0123456789abcdef0123456789abcde", "", short("31")),
            ("TOKEN_SECRET=x", "--token-secret-file f", "--token-secret (TOKEN_SECRET) and --token-secret-file (TOKEN_SECRET_FILE) say the same: leave one out".into()),
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
}
