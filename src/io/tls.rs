//! TLS: the server's certificate, and the encryption of one connection.
//!
//! Neither rustls nor [`TlsStream`] does I/O: the event loop passes the socket to each call. The certificate comes from
//! PEM files or, with `--tls auto`, is made by the server and kept in the state folder as `key.pem` and `cert.pem`. The
//! text before the PEM block of `cert.pem` states the expiry and the names covered (allowed by RFC 7468 section 5.2),
//! so that no X.509 has to be parsed and no third file can contradict it.

use std::fmt::{self, Write as _};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::io::interfaces::LanNames;

/// Ciphertext read in one call. Higher delays the other sockets of a turn, lower costs turns.
const READ_BOUND_BYTES: usize = 64 * 1024;
/// Plaintext taken in one call: one full TLS record (RFC 8446 section 5.1). Higher hides more bytes from the accounting
/// of queued bytes, lower costs 22 bytes and a system call more often.
const WRITE_BOUND_BYTES: usize = 16 * 1024;
/// Validity of a certificate of `--tls auto`. Higher is refused by Apple's clients (above 825 days, and above 398 days
/// from public authorities); lower asks users to trust a new one sooner.
const VALIDITY: Duration = Duration::from_secs(397 * 24 * 3600);
/// Remaining validity at which a certificate of `--tls auto` is replaced. Higher wastes more of a certificate that
/// users have already trusted; lower gives them less time to trust the next.
const RENEWAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far a certificate of `--tls auto` starts in the past, for devices whose clocks are slow.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

const CERT_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";
const NOT_AFTER: &str = "Not after: ";
const NAME: &str = "Name: ";

/// Certificate, key and settings, shared by all TLS connections.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    certified: Arc<CertifiedKey>,
    fingerprint: String,
    /// For `--tls auto`: expiry, and the names and addresses covered.
    own: Option<(SystemTime, Vec<String>)>,
}

/// Certificates with the names that they cover, chosen by the name that the client asks for (RFC 6066 section 3).
/// The first is the default, also for clients that send an address or no name.
#[derive(Debug)]
struct ByName(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let requested = hello.server_name().unwrap_or_default();
        let covers = |(names, _): &&(Vec<String>, _)| names.iter().any(|name| name.eq_ignore_ascii_case(requested));
        let chosen = self.0.iter().find(covers).or(self.0.first());
        chosen.map(|(_, certified)| Arc::clone(certified))
    }
}

/// Why there is no [`TlsAcceptor`]: one line that names the setting and the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

/// The encryption of one connection.
///
/// To send, call [`flush_tls`](TlsStream::flush_tls); if that wrote everything, call [`write`](TlsStream::write) and
/// flush again, until nothing is taken or the socket is full. To receive, call [`read_tls`](TlsStream::read_tls) and
/// then do the same, since reading queues handshake messages.
pub struct TlsStream {
    conn: ServerConnection,
}

/// The result of [`TlsStream::read_tls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Plaintext appended, in bytes.
    pub bytes: usize,
    /// No more data will follow: the client closed, with `close_notify` or without.
    pub eof: bool,
    /// The limit was reached before the socket was empty: read again without waiting for the poll.
    pub more: bool,
}

impl TlsAcceptor {
    /// Returns the SHA-256 of the certificate in the form that browsers show, `AA:BB:..`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns true if the certificate covers this address. One from files is assumed to cover all.
    pub fn covers(&self, addr: IpAddr) -> bool {
        self.own.as_ref().is_none_or(|(_, names)| names.contains(&addr.to_string()))
    }

    /// Returns this certificate with `others` beside it: a client that asks for a name that only one of them covers is
    /// served that one, the newest if there are several.
    pub fn beside(&self, others: &[TlsAcceptor]) -> TlsAcceptor {
        let all = std::iter::once(self).chain(others.iter().rev());
        let names = |acceptor: &TlsAcceptor| acceptor.own.as_ref().map(|(_, names)| names.clone()).unwrap_or_default();
        let all = all.map(|acceptor| (names(acceptor), Arc::clone(&acceptor.certified))).collect();
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(ByName(all));
        TlsAcceptor { config: Arc::new(config), ..self.clone() }
    }

    /// Returns true for a certificate of `--tls auto` that has to be replaced.
    pub fn ends_soon(&self, wall: SystemTime) -> bool {
        self.own.as_ref().is_some_and(|(not_after, _)| *not_after < wall + RENEWAL)
    }

    /// Loads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// Returns one line for the user, which names the setting to change.
    pub fn from_files(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
        let (cert_setting, key_setting) = ("--tls-cert (TLS_CERT)", "--tls-key (TLS_KEY)");
        let chain =
            parse_chain(&read(cert_setting, cert)?).map_err(|error| TlsError::file(cert_setting, cert, error))?;
        let key_der = parse_key(&read(key_setting, key)?).map_err(|error| TlsError::file(key_setting, key, error))?;
        TlsAcceptor::new(chain, key_der).map_err(|error| {
            TlsError(format!("{cert_setting} {} with {key_setting} {}: {error}", cert.display(), key.display()))
        })
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
    fn with_header(self, cert: &[u8]) -> TlsAcceptor {
        let own = parse_header(cert)
            .map(|(not_after, names)| (not_after, names.into_iter().map(ToOwned::to_owned).collect()));
        TlsAcceptor { own, ..self }
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<TlsAcceptor, rustls::Error> {
        let fingerprint = fingerprint(chain.first().map_or(&[][..], |leaf| leaf));
        let provider = aws_lc_rs::default_provider();
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(vec![(Vec::new(), Arc::clone(&certified))])));
        // WebSocket upgrades need HTTP/1.1 (RFC 6455 section 4.1). A client that offers only h2 gets an alert.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor { config: Arc::new(config), certified, fingerprint, own: None })
    }
}

impl TlsError {
    /// Returns the error for addresses that `--tls auto` cannot list.
    pub fn no_addresses(error: io::Error) -> TlsError {
        TlsError(format!("--tls auto (TLS): cannot list this machine's addresses: {error}"))
    }

    fn file(setting: &str, path: &Path, error: impl fmt::Display) -> TlsError {
        TlsError(format!("{setting} {}: {error}", path.display()))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl TlsStream {
    /// Upper bound of the memory of one connection's TLS: data read, data to write, and rustls itself.
    pub const MAX_BYTES: usize = 2 * (READ_BOUND_BYTES + WRITE_BOUND_BYTES) + 16 * 1024;

    /// Creates the server's end of a connection before the handshake.
    pub fn new(acceptor: &TlsAcceptor) -> TlsStream {
        let conn = ServerConnection::new(Arc::clone(&acceptor.config));
        TlsStream { conn: conn.expect("the acceptor's settings are valid") }
    }

    /// Reads from `sock` until it would block, ends, or has given 64 KiB, and appends the decrypted bytes to
    /// `plaintext`. Flush afterwards: reading queues handshake messages and alerts.
    ///
    /// # Errors
    /// Returns `InvalidData` if the client violated the protocol; the alert is queued, so flush and close. Other errors
    /// are the socket's; close.
    pub fn read_tls(&mut self, sock: &mut impl Read, plaintext: &mut Vec<u8>) -> io::Result<ReadOutcome> {
        let start = plaintext.len();
        let outcome = |plaintext: &Vec<u8>, eof, more| ReadOutcome { bytes: plaintext.len() - start, eof, more };
        let mut taken = 0;
        while taken < READ_BOUND_BYTES {
            match self.conn.read_tls(sock) {
                // End of the stream, or close_notify was received before.
                Ok(0) => return Ok(outcome(plaintext, true, false)),
                Ok(bytes) => taken += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(outcome(plaintext, false, false)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let state = self.conn.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Drained after each read: rustls refuses to read while it holds 16 KiB of plaintext.
            let ready = state.plaintext_bytes_to_read() as u64;
            self.conn.reader().take(ready).read_to_end(plaintext)?;
        }
        Ok(outcome(plaintext, false, true))
    }

    /// Takes up to 16 KiB of `plaintext` and returns the number of bytes taken. Takes nothing during the handshake and
    /// while ciphertext waits to be flushed, so that bytes queue where they are accounted for.
    pub fn write(&mut self, plaintext: &[u8]) -> usize {
        if self.is_handshaking() || self.wants_write() {
            return 0;
        }
        let record = &plaintext[..plaintext.len().min(WRITE_BOUND_BYTES)];
        self.conn.writer().write(record).expect("writing to rustls's buffer cannot fail")
    }

    /// Writes queued ciphertext until `sock` would block. Returns true if nothing is left.
    ///
    /// # Errors
    /// Returns errors of the socket; close it.
    pub fn flush_tls(&mut self, sock: &mut impl Write) -> io::Result<bool> {
        while self.conn.wants_write() {
            match self.conn.write_tls(sock) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Queues `close_notify`, the end of this direction (RFC 8446 section 6.1). Write nothing after it, flush, then
    /// shut down the socket.
    pub fn close_notify(&mut self) {
        self.conn.send_close_notify();
    }

    /// Returns true if ciphertext waits to be flushed.
    pub fn wants_write(&self) -> bool {
        self.conn.wants_write()
    }

    /// Returns true until the handshake is complete; no plaintext is exchanged before.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }
}

/// A self-signed certificate and its key, as the text of their files.
struct OwnCertificate {
    cert: String,
    key: String,
}

impl OwnCertificate {
    fn make(wall: SystemTime, names: &LanNames) -> Result<OwnCertificate, rcgen::Error> {
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
fn parse_header(cert: &[u8]) -> Option<(SystemTime, Vec<&str>)> {
    let text = std::str::from_utf8(cert).ok()?;
    let header = || text.lines().take_while(|line| !line.starts_with("-----"));
    let not_after = header().find_map(|line| line.strip_prefix(NOT_AFTER))?.parse().ok()?;
    let not_after = UNIX_EPOCH.checked_add(Duration::from_secs(not_after))?;
    Some((not_after, header().filter_map(|line| line.strip_prefix(NAME)).collect()))
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::file(setting, path, error))
}

fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no PEM certificate found".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            "no PEM private key found (encrypted keys are not supported)".to_owned()
        }
        error => error.to_string(),
    })
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

fn fingerprint(der: &[u8]) -> String {
    // rustls's own SHA-256, part of every TLS 1.3 cipher suite.
    let SupportedCipherSuite::Tls13(suite) = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        unreachable!("TLS13_AES_128_GCM_SHA256 is a TLS 1.3 suite");
    };
    let hash = suite.common.hash_provider.hash(der);
    let bytes: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use rustls::client::ClientConnection;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::time_provider::TimeProvider;
    use rustls::{ClientConfig, RootCertStore};

    use super::*;

    const WALL: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// One direction of a socket, with a kernel buffer of `capacity` bytes.
    struct Pipe {
        bytes: VecDeque<u8>,
        capacity: usize,
        closed: bool,
    }

    impl Pipe {
        fn new(capacity: usize) -> Pipe {
            Pipe { bytes: VecDeque::new(), capacity, closed: false }
        }
    }

    impl Read for Pipe {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.bytes.is_empty() && !self.closed {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.bytes.read(buf)
        }
    }

    impl Write for Pipe {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let free = self.capacity - self.bytes.len();
            if free == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.bytes.write(&buf[..buf.len().min(free)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A temporary folder, removed on drop.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("aq-server-tls-{test}-{}", process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            fs::create_dir_all(&self.0).unwrap();
            fs::write(self.0.join(name), text).unwrap();
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[derive(Debug)]
    struct Clock(Duration);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(self.0))
        }
    }

    fn names(addrs: &[&str]) -> LanNames {
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        LanNames { host_name: Some("box".to_owned()), addrs }
    }

    fn make(wall: Duration, names: &LanNames) -> OwnCertificate {
        OwnCertificate::make(UNIX_EPOCH + wall, names).unwrap()
    }

    fn acceptor(own: &OwnCertificate) -> TlsAcceptor {
        TlsAcceptor::new(parse_chain(own.cert.as_bytes()).unwrap(), parse_key(own.key.as_bytes()).unwrap()).unwrap()
    }

    /// Returns a client that trusts `own`, connects to `host`, and has a clock at `wall`.
    fn client(own: &OwnCertificate, host: &str, wall: Duration, alpn: &str) -> ClientConnection {
        client_of(own.cert.as_bytes(), host, wall, alpn)
    }

    fn client_of(cert: &[u8], host: &str, wall: Duration, alpn: &str) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(parse_chain(cert).unwrap().remove(0)).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock(wall)));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.into()];
        ClientConnection::new(Arc::new(config), ServerName::try_from(host.to_owned()).unwrap()).unwrap()
    }

    /// Returns true if a client that trusts only `cert` and asks for `host` can connect.
    pub fn connects(acceptor: &TlsAcceptor, cert: &[u8], host: &str, wall: SystemTime) -> bool {
        let client = client_of(cert, host, wall.duration_since(UNIX_EPOCH).unwrap(), "http/1.1");
        Link::to(client, acceptor, 1 << 20).handshake().is_ok()
    }

    /// A server and a client, connected by two pipes.
    struct Link {
        server: TlsStream,
        client: ClientConnection,
        to_server: Pipe,
        to_client: Pipe,
        received: Vec<u8>,
    }

    impl Link {
        fn new(client: ClientConnection, own: &OwnCertificate, capacity: usize) -> Link {
            Link::to(client, &acceptor(own), capacity)
        }

        fn to(client: ClientConnection, acceptor: &TlsAcceptor, capacity: usize) -> Link {
            let (to_server, to_client) = (Pipe::new(capacity), Pipe::new(capacity));
            Link { server: TlsStream::new(acceptor), client, to_server, to_client, received: Vec::new() }
        }

        fn connected(capacity: usize) -> Link {
            let own = make(WALL, &names(&[]));
            let mut link = Link::new(client(&own, "localhost", WALL, "http/1.1"), &own, capacity);
            link.handshake().unwrap();
            link
        }

        /// Runs both ends until the handshake is complete and the pipes are empty.
        fn handshake(&mut self) -> io::Result<()> {
            for _ in 0..1_000 {
                self.client_turn()?;
                self.server.read_tls(&mut self.to_server, &mut self.received)?;
                self.server.flush_tls(&mut self.to_client)?;
                let idle = self.to_client.bytes.is_empty() && self.to_server.bytes.is_empty();
                if idle && !self.client.is_handshaking() && !self.server.is_handshaking() {
                    return Ok(());
                }
            }
            panic!("the handshake did not complete");
        }

        fn client_turn(&mut self) -> io::Result<()> {
            while !self.to_client.bytes.is_empty() {
                self.client.read_tls(&mut self.to_client)?;
                let processed = self.client.process_new_packets();
                processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            }
            while self.client.wants_write() && self.to_server.bytes.len() < self.to_server.capacity {
                self.client.write_tls(&mut self.to_server)?;
            }
            Ok(())
        }
    }

    #[test]
    fn bytes_pass_both_ways_through_pipes_of_any_capacity() {
        let text: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        for capacity in [7, 1_000, 1 << 20] {
            let mut link = Link::connected(capacity);
            assert_eq!(link.client.alpn_protocol(), Some(&b"http/1.1"[..]));

            let (mut sent, mut got) = (0, Vec::new());
            while got.len() < text.len() {
                let taken = link.server.write(&text[sent..]);
                assert!(taken <= WRITE_BOUND_BYTES);
                assert!(taken == text.len() - sent || taken == WRITE_BOUND_BYTES || taken == 0, "{taken} of a record");
                sent += taken;
                assert!(taken == 0 || link.server.wants_write());
                assert_eq!(link.server.write(b"more"), 0, "no plaintext is taken while ciphertext waits");
                let flushed = link.server.flush_tls(&mut link.to_client).unwrap();
                assert_eq!(flushed, !link.server.wants_write());
                link.client_turn().unwrap();
                let _ = link.client.reader().read_to_end(&mut got);
            }
            assert_eq!((sent, got == text), (text.len(), true));

            let mut sent = 0;
            while link.received.len() < text.len() {
                sent += link.client.writer().write(&text[sent..]).unwrap();
                link.client_turn().unwrap();
                let before = link.received.len();
                let outcome = link.server.read_tls(&mut link.to_server, &mut link.received).unwrap();
                assert_eq!(outcome.bytes, link.received.len() - before);
                assert!(!outcome.eof);
            }
            assert!(link.received == text);
        }
    }

    #[test]
    fn one_read_is_bounded_and_reports_that_there_is_more() {
        let mut link = Link::connected(1 << 20);
        link.client.set_buffer_limit(None);
        link.client.writer().write_all(&vec![b'x'; 300_000]).unwrap();
        link.client_turn().unwrap();
        let mut outcomes = Vec::new();
        while outcomes.last().is_none_or(|outcome: &ReadOutcome| outcome.more) {
            outcomes.push(link.server.read_tls(&mut link.to_server, &mut link.received).unwrap());
        }
        assert!(outcomes.iter().all(|outcome| outcome.bytes <= READ_BOUND_BYTES + WRITE_BOUND_BYTES), "{outcomes:?}");
        assert!(outcomes.len() >= 4, "{outcomes:?}");
        assert_eq!(link.received.len(), 300_000);
    }

    #[test]
    fn nothing_is_written_before_the_handshake() {
        let own = make(WALL, &names(&[]));
        let mut link = Link::new(client(&own, "localhost", WALL, "http/1.1"), &own, 1 << 20);
        assert!(link.server.is_handshaking());
        assert_eq!(link.server.write(b"early"), 0);
        link.handshake().unwrap();
        assert!(!link.server.is_handshaking());
        assert_eq!(link.server.write(b"now"), 3);
    }

    #[test]
    fn either_end_can_close() {
        let mut link = Link::connected(1 << 20);
        assert_eq!(link.server.write(b"bye"), 3);
        link.server.close_notify();
        assert!(link.server.flush_tls(&mut link.to_client).unwrap());
        link.client_turn().unwrap();
        let mut got = Vec::new();
        link.client.reader().read_to_end(&mut got).expect("an end with close_notify is no truncation");
        assert_eq!(got, b"bye");

        for polite in [true, false] {
            let mut link = Link::connected(1 << 20);
            link.client.writer().write_all(b"last").unwrap();
            if polite {
                link.client.send_close_notify();
            }
            link.client_turn().unwrap();
            link.to_server.closed = !polite;
            let outcome = link.server.read_tls(&mut link.to_server, &mut link.received).unwrap();
            assert_eq!(outcome, ReadOutcome { bytes: 4, eof: true, more: false }, "close_notify: {polite}");
            assert_eq!(link.received, b"last");
        }
    }

    #[test]
    fn a_broken_protocol_is_answered_with_an_alert() {
        let own = make(WALL, &names(&[]));
        for text in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0], &[0x17, 3, 3, 0, 1, 0]] {
            let (mut server, mut wire) = (TlsStream::new(&acceptor(&own)), Pipe::new(1 << 20));
            let error = server.read_tls(&mut &text[..], &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
            assert!(server.wants_write() && server.flush_tls(&mut wire).unwrap());
            assert_eq!(wire.bytes.front(), Some(&0x15), "{text:?}: an alert record (RFC 8446 section 5.1)");
        }
        let mut h2 = Link::new(client(&own, "localhost", WALL, "h2"), &own, 1 << 20);
        assert_eq!(h2.handshake().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_own_certificate_is_valid_for_its_names_and_its_period() {
        let own = make(WALL, &names(&["10.0.0.1", "fd00::1"]));
        let seen = |host: &str, wall: Duration| {
            Link::new(client(&own, host, wall, "http/1.1"), &own, 1 << 20).handshake().map_err(|error| error.kind())
        };
        for host in ["localhost", "box", "box.local", "127.0.0.1", "::1", "10.0.0.1", "fd00::1"] {
            assert_eq!(seen(host, WALL), Ok(()), "{host}");
        }
        for host in ["other", "10.0.0.2"] {
            assert_eq!(seen(host, WALL), Err(io::ErrorKind::InvalidInput), "{host}");
        }
        let (first, last) = (WALL - CLOCK_SKEW, WALL - CLOCK_SKEW + VALIDITY);
        let second = Duration::from_secs(1);
        for (wall, valid) in [(first - second, false), (first, true), (last, true), (last + second, false)] {
            assert_eq!(seen("localhost", wall).is_ok(), valid, "{wall:?}");
        }
        assert!(last - first <= DAY * 397);
    }

    #[test]
    fn an_own_certificate_is_kept_while_it_is_good() {
        let folder = Folder::new("auto");
        let state_dir = folder.0.join("deep/state");
        let start = |wall: Duration, addrs: &[&str]| {
            TlsAcceptor::auto(UNIX_EPOCH + wall, &names(addrs), &state_dir).unwrap().fingerprint().to_owned()
        };
        let first = start(WALL, &["10.0.0.1"]);
        assert_eq!((first.len(), first.matches(':').count()), (32 * 3 - 1, 31), "{first}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state_dir.join(KEY_FILE)), mode(&state_dir)), (0o600, 0o700));
        let files = fs::read_dir(&state_dir).unwrap().count();
        assert_eq!(files, 2, "no temporary file is left");

        for (wall, addrs, kept) in [
            (WALL, &["10.0.0.1"][..], true),
            (WALL, &[], true),
            (WALL, &["10.0.0.1", "fd00::1"], true),
            (WALL + DAY * 388, &["10.0.0.1"], true),
            (WALL, &["10.0.0.2"], false),
            (WALL + DAY * 390, &["10.0.0.2"], false),
        ] {
            let before = start(WALL, &[]);
            assert_eq!(start(wall, addrs) == before, kept, "{wall:?} {addrs:?}");
        }

        let other_key = make(WALL, &names(&[])).key;
        let damages: &[(&str, &str)] =
            &[(CERT_FILE, ""), (CERT_FILE, "Not after: x\n"), (KEY_FILE, "none"), (KEY_FILE, &other_key)];
        for (file, text) in damages {
            let before = start(WALL, &[]);
            fs::write(state_dir.join(file), text).unwrap();
            let after = start(WALL, &[]);
            assert_ne!(before, after, "{file} {text:?}");
            assert_eq!(start(WALL, &[]), after, "the new one is kept");
        }
    }

    #[test]
    fn errors_name_the_file_and_the_setting() {
        let folder = Folder::new("errors");
        let (own, other) = (make(WALL, &names(&[])), make(WALL, &names(&[])));
        let (cert, key) = (folder.file("cert", &own.cert), folder.file("key", &own.key));
        let (other_key, text) = (folder.file("other", &other.key), folder.file("text", "hello"));
        let none = folder.0.join("none");
        assert!(TlsAcceptor::from_files(&cert, &key).is_ok());
        let dir = folder.0.display();
        for (cert, key, expected) in [
            (&none, &key, format!("--tls-cert (TLS_CERT) {dir}/none: No such file or directory (os error 2)")),
            (&text, &key, format!("--tls-cert (TLS_CERT) {dir}/text: no PEM certificate found")),
            (&cert, &none, format!("--tls-key (TLS_KEY) {dir}/none: No such file or directory (os error 2)")),
            (
                &cert,
                &text,
                format!("--tls-key (TLS_KEY) {dir}/text: no PEM private key found (encrypted keys are not supported)"),
            ),
            (
                &cert,
                &other_key,
                format!(
                    "--tls-cert (TLS_CERT) {dir}/cert with --tls-key (TLS_KEY) {dir}/other: keys may not be consistent: KeyMismatch"
                ),
            ),
        ] {
            assert_eq!(TlsAcceptor::from_files(cert, key).err().map(|error| error.to_string()), Some(expected));
        }
        let no_folder = TlsAcceptor::auto(UNIX_EPOCH + WALL, &names(&[]), &text.join("state"));
        let expected =
            format!("--state-dir (STATE_DIR), for --tls auto, {dir}/text/state: Not a directory (os error 20)");
        assert_eq!(no_folder.err().map(|error| error.to_string()), Some(expected));
    }
}
