//! The server behind real proxies, configured as in docs/hosting.md and with common mistakes: the diagnosis in the
//! response of `check` and in the log.

use std::env;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{request, upgrade};
use crate::folder::Folder;
use crate::http::Http;
use crate::process::{DEADLINE, Process};
use crate::wire::Wire;

const HOSTING: &str = include_str!("../../docs/hosting.md");

/// The upstream address in the configuration blocks.
const UPSTREAM: &str = "127.0.0.1:8080";

/// Maximum number of starts, because another program may take the chosen port before the proxy binds it.
const STARTS: usize = 5;

/// Folder of Apache's modules on Debian.
const MODULES: &str = "/usr/lib/apache2/modules";

/// The code blocks of docs/hosting.md in this language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let blocks = HOSTING.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replace(from, to)
}

fn nginx(addr: SocketAddr, location: &str) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {name};\n")).collect();
    let map = blocks("nginx")[0];
    format!(
        "daemon off; master_process off; pid pid; events {{}}
        http {{ access_log off; {temporary} {map} server {{ listen {addr}; {location} }} }}"
    )
}

fn apache(addr: SocketAddr, block: &str) -> String {
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_http", "proxy_wstunnel"];
    let modules: String =
        modules.iter().map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).collect();
    format!("{modules}ServerName localhost\nPidFile pid\nListen {addr}\nErrorLog error.log\n{block}\n")
}

fn haproxy(addr: SocketAddr, block: &str) -> String {
    let bind = format!("bind {addr}");
    let block = replaced(block, "bind :443 ssl crt /etc/haproxy/meet.pem", &bind);
    format!(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n{block}\n"
    )
}

fn caddy(addr: SocketAddr, block: &str) -> String {
    format!("{{\n admin off\n auto_https off\n}}\nhttp://:{} {{\n bind 127.0.0.1\n {block}\n}}\n", addr.port())
}

/// A proxy that listens.
struct Proxy {
    child: Child,
    addr: SocketAddr,
    _folder: Folder,
}

impl Proxy {
    /// Starts a proxy. Returns `None` if the program is not installed and not required.
    fn start(program: &str, configure: impl Fn(SocketAddr) -> String) -> Option<Self> {
        (0..STARTS)
            .find_map(|_| Self::try_start(program, &configure))
            .unwrap_or_else(|| panic!("{program} got no port"))
    }

    fn try_start(program: &str, configure: &impl Fn(SocketAddr) -> String) -> Option<Option<Self>> {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = Folder::new();
        folder.write("conf", configure(addr));
        let dir = folder.arg();
        let args: &[&str] = match program {
            "nginx" => &["-p", dir, "-c", "conf", "-e", "error.log"],
            "apache2" => &["-d", dir, "-f", "conf", "-X"],
            "haproxy" => &["-f", "conf", "-db"],
            "caddy" => &["run", "--config", "conf", "--adapter", "caddyfile"],
            _ => panic!("unknown proxy {program}"),
        };
        let output = std::fs::File::create(folder.path().join("output")).unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(folder.path()).env("HOME", dir).stdin(Stdio::null());
        let child = match command.stdout(output.try_clone().unwrap()).stderr(output).spawn() {
            Ok(child) => child,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                let required = env::var_os("AQ_REQUIRE_PROXIES").is_some_and(|value| value == "1");
                assert!(!required, "{program} is not on PATH, and AQ_REQUIRE_PROXIES is set");
                println!("skipped: {program} is not on PATH");
                return Some(None);
            }
        };
        let mut proxy = Self { child, addr, _folder: folder };
        let until = Instant::now() + DEADLINE;
        while TcpStream::connect(addr).is_err() {
            let log = |name| std::fs::read_to_string(proxy._folder.path().join(name)).unwrap_or_default();
            if proxy.child.try_wait().unwrap().is_some() {
                let log = log("output") + &log("error.log");
                assert!(log.to_lowercase().contains("address already in use"), "{program} does not start: {log}");
                return None;
            }
            assert!(Instant::now() < until, "{program} does not listen: {}", log("output"));
            thread::sleep(Duration::from_millis(10));
        }
        Some(Some(proxy))
    }

    /// Joins as the page does, then calls `check`. Returns both statuses, and the code from `check`.
    fn join(&self, attempt: &str) -> (u16, u16, String) {
        let host = format!("localhost:{}", self.addr.port());
        let (origin, query) = (format!("http://{host}"), format!("room=a&attempt={attempt}"));
        let joining = request(&format!("ws://{host}/aq_server/websocket?{query}"), Some(&origin));
        let joined = upgrade(Wire::plain(self.addr), joining).map_or_else(|status| status, |_| 101);
        let target = format!("/aq_server/check?{query}&origin={origin}");
        let check =
            Http::new(Wire::plain(self.addr)).request("GET", &target, &[&format!("Host: {host}"), "Connection: close"]);
        let body: serde_json::Value = serde_json::from_slice(&check.body).expect("JSON");
        (joined, check.status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Apache ends its children with SIGTERM only; in the foreground it has none.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Configure = fn(SocketAddr, &str) -> String;

/// Joins behind each configuration and holds that page and log name its fault.
fn hold(program: &str, configure: Configure, table: &[(&str, String, u16, &str)]) {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    for (index, (what, block, status, code)) in table.iter().enumerate() {
        let block = replaced(block, UPSTREAM, &process.addr().to_string());
        let Some(proxy) = Proxy::start(program, |addr| configure(addr, &block)) else {
            return;
        };
        let check = if code.is_empty() { 200 } else { *status };
        if code.is_empty() {
            let metrics = Http::new(Wire::plain(proxy.addr)).get("/aq_server/metrics");
            assert_eq!(metrics.status, 403, "{program} {what}: its clients are not on loopback");
        }
        // Two attempts, because a diagnosis belongs to one attempt.
        for attempt in ["x", "y"] {
            let seen = proxy.join(&format!("{attempt}{index}"));
            assert_eq!(seen, (*status, check, (*code).to_owned()), "{program} {what}");
        }
    }
    // Each cause is logged once.
    process.signal("TERM");
    let log = process.wait().stderr;
    for (code, part) in [("no-upgrade", "does not forward upgrades"), ("origin", "a proxy in front must pass on Host")]
    {
        let count = log.iter().filter(|line| line.contains(part)).count();
        assert_eq!(count, usize::from(table.iter().any(|(.., found)| *found == code)), "{program}, {code}: {log:#?}");
    }
}

#[test]
fn nginx_is_diagnosed() {
    let good = blocks("nginx")[1];
    let without = |line: &str| replaced(good, line, "");
    let upgrade = "proxy_set_header Upgrade $http_upgrade;";
    hold(
        "nginx",
        nginx,
        &[
            ("as documented", good.to_owned(), 101, ""),
            ("without Upgrade", without(upgrade), 426, "no-upgrade"),
            ("in HTTP/1.0", without("proxy_http_version 1.1;"), 426, "no-upgrade"),
            ("without Host", without("proxy_set_header Host $http_host;"), 403, "origin"),
            ("with Host, but its port", replaced(good, "$http_host", "$host"), 403, "origin"),
        ],
    );
}

#[test]
fn apache_is_diagnosed() {
    let good = blocks("apache")[0];
    hold(
        "apache2",
        apache,
        &[
            ("as documented", good.to_owned(), 101, ""),
            ("without upgrades", replaced(good, "upgrade=websocket", ""), 426, "no-upgrade"),
            ("with its default Host", replaced(good, "ProxyPreserveHost On", ""), 403, "origin"),
        ],
    );
}

#[test]
fn haproxy_is_diagnosed_and_its_health_check_works() {
    let good = blocks("haproxy")[0];
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let mut options = Http::connect(process.addr());
    options.send("OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!(options.response(true).status, 200);
    let without_host = format!("{}    http-request set-header Host aq\n", good.trim_end().to_owned() + "\n");
    hold(
        "haproxy",
        haproxy,
        &[("as documented", good.to_owned(), 101, ""), ("with a Host", without_host, 403, "origin")],
    );
}

#[test]
fn caddy_is_diagnosed() {
    let good = blocks("caddy")[0].trim_end();
    let with_host = format!("{good} {{\n  header_up Host {{upstream_hostport}}\n }}");
    hold("caddy", caddy, &[("as documented", good.to_owned(), 101, ""), ("with a Host", with_host, 403, "origin")]);
}
