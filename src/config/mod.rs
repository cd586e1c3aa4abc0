//! The configuration: flags and environment variables, validated and with defaults filled in.
//!
//! A flag takes precedence over its variable, a variable over the default; an empty variable counts as unset. Long
//! flags also work with one dash (`-addr :9000`), as in Go. This module opens no file and no socket: errors such as a
//! port in use or a missing file appear later, where it is opened.

mod flags;
mod limits;
mod secret;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use ipnet::IpNet;
use log::LevelFilter;

use flags::{Flags, settings, two_dashes};
pub use limits::Limits;
pub use secret::Secret;

/// The server's settings, fixed at start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// TCP address for HTTP and WebSocket. `[::]` means every interface, IPv4 included.
    pub addr: SocketAddr,
    /// Path before every route: empty for the root, or a leading slash and no trailing one.
    pub prefix: String,
    /// UDP address for media, in the form of `addr`.
    pub media_addr: SocketAddr,
    /// Addresses to announce to browsers, in the order given, without duplicates.
    pub public_ips: Vec<PublicIp>,
    /// Video codecs to offer, in order of preference; never empty, without duplicates.
    pub codecs: Vec<VideoCodec>,
    /// How long a turn waits for more datagrams while they arrive fast.
    pub gather: Duration,
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
    /// File that holds this secret, if it is not given directly.
    pub token_secret_file: Option<PathBuf>,
    /// Networks that may read the metrics, in addition to loopback.
    pub metrics_allow: Vec<IpNet>,
    /// Token that permits its bearer to read the metrics; from `admin_token_file`.
    pub admin_token: Option<Secret>,
    /// File that holds this token.
    pub admin_token_file: Option<PathBuf>,
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
    pub is_additional: bool,
}

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

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (ParseError::Asked(text) | ParseError::Invalid(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for ParseError {}
