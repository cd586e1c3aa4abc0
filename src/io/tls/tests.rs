//! Both ends of a connection, and certificates made, kept and read.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::ClientConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

use super::acceptor::{parse_chain, parse_key};
use super::own::{CERT_FILE, CLOCK_SKEW, KEY_FILE, OwnCertificate, VALIDITY};
use super::stream::{READ_BOUND_BYTES, WRITE_BOUND_BYTES};
use super::*;
use crate::io::interfaces::LanNames;

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
    let expected = format!("--state-dir (STATE_DIR), for --tls auto, {dir}/text/state: Not a directory (os error 20)");
    assert_eq!(no_folder.err().map(|error| error.to_string()), Some(expected));
}
