//! The command line and the environment, as clap parses them.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser};
use ipnet::IpNet;
use log::LevelFilter;

use super::values::{
    limit, parse_addr, parse_codec, parse_drain_url, parse_log_level, parse_network, parse_origin, parse_prefix,
    parse_proxies, parse_public_ip, parse_tls,
};
use super::{Config, Limits, ParseError, PublicIp, Secret, Tls, VideoCodec};

const LISTEN: &str = "Listening";
const MEDIA: &str = "Media";
const TLS: &str = "HTTPS";
const PAGE: &str = "Page, access and logs";
const MONITORING: &str = "Monitoring";
const RESTART: &str = "Restart";

/// Longest drain in seconds: a day. A higher value is probably a typo.
const MAX_DRAIN: usize = 86_400;

/// Longest wait for more datagrams, in milliseconds. A longer one would be heard.
const MAX_GATHER: usize = 10;

/// State folder if neither systemd, XDG_STATE_HOME nor HOME names one.
const FALLBACK_STATE_DIR: &str = "/var/lib/aq-server";

const EXAMPLES: &str = "\
Each long flag also works with one dash (-addr :9000). A flag wins over its variable.

Examples:
  aq-server                            try it on this machine: open http://localhost:8080
  aq-server --tls auto                 calls with other machines on the same network
  aq-server --addr 127.0.0.1:8080 --media-addr :8080 --public-ip 203.0.113.7
                                       behind nginx on a server with a public address";

/// The command line as clap parses it. The field comments are the help text.
#[derive(Parser)]
#[command(name = "aq-server", version, about, after_help = EXAMPLES, args_override_self = true)]
pub(super) struct Flags {
    /// Address of the page and signaling (TCP). ":8080" is every interface, IPv4 and IPv6;
    /// "0.0.0.0:8080" is every IPv4 interface; port 0 is any free port
    #[arg(long, env = "SERVER_ADDR", default_value = ":8080", value_parser = parse_addr)]
    #[arg(help_heading = LISTEN, verbatim_doc_comment)]
    addr: SocketAddr,
    /// Path prefix of every route; "/" for none
    #[arg(long, env = "PATH_PREFIX", value_name = "PATH", default_value = "/aq_server")]
    #[arg(value_parser = parse_prefix, help_heading = LISTEN)]
    prefix: String,
    /// Address for media (UDP), in the form of --addr. Required behind a proxy, where --addr is
    /// 127.0.0.1: media does not pass through the proxy [default: --addr]
    #[arg(long, env, value_name = "ADDR", value_parser = parse_addr)]
    #[arg(help_heading = MEDIA, verbatim_doc_comment)]
    media_addr: Option<SocketAddr>,
    /// Address at which clients reach this machine if no interface has it: announced instead of the
    /// interface addresses of its family (IPv4 or IPv6), or with a plus sign (+203.0.113.7) beside
    /// them. Repeatable, or a comma list
    #[arg(long = "public-ip", env = "PUBLIC_IP", value_name = "[+]IP", value_parser = parse_public_ip)]
    #[arg(value_delimiter = ',', help_heading = MEDIA, verbatim_doc_comment)]
    public_ips: Vec<PublicIp>,
    /// Video codecs, in order of preference
    #[arg(long, env, value_name = "LIST", default_value = "vp8,h264,vp9,av1", value_parser = parse_codec)]
    #[arg(value_delimiter = ',', help_heading = MEDIA)]
    codecs: Vec<VideoCodec>,
    /// Milliseconds for which media waits for more while many datagrams arrive (5 per millisecond): costs that much
    /// delay and saves processor time; 0 for never
    #[arg(long, env, value_name = "MS", default_value = "1", allow_negative_numbers = true)]
    #[arg(value_parser = limit(0..=MAX_GATHER), help_heading = MEDIA, verbatim_doc_comment)]
    gather: usize,
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
    /// Reverse proxies, as addresses or networks (10.0.0.0/24), whose X-Forwarded-For is trusted to name
    /// the client. Limits by network do not apply to their requests without that header. Repeatable, or
    /// a comma list
    #[arg(long, env, value_name = "IP[/BITS]", default_value = "127.0.0.0/8,::1", value_parser = parse_proxies)]
    #[arg(value_delimiter = ',', help_heading = PAGE, verbatim_doc_comment)]
    trusted_proxies: Vec<IpNet>,
    /// Admits only participants with a token that is signed with this secret of at least 32 bytes
    /// (docs/hosting.md). Flags are visible to others on this machine (ps); files are not
    #[arg(long, env, value_name = "SECRET", help_heading = PAGE, verbatim_doc_comment)]
    token_secret: Option<String>,
    /// File with the secret for tokens; a line break at its end is ignored
    #[arg(long, env, value_name = "FILE", help_heading = PAGE)]
    token_secret_file: Option<PathBuf>,
    /// Folder with your own page, served instead of the built-in one; changes apply at once
    #[arg(long, env = "WWW_DIR", value_name = "DIR", help_heading = PAGE)]
    www: Option<PathBuf>,
    /// Least severe level to log: error, warn, info, debug, trace, or off
    #[arg(long, env, value_name = "LEVEL", default_value = "info", value_parser = parse_log_level)]
    #[arg(help_heading = PAGE)]
    log_level: LevelFilter,
    /// Addresses or networks (10.0.0.0/24) that may read {prefix}/metrics, in addition to this machine.
    /// Behind a trusted proxy, both the proxy and its client have to be permitted. Repeatable, or a
    /// comma list
    #[arg(long, env, value_name = "IP[/BITS]", value_parser = parse_network)]
    #[arg(value_delimiter = ',', help_heading = MONITORING, verbatim_doc_comment)]
    metrics_allow: Vec<IpNet>,
    /// File with a token of at least 32 bytes that permits its bearer to read {prefix}/metrics from anywhere and to send
    /// notices to the participants; a line break at its end is ignored
    #[arg(long, env, value_name = "FILE", help_heading = MONITORING, verbatim_doc_comment)]
    admin_token_file: Option<PathBuf>,
    /// Seconds for which calls continue after SIGTERM; new participants are refused meanwhile. A second
    /// SIGTERM ends the process at once
    #[arg(long, env, value_name = "SECONDS", default_value = "3", allow_negative_numbers = true)]
    #[arg(value_parser = limit(0..=MAX_DRAIN), help_heading = RESTART, verbatim_doc_comment)]
    drain: usize,
    /// URL of another server's page, to which pages move during the drain; without it they reconnect here
    #[arg(long, env, value_name = "URL", value_parser = parse_drain_url, help_heading = RESTART)]
    drain_url: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

impl Flags {
    pub(super) fn into_config(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Config, String> {
        refuse_duplicates("--codecs", &self.codecs, ToString::to_string)?;
        let addrs: Vec<IpAddr> = self.public_ips.iter().map(|public_ip| public_ip.addr).collect();
        refuse_duplicates("--public-ip", &addrs, ToString::to_string)?;
        let tls = match (self.tls, self.tls_cert, self.tls_key) {
            (Some(Tls::Auto), None, None) => Tls::Auto,
            (Some(Tls::Auto), _, _) => {
                return Err("--tls auto (TLS) creates its own certificate: omit --tls-cert (TLS_CERT) and \
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
                return Err("--token-secret (TOKEN_SECRET) and --token-secret-file (TOKEN_SECRET_FILE) exclude each \
                            other: omit one"
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
            metrics_allow: self.metrics_allow,
            admin_token: None,
            admin_token_file: self.admin_token_file,
            www: self.www,
            log_level: self.log_level,
            gather: Duration::from_millis(self.gather as u64),
            drain: Duration::from_secs(self.drain as u64),
            drain_url: self.drain_url,
            limits: self.limits,
        })
    }
}

/// Turns `-addr` into `--addr`, because Go's flag package accepts both. `-h` and `-V` stay.
pub(super) fn two_dashes(arg: OsString) -> OsString {
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
pub(super) fn settings(command: &clap::Command) -> Vec<(String, String)> {
    let pair = |arg: &clap::Arg| Some((format!("--{}", arg.get_long()?), arg.get_env()?.to_str()?.to_owned()));
    command.get_arguments().filter_map(pair).collect()
}

/// Returns the error line for an invalid value.
pub(super) fn refuse(flag: &str, value: &str, why: &str) -> String {
    let settings = settings(&Flags::command());
    let variable = settings.iter().find(|(long, _)| long == flag).map_or("", |(_, variable)| variable);
    format!("{flag} ({variable}): {value:?}: {why}")
}

fn refuse_duplicates<T: PartialEq>(flag: &str, values: &[T], show: impl Fn(&T) -> String) -> Result<(), String> {
    let duplicate = values.iter().enumerate().find(|(index, value)| values[..*index].contains(value));
    duplicate.map_or(Ok(()), |(_, value)| Err(refuse(flag, &show(value), "given twice")))
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
