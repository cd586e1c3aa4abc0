//! The server behind nginx, with the configuration of docs/hosting.md.

use std::env;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, exchange, request, run_until, upgrade};
use crate::folder::Folder;
use crate::http::{Http, Response};
use crate::process::{DEADLINE, Process};
use crate::wire::Wire;

/// The location block that README.md and docs/hosting.md quote.
const LOCATION: &str = include_str!("nginx-location.conf");

/// The upstream address in `LOCATION`.
const UPSTREAM: &str = "127.0.0.1:8080";

/// Maximum number of starts, because another program may take the chosen port before nginx binds it.
const STARTS: usize = 5;

/// nginx with TLS in front of a server.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    certificate: CertificateDer<'static>,
    folder: Folder,
}

impl Nginx {
    /// Starts nginx. Returns `None` if it is not installed and not required.
    fn start(upstream: SocketAddr) -> Option<Self> {
        if let Err(error) = Command::new("nginx").arg("-v").stderr(Stdio::null()).status() {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            let required = env::var_os("AQ_REQUIRE_NGINX").is_some_and(|value| value == "1");
            assert!(!required, "nginx is not on PATH, and AQ_REQUIRE_NGINX is set");
            println!("skipped: nginx is not on PATH");
            return None;
        }
        (0..STARTS).find_map(|_| Self::try_start(upstream)).or_else(|| panic!("nginx got no port"))
    }

    fn try_start(upstream: SocketAddr) -> Option<Self> {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = Folder::new();
        folder.write("cert.pem", cert.pem());
        folder.write("key.pem", signing_key.serialize_pem());
        folder.write("nginx.conf", configuration(addr, upstream));
        let child = Command::new("nginx")
            .args(["-p", folder.arg(), "-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let mut nginx = Self { child, addr, certificate: cert.der().clone(), folder };
        let until = Instant::now() + DEADLINE;
        while TcpStream::connect(addr).is_err() {
            if nginx.child.try_wait().unwrap().is_some() {
                let log = nginx.log();
                assert!(log.contains("Address already in use"), "nginx does not start: {log}");
                return None;
            }
            assert!(Instant::now() < until, "nginx does not listen: {}", nginx.log());
            thread::sleep(Duration::from_millis(10));
        }
        Some(nginx)
    }

    fn connect(&self) -> Wire {
        Wire::tls(self.addr, "localhost", &self.certificate)
    }

    /// Connects from another address of this machine.
    fn connect_from(&self, source: [u8; 4]) -> Wire {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a TCP socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127.0.0.0/8 is local");
        socket.connect(&self.addr.into()).expect("nginx listens");
        Wire::tls_over(socket.into(), "localhost", &self.certificate)
    }

    /// The host as in a browser's URL.
    fn host(&self) -> String {
        format!("localhost:{}", self.addr.port())
    }

    fn get(&self, target: &str) -> Response {
        let host = format!("Host: {}", self.host());
        let origin = format!("Origin: https://{}", self.host());
        Http::new(self.connect()).request("GET", target, &[&host, &origin, "Connection: close"])
    }

    fn join(&self, name: &str) -> Client {
        let here = IpAddr::from([127, 0, 0, 1]);
        let socket = upgrade(self.connect(), self.upgrade_request(name, &format!("https://{}", self.host())));
        Client::new(socket.unwrap_or_else(|status| panic!("{name} got {status}")), name, here, here)
    }

    fn upgrade_request(&self, name: &str, origin: &str) -> tungstenite::handshake::client::Request {
        request(&format!("wss://{}/aq_server/websocket?name={name}", self.host()), Some(origin))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("nginx: {}", self.log());
        }
    }
}

/// A minimal configuration with the documented location block: one process, so that it can be killed, and all files in
/// its folder, so that it needs no privileges.
fn configuration(addr: SocketAddr, upstream: SocketAddr) -> String {
    assert!(LOCATION.contains(UPSTREAM));
    let location = LOCATION.replace(UPSTREAM, &upstream.to_string());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {name};\n")).collect();
    format!(
        "daemon off;
        master_process off;
        pid pid;
        events {{}}
        http {{
            access_log off;
            {temporary}
            map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
            server {{
                listen {addr} ssl;
                server_name localhost;
                ssl_certificate cert.pem;
                ssl_certificate_key key.pem;
                {location}
            }}
        }}"
    )
}

#[test]
fn a_call_works_behind_nginx() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let Some(nginx) = Nginx::start(process.addr()) else {
        return;
    };
    let page = nginx.get("/aq_server/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").is_some());
    let redirect = nginx.get("/aq_server");
    let location = redirect.header("location").expect("a redirect");
    assert!(location.ends_with("/aq_server/") && !location.contains(&process.port().to_string()), "{location}");
    assert_eq!(nginx.get("/aq_server/check?name=Ann").json(), json!({"ok": true, "participants": 0, "waiting": false}));

    let foreign = upgrade(nginx.connect(), nginx.upgrade_request("Eve", "https://evil.example"));
    assert_eq!(foreign.err(), Some(403));

    let (mut ann, mut bob) = (nginx.join("Ann"), nginx.join("Bob"));
    exchange(&mut ann, &mut bob);
    assert_eq!(ann.sources, [process.addr()].into(), "media does not go through the proxy");

    process.signal("TERM");
    run_until(&mut [&mut ann, &mut bob], "the close", |clients| clients.iter().all(|client| client.closed.is_some()));
    for client in [&ann, &bob] {
        assert_eq!(client.events("closing").len(), 1);
        assert_eq!(client.closed.as_ref().map(|(code, _)| *code), Some(1001));
    }
    assert_eq!(process.wait().code, Some(0));
    assert_eq!(nginx.get("/aq_server/").status, 502);
}

#[test]
fn limits_apply_to_each_client_behind_nginx() {
    let process =
        Process::start(&["--addr", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1", "--max-conns-per-addr", "1"]);
    let Some(nginx) = Nginx::start(process.addr()) else {
        return;
    };
    let origin = format!("https://{}", nginx.host());
    let join = |source| upgrade(nginx.connect_from(source), nginx.upgrade_request("Ann", &origin));
    let ann = join([127, 0, 0, 2]).expect("the first connection is accepted");
    assert_eq!(join([127, 0, 0, 2]).err(), Some(429));
    process.wait_for_log("join from 127.0.0.2 refused: too-many-conns");
    assert!(join([127, 0, 0, 3]).is_ok(), "another client is accepted");
    drop(ann);
    let until = Instant::now() + DEADLINE;
    while let Err(status) = join([127, 0, 0, 2]) {
        assert!(status == 429 && Instant::now() < until, "still {status}");
    }
}

#[test]
fn an_untrusted_proxy_is_logged_once() {
    let process = Process::start(&["--addr", "127.0.0.1:0", "--trusted-proxies", "192.0.2.1", "--log-level", "debug"]);
    let Some(nginx) = Nginx::start(process.addr()) else {
        return;
    };
    for _ in 0..3 {
        assert_eq!(nginx.get("/aq_server/").status, 200);
    }
    process.signal("TERM");
    let is_warning = |line: &&String| line.contains("X-Forwarded-For of 127.0.0.1 ignored: not in --trusted-proxies");
    assert_eq!(process.wait().stderr.iter().filter(is_warning).count(), 1);
}
