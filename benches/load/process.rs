//! The server as a process pinned to one core, with its CPU time and memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core reserved for the server; everything else runs on the others.
pub const SERVER_CORE: usize = 0;

/// Limit of open files. Server and generator each need two per participant.
const FILES: usize = 65_536;

/// A running server.
pub struct Server {
    /// Its TCP address.
    pub addr: SocketAddr,
    /// Process ID, to read its CPU time and memory, if it runs on this machine.
    pid: Option<u32>,
    child: Option<Child>,
    log: Option<File>,
}

impl Server {
    /// Starts the server binary of this profile, pinned to `SERVER_CORE`.
    pub fn start() -> Self {
        let log = unnamed_file();
        let mut child = Command::new("taskset")
            .args(["-c", &SERVER_CORE.to_string(), env!("CARGO_BIN_EXE_aq-server")])
            .args(["--addr", "127.0.0.1:0", "--max-room-size", "20000", "--max-pending", "20000", "--last-n", "0"])
            .args(["--loudest-above", "20000"])
            .args(["--max-participants", "20000", "--max-conns", "20000", "--log-level", "info"])
            .stdout(Stdio::piped())
            .stderr(log.try_clone().expect("a file"))
            .spawn()
            .expect("taskset and the server start");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.rsplit(':').next().and_then(|rest| rest.split('/').next()?.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("the server says where it listens, not {line:?}"));
        Self { addr: ([127, 0, 0, 1], port).into(), pid: Some(child.id()), child: Some(child), log: Some(log) }
    }

    /// Uses a server that is already running.
    pub fn at(addr: SocketAddr, pid: Option<u32>) -> Self {
        Self { addr, pid, child: None, log: None }
    }

    /// Returns its CPU time so far, and its time waiting for the CPU.
    pub fn used(&self) -> Option<Used> {
        Some(Used::of(&self.pid?.to_string()))
    }

    /// Returns its resident memory.
    pub fn rss_kb(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.pid?);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Returns its number of open files.
    pub fn files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid.expect("it runs here"));
        fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
    }

    /// Stops the server if it was started here. Returns the mean length of its segmented sends if its log has it.
    pub fn stop(mut self) -> Option<f64> {
        let (mut child, mut log) = (self.child.take()?, self.log.take()?);
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        let status = child.wait().expect("it ends");
        let mut text = String::new();
        log.rewind().and_then(|()| log.read_to_string(&mut text)).expect("text");
        assert!(status.success(), "the server failed: {status}\n{text}");
        let field = |name: &str| {
            let rest = text.split(&format!("{name}=")).nth(1)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<f64>().ok()
        };
        field("datagrams").zip(field("runs")).map(|(datagrams, runs)| datagrams / runs)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// CPU usage of a thread.
#[derive(Clone, Copy)]
pub struct Used {
    /// CPU time.
    pub cpu: Duration,
    /// Time in which it was runnable but other threads ran.
    pub waited: Duration,
}

impl Used {
    /// Reads the usage of a thread from `/proc/{thread}/schedstat`: CPU time and run-queue time in nanoseconds.
    pub fn of(thread: &str) -> Self {
        let path = format!("/proc/{thread}/schedstat");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut nanos = text.split(' ').filter_map(|nanos| nanos.parse().ok()).map(Duration::from_nanos);
        let mut next = || nanos.next().expect("nanoseconds");
        Self { cpu: next(), waited: next() }
    }

    /// Returns the difference from an earlier reading.
    pub fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, waited: self.waited - before.waited }
    }
}

/// Moves this process off the server's core if there is another core, and raises its limit of open files.
pub fn prepare() {
    let id = std::process::id().to_string();
    let cores = fs::read_to_string("/proc/self/status").expect("Linux");
    let last = cores.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(|list| {
        list.trim().rsplit([',', '-']).next()?.parse::<usize>().ok() //
    });
    match last {
        Some(last) if last > SERVER_CORE => {
            run("taskset", &["-a", "-p", "-c", &format!("{}-{last}", SERVER_CORE + 1), &id]);
        }
        _ => eprintln!("There is one core only: server and generator share it, and figures say little."),
    }
    open_many_files();
}

/// Raises the limit of open files of this process.
pub fn open_many_files() {
    let id = std::process::id().to_string();
    if !run("prlimit", &["--pid", &id, &format!("--nofile={FILES}:{FILES}")]) {
        // Without the privilege to raise the hard limit, raise the soft limit to it.
        run("prlimit", &["--pid", &id, &format!("--nofile={}:", hard_limit_of_files())]);
    }
}

/// Waits until no other run of this bench measures on this machine, because they would disturb each other.
pub fn take_turn() -> Option<File> {
    let path = std::env::temp_dir().join("aq-server-load.lock");
    let turn = File::options().create(true).append(true).open(path).ok()?;
    turn.lock().ok()?;
    Some(turn)
}

/// Moves the calling thread to the server's core.
pub fn share_the_servers_core() {
    let id = fs::read_link("/proc/thread-self").expect("Linux");
    let id = id.file_name().expect("a thread").to_string_lossy().into_owned();
    assert!(run("taskset", &["-p", "-c", &SERVER_CORE.to_string(), &id]), "taskset pins a thread");
}

fn hard_limit_of_files() -> String {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    line.split_whitespace().nth(1).expect("a number").to_owned()
}

fn run(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Creates an unlinked file for the server's log. A full pipe would block the server.
fn unnamed_file() -> File {
    let path = std::env::temp_dir().join(format!("aq-server-load-{}.log", std::process::id()));
    let file = File::options().read(true).append(true).create(true).open(&path);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::remove_file(&path).expect("just created");
    file
}
