//! The page's diagnosis behind nginx, configured as in docs/hosting.md and with common mistakes. The test is skipped
//! without nginx, unless `AQ_REQUIRE_NGINX=1` is set.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::chromium::Chromium;
use crate::program::Program;
use crate::scratch::Scratch;
use crate::turn::side_by_side;
use crate::{poll, skip};

const HOSTING: &str = include_str!("../../docs/hosting.md");

/// The upstream address in the configuration blocks.
const UPSTREAM: &str = "127.0.0.1:8080";

/// Maximum number of starts, because another program may take the chosen ports before nginx binds them.
const STARTS: usize = 5;

const NO_UPGRADE: &str = "The proxy in front of this server does not forward WebSocket upgrades; see docs/hosting.";
const WRONG_HOST: &str =
    "The server does not know this page’s address. A proxy in front has to pass on Host with its port";

/// nginx with one port per location.
struct Nginx {
    process: Child,
    ports: Vec<u16>,
    _folder: Scratch,
}

impl Nginx {
    /// Starts nginx. Returns `None` if it is not installed.
    fn start(map: &str, locations: &[String]) -> Option<Self> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            skip("NGINX", "nginx is not on PATH: what pages say behind it is not tested");
            return None;
        }
        let started = (0..STARTS).find_map(|_| Self::try_start(map, locations));
        Some(started.expect("nginx gets its ports"))
    }

    fn try_start(map: &str, locations: &[String]) -> Option<Self> {
        let folder = Scratch::new("nginx");
        let free: Vec<_> = locations.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = free.iter().map(|port| port.local_addr().expect("it is bound").port()).collect();
        drop(free);
        let servers = ports.iter().zip(locations);
        let servers: String =
            servers.map(|(port, location)| format!("server {{ listen 127.0.0.1:{port}; {location} }}\n")).collect();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {name};\n")).collect();
        let configuration = format!(
            "daemon off; master_process off; pid pid; events {{}}
            http {{ access_log off; {temporary} {map} {servers} }}"
        );
        fs::write(folder.path().join("nginx.conf"), configuration).expect("the build folder is writable");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx starts");
        let mut nginx = Self { process, ports, _folder: folder };
        let listens = poll(|| match (TcpStream::connect(("127.0.0.1", nginx.ports[0])), nginx.process.try_wait()) {
            (_, Ok(Some(_))) => Ok(false),
            (connected, _) => connected.map(|_| true).map_err(|error| error.to_string()),
        });
        listens.expect("nginx listens, or ends").then_some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replace(from, to)
}

#[test]
fn a_page_behind_a_misconfigured_proxy_names_the_mistake() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let blocks: Vec<&str> = HOSTING.split("```nginx\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [map, location] = blocks[..] else { panic!("two blocks for nginx: {blocks:?}") };
    let authority = server.url.split('/').nth(2).expect("a URL has an authority");
    let good = replaced(location, UPSTREAM, authority);
    let without = |line: &str| replaced(&good, line, "");
    // The mistake, and the page's text.
    let cases = [
        (good.clone(), None),
        (without("proxy_set_header Upgrade $http_upgrade;"), Some(NO_UPGRADE)),
        (without("proxy_set_header Host $http_host;"), Some(WRONG_HOST)),
        (replaced(&good, "$http_host", "$host"), Some(WRONG_HOST)),
    ];
    let locations: Vec<String> = cases.iter().map(|(location, _)| location.clone()).collect();
    let Some(nginx) = Nginx::start(map, &locations) else { return };
    for ((location, expected), port) in cases.iter().zip(&nginx.ports) {
        let mut page = chromium.open(&format!("http://127.0.0.1:{port}/aq_server/?room=garden&name=Ann&autojoin=1"));
        match expected {
            None => page.is_joined(),
            Some(words) => {
                page.until("it says what is wrong", &format!("probe.says().startsWith({words:?})"));
                let is_over = page.eval::<bool>("document.body.dataset.state === 'lobby'");
                assert!(is_over, "the page stops trying: {location}");
            }
        }
        chromium.close(page);
    }
}
