//! TLS in the server, with a self-signed certificate and with certificate files.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use rcgen::CertifiedKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, exchange, request, upgrade};
use crate::files::files_below;
use crate::folder::Folder;
use crate::http::Http;
use crate::process::{DEADLINE, Process, run};
use crate::wire::Wire;

/// Loads the page over HTTPS and makes a call over WSS, with a client that trusts only `certificate`.
fn call(process: &Process, name: &str, certificate: &CertificateDer<'static>) {
    let here = IpAddr::from([127, 0, 0, 1]);
    let addr = SocketAddr::new(here, process.port());
    let host = format!("{name}:{}", process.port());
    let connect = || Wire::tls(addr, name, certificate);
    let mut http = Http::new(connect());
    for _ in 0..3 {
        let page = http.request("GET", "/aq_server/", &[&format!("Host: {host}")]);
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    }
    let join = |who: &str, origin: &str| {
        let request = request(&format!("wss://{host}/aq_server/websocket?name={who}"), Some(origin));
        upgrade(connect(), request)
    };
    let own = format!("https://{host}");
    let mut ann = Client::new(join("Ann", &own).unwrap(), "Ann", here, here);
    let mut bob = Client::new(join("Bob", &own).unwrap(), "Bob", here, here);
    exchange(&mut ann, &mut bob);
    for foreign in [format!("http://{host}"), "https://evil.example".to_owned()] {
        assert_eq!(join("Eve", &foreign).err(), Some(403), "{foreign}");
    }
}

/// The certificate in a state folder, and the file mode of its key.
fn found(state: &Folder) -> (CertificateDer<'static>, u32) {
    let (mut certificate, mut mode) = (None, None);
    for path in files_below(state.path()) {
        let pem = fs::read_to_string(&path).unwrap();
        if pem.contains("PRIVATE KEY") {
            mode = Some(fs::metadata(&path).unwrap().permissions().mode() & 0o777);
        }
        if let Ok(found) = CertificateDer::from_pem_slice(pem.as_bytes()) {
            certificate = Some(found);
        }
    }
    (certificate.expect("a certificate"), mode.expect("a key"))
}

#[test]
fn auto_creates_a_certificate_and_keeps_it() {
    let state = Folder::new();
    let args = ["--addr", "127.0.0.1:0", "--tls", "auto", "--state-dir", state.arg()];
    let start = || {
        let process = Process::start(&args);
        let line = process.next_line().expect("the fingerprint");
        assert!(line.starts_with("Certificate SHA-256 "), "{line}");
        (process, line)
    };
    let (process, fingerprint) = start();
    let (certificate, mode) = found(&state);
    assert_eq!(format!("{mode:o}"), "600");
    for name in ["localhost", "127.0.0.1"] {
        call(&process, name, &certificate);
    }
    process.signal("TERM");
    assert_eq!(process.wait().code, Some(0));

    let (process, again) = start();
    assert_eq!(again, fingerprint);
    assert_eq!(found(&state).0, certificate);
    call(&process, "localhost", &certificate);

    // Another state folder has another certificate.
    let other = Folder::new();
    let process = Process::start(&["--addr", "127.0.0.1:0", "--tls", "auto", "--state-dir", other.arg()]);
    assert_ne!(process.next_line(), Some(fingerprint));
}

#[test]
fn a_given_certificate_is_used() {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["conf.example".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert_file = folder.write("cert.pem", cert.pem());
    let key_file = folder.write("key.pem", signing_key.serialize_pem());
    let (cert_file, key_file) = (cert_file.to_str().unwrap(), key_file.to_str().unwrap());
    let process = Process::start(&["--addr", "127.0.0.1:0", "--tls-cert", cert_file, "--tls-key", key_file]);
    call(&process, "conf.example", cert.der());
    // Plain HTTP gets no page, and later TLS connections work.
    let mut plain = Http::connect(process.addr());
    plain.send("GET /aq_server/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = plain.rest();
    assert!(!answer.windows(5).any(|window| window == b"<html"), "{answer:?}");
    call(&process, "conf.example", cert.der());
}

#[test]
fn an_unusable_certificate_gives_one_error_line() {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let folder = Folder::new();
    for (name, contents) in [
        ("cert.pem", cert.pem()),
        ("key.pem", signing_key.serialize_pem()),
        ("other.pem", other.signing_key.serialize_pem()),
        ("empty.pem", String::new()),
    ] {
        folder.write(name, contents);
    }
    let path = |name: &str| format!("{}/{name}", folder.arg());
    for (cert, key, names) in [
        ("missing.pem", "key.pem", "--tls-cert (TLS_CERT)"),
        ("cert.pem", "missing.pem", "--tls-key (TLS_KEY)"),
        ("empty.pem", "key.pem", "--tls-cert (TLS_CERT)"),
        ("cert.pem", "empty.pem", "--tls-key (TLS_KEY)"),
        ("cert.pem", "other.pem", "--tls-key (TLS_KEY)"),
    ] {
        let (cert, key) = (path(cert), path(key));
        let ended = run(&["--addr", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key], &[]);
        assert_eq!((ended.code, ended.stderr.len()), (Some(1), 1), "{cert} {key}: {:?}", ended.stderr);
        assert!(ended.stderr[0].contains(names), "{:?}", ended.stderr);
        assert!(ended.stdout.is_empty());
    }
    // A state folder that can't be created.
    let ended = run(&["--addr", "127.0.0.1:0", "--tls", "auto", "--state-dir", "/dev/null/state"], &[]);
    assert_eq!((ended.code, ended.stderr.len()), (Some(1), 1), "{:?}", ended.stderr);
    assert!(ended.stderr[0].contains("--state-dir (STATE_DIR)"), "{:?}", ended.stderr);
}

/// Clients download files and pause until the server's socket is full. Sizes differ by less than a TLS record, so that in
/// some cases the last record has to wait.
#[test]
fn a_slow_reader_receives_the_whole_file() {
    const SIZES: usize = 50;
    let (state, www) = (Folder::new(), Folder::new());
    let size = |index: usize| 100_000 + index * 12_000;
    for index in 0..SIZES {
        www.write(&format!("{index}.bin"), vec![index as u8; size(index)]);
    }
    www.write("index.html", "<p>");
    let args = ["--addr", "127.0.0.1:0", "--tls", "auto", "--state-dir", state.arg(), "--www", www.arg()];
    let process = Process::start(&args);
    let (certificate, _) = found(&state);
    thread::scope(|scope| {
        for index in 0..SIZES {
            let (addr, certificate) = (process.addr(), &certificate);
            scope.spawn(move || {
                let mut http = Http::new(Wire::tls_over(small(addr), "localhost", certificate));
                http.send(format!("GET /aq_server/{index}.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
                // Meanwhile the server fills the socket.
                thread::sleep(Duration::from_millis(100));
                // Without close_notify the last read would fail.
                let answer = http.rest();
                let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
                assert_eq!(answer.len() - head, size(index), "{index}");
            });
        }
    });
}

/// A connection with the smallest receive buffer.
fn small(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.into()
}
