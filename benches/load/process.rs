//! The real server as a process on one core, and what the system says of it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core that the server has for itself; everything else runs on the others.
pub const SERVER_CORE: usize = 0;

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens, on TCP and UDP.
    pub addr: SocketAddr,
}

impl Server {
    /// Starts the binary of this bench's profile, pinned.
    pub fn start() -> Self {
        let mut child = Command::new("taskset")
            .args(["-c", &SERVER_CORE.to_string(), env!("CARGO_BIN_EXE_aq-server")])
            .args(["--addr", "127.0.0.1:0", "--max-room-size", "5000", "--max-pending", "5000", "--log-level", "info"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("taskset and the server start");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port");
        let addr = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
        // Log lines are few; whoever reads none of them must not stop the server.
        let others = format!("1-{}", std::thread::available_parallelism().map_or(1, |cores| cores.get() - 1).max(1));
        let _ = Command::new("taskset")
            .args(["-a", "-p", "-c", &others, &std::process::id().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        Self { child, addr }
    }

    /// Time on the processor so far.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(path).expect("the server runs");
        Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
    }

    /// Resident memory.
    pub fn rss_kb(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Ends it; returns the mean length of the runs that it sent.
    pub fn stop(mut self) -> f64 {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
        self.child.wait().expect("it ends");
        let field = |name: &str| {
            let rest = log.split(&format!("{name}=")).nth(1)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<f64>().ok()
        };
        field("datagrams").zip(field("runs")).map_or(f64::NAN, |(datagrams, runs)| datagrams / runs)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
