//! A server process on free ports, killed at the end of the test.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Time limit for every expected event. It is long because machines may be slow; only failing tests reach it.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Maximum number of starts, because the UDP port with the number of the free TCP port may be in use.
const STARTS: usize = 5;

/// A server that listens.
pub struct Process {
    child: Child,
    port: u16,
    stdout: Lines,
    /// `None` if standard error is not read.
    stderr: Option<Lines>,
}

/// How a process ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Process {
    /// Starts a server and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// The same with environment variables; it gets no others.
    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let (mut process, stderr) = Self::open(args, env, Stdio::piped);
        process.stderr = stderr.map(Lines::new);
        process
    }

    /// The same with a log that goes to `log`.
    pub fn start_logging_to(log: impl Fn() -> Stdio, args: &[&str]) -> Self {
        Self::open(args, &[], log).0
    }

    /// Starts a server on `port` with this standard output, without waiting until it listens.
    pub fn start_telling(stdout: Stdio, port: u16) -> Self {
        let addr = format!("127.0.0.1:{port}");
        let mut command = command(&["--addr", &addr], &[]);
        let child = command.stdout(stdout).stderr(Stdio::null()).spawn().expect("the binary starts");
        Self { child, port, stdout: Lines::new(io::empty()), stderr: None }
    }

    fn open(args: &[&str], env: &[(&str, &str)], log: impl Fn() -> Stdio) -> (Self, Option<ChildStderr>) {
        for _ in 0..STARTS {
            let mut child = command(args, env).stderr(log()).spawn().expect("the binary starts");
            let stdout = Lines::new(child.stdout.take().expect("piped"));
            let stderr = child.stderr.take();
            let mut process = Self { child, port: 0, stdout, stderr: None };
            if let Some(opened) = process.stdout.next() {
                process.port = port(&opened);
                return (process, stderr);
            }
            let said = stderr.map(|stderr| Lines::new(stderr).rest());
            let is_taken = |line: &String| line.contains("--media-addr") && line.contains(":0");
            assert!(said.iter().flatten().any(is_taken) || said.is_none(), "the server did not start: {said:?}");
        }
        panic!("no free port was found in {STARTS} attempts");
    }

    /// Its TCP address on 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on standard output, after the one that says where it listens.
    pub fn next_line(&self) -> Option<String> {
        self.stdout.next()
    }

    /// Waits for a line of the log.
    pub fn wait_for_log(&self, part: &str) -> String {
        let lines = self.stderr.as_ref().expect("standard error is open");
        let mut seen = Vec::new();
        while let Some(line) = lines.next() {
            if line.contains(part) {
                return line;
            }
            seen.push(line);
        }
        panic!("{part:?} is not in the log: {seen:#?}");
    }

    /// Sends a signal by name, as `TERM`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}");
    }

    /// Waits until it has ended.
    pub fn wait(mut self) -> Ended {
        let stderr = self.stderr.take();
        let stdout = std::iter::from_fn(|| self.stdout.next()).collect();
        let stderr = stderr.into_iter().flat_map(|lines| lines.rest()).collect();
        // Its pipes are closed, so the process has ended.
        let status = self.child.wait().expect("it is our child");
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Some(stderr) = &self.stderr
        {
            for line in stderr.rest() {
                eprintln!("server: {line}");
            }
        }
    }
}

/// Runs a server that is expected to end by itself.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut child = command(args, env).spawn().expect("the binary starts");
    let stdout = Lines::new(child.stdout.take().expect("piped"));
    let stderr = Lines::new(child.stderr.take().expect("piped"));
    Process { child, port: 0, stdout, stderr: Some(stderr) }.wait()
}

/// Runs a server whose output is not read, and returns its exit code.
pub fn run_unheard(args: &[&str]) -> Option<i32> {
    let (_, stdout) = io::pipe().expect("a pipe");
    let (_, stderr) = io::pipe().expect("a pipe");
    let status = command(args, &[]).stdout(stdout).stderr(stderr).status().expect("the binary starts");
    status.code()
}

pub fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aq-server"));
    command.args(args).env_clear().envs(env.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The port in `Open http://localhost:8080/aq_server/`.
fn port(opened: &str) -> u16 {
    let authority = opened.split('/').nth(2).unwrap_or_else(|| panic!("no URL in {opened:?}"));
    let (_, port) = authority.rsplit_once(':').unwrap_or_else(|| panic!("no port in {opened:?}"));
    port.parse().unwrap_or_else(|_| panic!("no port in {opened:?}"))
}

/// Lines of a pipe, read by a thread so that waiting for a line can time out.
struct Lines(Mutex<Receiver<String>>);

impl Lines {
    fn new(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { return };
                // Without a receiver, stop reading and close the pipe.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(Mutex::new(receiver))
    }

    /// Returns the next line, or `None` if the pipe is closed.
    fn next(&self) -> Option<String> {
        match self.receive() {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the server prints nothing and does not end"),
        }
    }

    fn receive(&self) -> Result<String, RecvTimeoutError> {
        self.0.lock().expect("no thread panics while it holds the lock").recv_timeout(DEADLINE)
    }

    fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.receive().ok()).collect()
    }
}
