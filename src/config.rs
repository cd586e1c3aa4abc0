//! The configuration: command line and environment, checked. Flags win over the environment.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use log::LevelFilter;

/// Everything that a host can set.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "aq-server",
    version,
    max_term_width = 100,
    about = "A video-conference server with chat: start it and open the URL that it prints in two browsers",
    long_about = None
)]
pub struct Config {
    /// Address of HTTP and WebSocket; `:PORT` means all interfaces
    #[arg(long, env = "SERVER_ADDR", default_value = ":8080", value_name = "HOST:PORT", value_parser = parse_addr)]
    pub addr: SocketAddr,

    /// Path below which everything is served
    #[arg(long, env = "PATH_PREFIX", default_value = "/aq_server", value_name = "PATH", value_parser = parse_prefix)]
    pub prefix: String,

    /// Address of UDP media [default: host and port of --addr]
    #[arg(long = "media-addr", env = "MEDIA_ADDR", value_name = "HOST:PORT", value_parser = parse_addr)]
    media: Option<SocketAddr>,

    /// Address that clients reach this machine at, announced instead of the interfaces' addresses of its family;
    /// with a leading `+` beside them. May repeat
    #[arg(long = "public-ip", env = "PUBLIC_IP", value_name = "[+]IP", value_delimiter = ',')]
    pub public_ips: Vec<PublicIp>,

    /// Web origin whose pages may use this server, as `https://example.org`; `*` for all. Default: the server's
    /// own pages only. May repeat
    #[arg(long = "allow-origin", env = "ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',',
        value_parser = parse_origin)]
    pub allow_origins: Vec<String>,

    /// Video codecs in the order of preference
    #[arg(long, env = "CODECS", default_value = "vp8,h264,vp9,av1", value_name = "LIST", value_delimiter = ',')]
    pub codecs: Vec<VideoCodec>,

    /// How much is logged: off, error, warn, info, debug or trace
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: LevelFilter,

    /// Serve the page from this folder instead of the binary; changes show at once
    #[arg(long = "www", env = "WWW_DIR", value_name = "DIR")]
    pub www: Option<PathBuf>,

    #[command(flatten)]
    tls_flags: TlsFlags,

    /// Folder for what outlives a restart: the certificate of `--tls auto` [default: $STATE_DIRECTORY, else
    /// $XDG_STATE_HOME/aq-server, else ~/.local/state/aq-server]
    #[arg(long = "state-dir", env = "STATE_DIR", value_name = "DIR")]
    state: Option<PathBuf>,

    /// The folder for state, as it was found.
    #[arg(skip)]
    pub state_dir: PathBuf,

    /// What is allowed.
    #[command(flatten)]
    pub limits: Limits,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
struct TlsFlags {
    /// `auto` makes a certificate for this machine's names and addresses: browsers give no camera to plain http
    /// pages from other machines
    #[arg(id = "tls", long = "tls", env = "TLS", default_value = "off", value_name = "off|auto")]
    mode: TlsMode,

    /// Certificate chain, PEM
    #[arg(long = "tls-cert", env = "TLS_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long = "tls-key", env = "TLS_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// What is allowed; above it people are refused with a clear error, and nobody else is disturbed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Rooms
    #[arg(long, env = "MAX_ROOMS", default_value_t = 1_000, value_name = "N", allow_negative_numbers = true)]
    pub max_rooms: usize,

    /// Participants in all rooms together
    #[arg(long, env = "MAX_PARTICIPANTS", default_value_t = 10_000, value_name = "N", allow_negative_numbers = true)]
    pub max_participants: usize,

    /// Participants in one room
    #[arg(long, env = "MAX_ROOM_SIZE", default_value_t = 100, value_name = "N", allow_negative_numbers = true)]
    pub max_room_size: usize,

    /// TCP connections
    #[arg(long, env = "MAX_CONNS", default_value_t = 10_000, value_name = "N", allow_negative_numbers = true)]
    pub max_conns: usize,

    /// TCP connections from one address; loopback, where proxies are, is free
    #[arg(long, env = "MAX_CONNS_PER_ADDR", default_value_t = 100, value_name = "N", allow_negative_numbers = true)]
    pub max_conns_per_addr: usize,

    /// Participants whose media is still connecting
    #[arg(long, env = "MAX_PENDING", default_value_t = 1_000, value_name = "N", allow_negative_numbers = true)]
    pub max_pending: usize,

    /// Chat lines that greet a newcomer
    #[arg(long, env = "CHAT_HISTORY", default_value_t = 50, value_name = "N", allow_negative_numbers = true)]
    pub chat_history: usize,
}

/// An address to announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicIp {
    /// The address.
    pub addr: IpAddr,
    /// Beside the interfaces' addresses, not instead of them.
    pub beside: bool,
}

/// A video codec, in the one profile that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where HTTPS comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP, or a proxy in front.
    Off,
    /// A certificate of the host's.
    Files {
        /// PEM chain.
        cert: PathBuf,
        /// PEM key.
        key: PathBuf,
    },
    /// A certificate made on first run.
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsMode {
    Off,
    Auto,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// Serve.
    Run(Box<Config>),
    /// Print this and end well: help or version.
    Say(String),
}

impl Config {
    /// Reads the command line (with the program's name first) and the environment, through a function that looks
    /// a variable up. A variable that is empty counts as not set.
    ///
    /// # Errors
    /// One line that names the setting and what it takes.
    pub fn parse(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Parsed, String> {
        let command = Self::command();
        let mut from_env = Vec::new();
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            // Given to the parser as a flag in front of the others, so that an empty variable is one not set.
            let value = arg.get_env().and_then(|name| env(&name.to_string_lossy()));
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let mut flag = OsString::from(format!("--{long}="));
                flag.push(value);
                from_env.push((long.to_owned(), flag));
            }
        }
        let mut args = args.into_iter();
        let program = args.next();
        let given: Vec<OsString> = args.map(go_style).collect();
        let is_given = |long: &str| {
            let flag = format!("--{long}");
            let same = |arg: &OsStr| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(&flag));
            given.iter().any(|arg| same(arg))
        };
        from_env.retain(|(long, _)| !is_given(long));
        let from_env = from_env.into_iter().map(|(_, flag)| flag);
        let all = program.into_iter().chain(from_env).chain(given.iter().cloned());
        let command = command.mut_args(|arg| {
            let Some(env) = arg.get_env().map(|env| env.to_string_lossy().into_owned()) else {
                return arg;
            };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            arg.env(None::<&str>).help(format!("{help} [env: {env}]"))
        });
        let matches = match command.try_get_matches_from(all) {
            Ok(matches) => matches,
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                return Ok(Parsed::Say(error.to_string()));
            }
            Err(error) => return Err(one_line(&error)),
        };
        let mut config = Self::from_arg_matches(&matches).map_err(|error| one_line(&error))?;
        config.check()?;
        let folder = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let found = config.state.clone().or_else(|| folder("STATE_DIRECTORY"));
        let found = found.or_else(|| Some(folder("XDG_STATE_HOME")?.join("aq-server")));
        let found = found.or_else(|| Some(folder("HOME")?.join(".local/state/aq-server")));
        config.state_dir = found.unwrap_or_else(|| PathBuf::from("aq-server-state"));
        Ok(Parsed::Run(Box::new(config)))
    }

    /// The address of the media socket; port 0 with `--addr` on port 0: the same, once it is known.
    pub fn media_addr(&self) -> SocketAddr {
        self.media.unwrap_or(self.addr)
    }

    /// Where HTTPS comes from.
    pub fn tls(&self) -> Tls {
        match (&self.tls_flags.cert, &self.tls_flags.key, self.tls_flags.mode) {
            (Some(cert), Some(key), _) => Tls::Files { cert: cert.clone(), key: key.clone() },
            (_, _, TlsMode::Auto) => Tls::Auto,
            _ => Tls::Off,
        }
    }

    fn check(&self) -> Result<(), String> {
        for (index, codec) in self.codecs.iter().enumerate() {
            if self.codecs[..index].contains(codec) {
                return Err(format!("--codecs (CODECS): {codec:?} stands there twice"));
            }
        }
        let limits = &self.limits;
        for (name, value) in [
            ("--max-rooms (MAX_ROOMS)", limits.max_rooms),
            ("--max-participants (MAX_PARTICIPANTS)", limits.max_participants),
            ("--max-room-size (MAX_ROOM_SIZE)", limits.max_room_size),
            ("--max-conns (MAX_CONNS)", limits.max_conns),
            ("--max-conns-per-addr (MAX_CONNS_PER_ADDR)", limits.max_conns_per_addr),
            ("--max-pending (MAX_PENDING)", limits.max_pending),
        ] {
            if value == 0 {
                return Err(format!("{name}: 0 would let nobody in; the least is 1"));
            }
        }
        if self.tls_flags.cert.is_some() && self.tls_flags.mode == TlsMode::Auto {
            return Err("--tls (TLS): auto makes a certificate, --tls-cert names one; choose".to_owned());
        }
        Ok(())
    }
}

impl Default for Config {
    /// The defaults, whatever the environment says.
    fn default() -> Self {
        let parsed = Self::parse(["aq-server".into()], |_| None);
        match parsed {
            Ok(Parsed::Run(config)) => *config,
            _ => unreachable!("a test holds that the defaults are valid"),
        }
    }
}

impl std::str::FromStr for PublicIp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, beside) = match text.trim().strip_prefix('+') {
            Some(addr) => (addr, true),
            None => (text.trim(), false),
        };
        let addr: IpAddr = addr.parse().map_err(|_| "an IP address is expected, like 203.0.113.7".to_owned())?;
        if addr.is_unspecified() || addr.is_multicast() {
            return Err("clients can't send to this address".to_owned());
        }
        Ok(Self { addr, beside })
    }
}

impl ValueEnum for VideoCodec {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Vp8, Self::H264, Self::Vp9, Self::Av1]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Vp8 => "vp8",
            Self::H264 => "h264",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
        }))
    }
}

/// `-addr` as in Go's flag package becomes `--addr`; `-h`, `-V` and negative numbers stay.
fn go_style(arg: OsString) -> OsString {
    let is_long = |rest: &&str| rest.len() > 1 && rest.starts_with(|c: char| c.is_ascii_alphabetic());
    match arg.to_str().and_then(|text| text.strip_prefix('-')).filter(is_long) {
        Some(rest) => OsString::from(format!("--{rest}")),
        None => arg,
    }
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let expected = "an IP address and a port are expected, like :8080, 127.0.0.1:8080 or [::1]:8080";
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| expected.to_owned())?;
        return Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        let port: u16 = port.parse().map_err(|_| expected.to_owned())?;
        return Ok(([127, 0, 0, 1], port).into());
    }
    text.parse().map_err(|_| expected.to_owned())
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let dots = |part: &str| matches!(part, "" | "." | "..");
    if prefix.is_empty() {
        return Ok(String::new());
    }
    if !prefix.chars().all(is_plain) || prefix.split('/').any(dots) {
        return Err("a path of letters, digits, - . _ ~ is expected, like /aq_server".to_owned());
    }
    Ok(format!("/{prefix}"))
}

fn parse_origin(text: &str) -> Result<String, String> {
    let origin = text.trim().trim_end_matches('/');
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    if origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', ' '])) {
        Ok(origin.to_owned())
    } else {
        Err("an origin is expected, like https://example.org or http://localhost:3000, or *".to_owned())
    }
}

/// What the parser says, as one line that names flag and variable.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg);
    let long = flag.as_deref().and_then(|flag| flag.strip_prefix("--")).map(|flag| {
        let end = flag.find([' ', '=', '<']).unwrap_or(flag.len());
        flag[..end].to_owned()
    });
    let command = Config::command();
    let env = long
        .as_deref()
        .and_then(|long| command.get_arguments().find(|arg| arg.get_long() == Some(long))?.get_env())
        .map(|env| format!(" ({})", env.to_string_lossy()))
        .unwrap_or_default();
    let name = long.map_or_else(|| flag.unwrap_or_default(), |long| format!("--{long}"));
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let why = std::error::Error::source(error).map(ToString::to_string);
    let text = match (error.kind(), why) {
        (ErrorKind::UnknownArgument, _) => match context(ContextKind::SuggestedArg) {
            Some(near) => format!("there is no setting {name}; did you mean {near}?"),
            None => format!("there is no setting {name}"),
        },
        (ErrorKind::MissingRequiredArgument, _) => {
            "--tls-cert (TLS_CERT) and --tls-key (TLS_KEY) are needed together".to_owned()
        }
        (ErrorKind::InvalidValue, _) if value.is_empty() => format!("{name}{env} needs a value"),
        (_, Some(why)) => format!("{name}{env} {value}: {why}"),
        (ErrorKind::InvalidValue, None) => {
            let valid = context(ContextKind::ValidValue).unwrap_or_default();
            format!("{name}{env} {value}: one of {valid} is expected")
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or("the command line can't be read");
            first.trim_start_matches("error: ").to_owned()
        }
    };
    format!("{text}; --help lists all settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
        let args = std::iter::once("aq-server").chain(args.iter().copied()).map(OsString::from);
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        match Config::parse(args, env)? {
            Parsed::Run(config) => Ok(*config),
            Parsed::Say(text) => panic!("said: {text}"),
        }
    }

    #[test]
    fn defaults() {
        let config = Config::default();
        assert_eq!(config.addr, "[::]:8080".parse().unwrap());
        assert_eq!(config.media_addr(), config.addr);
        assert_eq!(config.prefix, "/aq_server");
        assert_eq!(config.tls(), Tls::Off);
        assert_eq!(config.codecs, [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1]);
        Config::command().debug_assert();
    }

    #[test]
    fn flags_win_and_come_in_all_styles() {
        let addr = |args: &[&str], env: &[(&str, &str)]| parse(args, env).unwrap().addr.port();
        assert_eq!(addr(&["-addr", ":9000"], &[]), 9000);
        assert_eq!(addr(&["-addr=:9000"], &[]), 9000);
        assert_eq!(addr(&["--addr=127.0.0.1:9000"], &[]), 9000);
        assert_eq!(addr(&["--addr", "localhost:9000"], &[("SERVER_ADDR", ":1")]), 9000);
        assert_eq!(addr(&[], &[("SERVER_ADDR", ":9001")]), 9001);
        assert_eq!(addr(&[], &[("SERVER_ADDR", "")]), 8080);
        let config = parse(
            &["-public-ip", "203.0.113.7", "-public-ip=+2001:db8::1", "-codecs", "av1,vp8"],
            &[("ALLOWED_ORIGINS", "https://a.example, http://b.example:3000/"), ("PATH_PREFIX", "/")],
        )
        .unwrap();
        assert_eq!(config.public_ips.len(), 2);
        assert!(!config.public_ips[0].beside && config.public_ips[1].beside);
        assert_eq!(config.codecs, [VideoCodec::Av1, VideoCodec::Vp8]);
        assert_eq!(config.allow_origins, ["https://a.example", "http://b.example:3000"]);
        assert_eq!(config.prefix, "");
        assert_eq!(parse(&["--prefix", "a/b/"], &[]).unwrap().prefix, "/a/b");
    }

    #[test]
    fn bad_values_are_one_line_that_names_the_setting() {
        for (args, env, names) in [
            (&["--addr", "nowhere"][..], &[][..], "--addr (SERVER_ADDR) nowhere"),
            (&["-addr", ":99999"], &[], "--addr (SERVER_ADDR) :99999"),
            (&[], &[("SERVER_ADDR", "x")], "--addr (SERVER_ADDR) x"),
            (&["--addr"], &[], "--addr (SERVER_ADDR)"),
            (&["--prefix", "/a/../b"], &[], "--prefix (PATH_PREFIX) /a/../b"),
            (&["--media-addr", "1"], &[], "--media-addr (MEDIA_ADDR) 1"),
            (&["--public-ip", "example.org"], &[], "--public-ip (PUBLIC_IP) example.org"),
            (&["--public-ip", "0.0.0.0"], &[], "--public-ip (PUBLIC_IP) 0.0.0.0"),
            (&["--allow-origin", "example.org"], &[], "--allow-origin (ALLOWED_ORIGINS) example.org"),
            (&["--codecs", "vp8,h265"], &[], "--codecs (CODECS) h265: one of vp8, h264, vp9, av1"),
            (&["--codecs", "vp8,vp8"], &[], "--codecs (CODECS): Vp8 stands there twice"),
            (&["--log-level", "loud"], &[], "--log-level (LOG_LEVEL) loud"),
            (&["--tls", "on"], &[], "--tls (TLS) on: one of off, auto"),
            (&["--tls-cert", "a.pem"], &[], "--tls-cert (TLS_CERT) and --tls-key (TLS_KEY)"),
            (&["--tls", "auto", "--tls-cert", "a", "--tls-key", "b"], &[], "--tls (TLS)"),
            (&["--max-rooms", "-1"], &[], "--max-rooms (MAX_ROOMS) -1"),
            (&["--max-rooms", "many"], &[], "--max-rooms (MAX_ROOMS) many"),
            (&["--max-rooms", "0"], &[], "--max-rooms (MAX_ROOMS)"),
            (&["-adr", ":1"], &[], "--adr; did you mean --addr?"),
            (&["surplus"], &[], "surplus"),
        ] {
            let error = parse(args, env).expect_err(names);
            assert!(error.contains(names), "{args:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn help_and_version_are_said() {
        for (flag, expected) in [
            ("--help", "--public-ip"),
            ("-help", "SERVER_ADDR"),
            ("-h", "--tls"),
            ("--version", env!("CARGO_PKG_VERSION")),
            ("-V", "aq-server"),
            ("-version", "aq-server"),
        ] {
            match Config::parse(["aq-server".into(), flag.into()], |_| None) {
                Ok(Parsed::Say(text)) => assert!(text.contains(expected), "{flag}: {text}"),
                other => panic!("{flag}: {other:?}"),
            }
        }
    }
}
