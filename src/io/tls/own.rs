//! The certificate of `--tls auto`: made by the server and kept in the state folder as `key.pem` and `cert.pem`.
//!
//! The text before the PEM block of `cert.pem` states the expiry and the names covered (allowed by RFC 7468 section
//! 5.2), so that no X.509 has to be parsed and no third file can contradict it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};

use super::acceptor::{TlsAcceptor, TlsError, parse_chain, parse_key};
use crate::io::interfaces::LanNames;

/// Validity of a certificate of `--tls auto`. Higher is refused by Apple's clients (above 825 days, and above 398 days
/// from public authorities); lower asks users to trust a new one sooner.
pub(super) const VALIDITY: Duration = Duration::from_secs(397 * 24 * 3600);

/// Remaining validity at which a certificate of `--tls auto` is replaced. Higher wastes more of a certificate that
/// users have already trusted; lower gives them less time to trust the next.
pub(super) const RENEWAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far a certificate of `--tls auto` starts in the past, for devices whose clocks are slow.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

pub(super) const CERT_FILE: &str = "cert.pem";
pub(super) const KEY_FILE: &str = "key.pem";
const NOT_AFTER: &str = "Not after: ";
const NAME: &str = "Name: ";

impl TlsAcceptor {
    /// Returns true for a certificate of `--tls auto` that has to be replaced.
    pub fn expires_soon(&self, wall: SystemTime) -> bool {
        self.own.as_ref().is_some_and(|(not_after, _)| *not_after < wall + RENEWAL)
    }

    /// Loads the certificate in `state_dir` if it is still good for `names`, else makes a new one.
    ///
    /// # Errors
    /// Returns one line for the user, which names the setting to change.
    pub fn auto(wall: SystemTime, names: &LanNames, state_dir: &Path) -> Result<TlsAcceptor, TlsError> {
        if let Some(acceptor) = TlsAcceptor::kept(wall, names, state_dir) {
            return Ok(acceptor);
        }
        let setting = "--state-dir (STATE_DIR), for --tls auto,";
        let own = OwnCertificate::make(wall, names)
            .map_err(|error| TlsError(format!("--tls auto (TLS): cannot make a certificate: {error}")))?;
        // The folder will hold a private key: create it with access for the owner only.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
        made.map_err(|error| TlsError::file(setting, state_dir, error))?;
        // The key is written first. A crash between the two leaves a pair that does not match, which the next start
        // replaces.
        for (name, pem, mode) in [(KEY_FILE, &own.key, 0o600), (CERT_FILE, &own.cert, 0o644)] {
            let path = state_dir.join(name);
            write_atomically(&path, pem, mode).map_err(|error| TlsError::file(setting, &path, error))?;
        }
        let invalid = |error: String| TlsError(format!("--tls auto (TLS): the new certificate is invalid: {error}"));
        let (chain, key) = (parse_chain(own.cert.as_bytes()), parse_key(own.key.as_bytes()));
        let acceptor = TlsAcceptor::new(chain.map_err(invalid)?, key.map_err(invalid)?)
            .map_err(|error| invalid(error.to_string()))?;
        Ok(acceptor.with_header(own.cert.as_bytes()))
    }

    /// Loads the certificate in `state_dir`. Returns `None`, so that it is replaced, if the pair is missing or damaged,
    /// expires soon or lacks a name.
    fn kept(wall: SystemTime, names: &LanNames, state_dir: &Path) -> Option<TlsAcceptor> {
        let cert = fs::read(state_dir.join(CERT_FILE)).ok()?;
        let (not_after, covered) = parse_header(&cert)?;
        let needed = names.certificate_names();
        // A missing IPv6 address does not justify asking all users to trust a new certificate: temporary addresses (RFC
        // 8981) change daily, and users do not type them.
        let optional = |name: &String| name.parse::<Ipv6Addr>().is_ok();
        let covers = needed.iter().all(|name| covered.contains(&name.as_str()) || optional(name));
        if !covers || not_after < wall + RENEWAL {
            return None;
        }
        let key = fs::read(state_dir.join(KEY_FILE)).ok()?;
        let acceptor = TlsAcceptor::new(parse_chain(&cert).ok()?, parse_key(&key).ok()?).ok()?;
        Some(acceptor.with_header(&cert))
    }

    /// Sets the expiry and the names from the text before the certificate.
    fn with_header(mut self, cert: &[u8]) -> TlsAcceptor {
        self.own = parse_header(cert)
            .map(|(not_after, names)| (not_after, names.into_iter().map(ToOwned::to_owned).collect()));
        self
    }
}

/// A self-signed certificate and its key, as the text of their files.
pub(super) struct OwnCertificate {
    pub(super) cert: String,
    pub(super) key: String,
}

impl OwnCertificate {
    pub(super) fn make(wall: SystemTime, names: &LanNames) -> Result<OwnCertificate, rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let covered = names.certificate_names();
        // X.509 has whole seconds. A clock before 1970 counts as 1970.
        let now = Duration::from_secs(wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let not_before = now.saturating_sub(CLOCK_SKEW);
        let not_after = not_before + VALIDITY;

        let mut params = CertificateParams::new(covered.clone())?;
        let host_name = names.host_name.as_deref().unwrap_or("localhost");
        // 64 characters is the longest common name (RFC 5280 appendix A.1).
        let common_name = format!("AQ Server on {host_name}").chars().take(64).collect::<String>();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(1970, 1, 1) + not_before;
        params.not_after = date_time_ymd(1970, 1, 1) + not_after;

        let mut cert = "Made by aq-server --tls auto. Delete this file to get a new one.\n".to_owned();
        // Writing to a string cannot fail.
        let _ = writeln!(cert, "{NOT_AFTER}{}", not_after.as_secs());
        for name in &covered {
            let _ = writeln!(cert, "{NAME}{name}");
        }
        cert += &params.self_signed(&key)?.pem();
        Ok(OwnCertificate { cert, key: key.serialize_pem() })
    }
}

/// Parses the expiry and the names that [`OwnCertificate::make`] wrote before the certificate.
pub(super) fn parse_header(cert: &[u8]) -> Option<(SystemTime, Vec<&str>)> {
    let text = std::str::from_utf8(cert).ok()?;
    let header = || text.lines().take_while(|line| !line.starts_with("-----"));
    let not_after = header().find_map(|line| line.strip_prefix(NOT_AFTER))?.parse().ok()?;
    let not_after = UNIX_EPOCH.checked_add(Duration::from_secs(not_after))?;
    Some((not_after, header().filter_map(|line| line.strip_prefix(NAME)).collect()))
}

/// Replaces `path` atomically: a crash leaves the old file or the new one, and the key is never readable to others.
fn write_atomically(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // The process id keeps two servers that share the folder from writing the same file.
    let temporary = path.with_extension(format!("{}.tmp", process::id()));
    let written = (|| {
        // Remove a leftover of a crashed process with the same id, which would keep its own mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
