//! The server as a process on a free loopback port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wait_for_exit;

/// Number of simultaneous connections of a flood.
const FLOODING: usize = 32;

/// Endless requests until it is dropped.
pub struct Flood {
    threads: Vec<JoinHandle<()>>,
    ends: Arc<AtomicBool>,
}

pub struct Program {
    /// The page's URL as printed by the server, with a trailing slash.
    pub url: String,
    args: Vec<String>,
    process: Child,
    log: Option<JoinHandle<String>>,
}

/// A stopped server, which continues when this is dropped.
pub struct Pause(i32);

impl Program {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn("127.0.0.1:0", args.iter().map(ToString::to_string).collect())
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) {
        self.terminate();
        let status = wait_for_exit(&mut self.process).expect("SIGTERM ends the server");
        assert!(status.success(), "after SIGTERM: {status}\n{}", self.log());
    }

    /// Ends it with a second SIGTERM, without waiting for calls.
    pub fn stop_at_once(&mut self) {
        self.terminate();
        thread::sleep(Duration::from_millis(500));
        self.stop();
    }

    /// Stops the process until the returned value is dropped. It sends nothing meanwhile, and refuses nothing.
    pub fn pause(&self) -> Pause {
        let pid = i32::try_from(self.process.id()).expect("a pid fits");
        // SAFETY: the child has not been waited for, so the PID is its own.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        Pause(pid)
    }

    /// Starts it again at its former address.
    pub fn start_again(&mut self) {
        let authority = self.url.split('/').nth(2).expect("a URL has an authority").to_owned();
        let args = std::mem::take(&mut self.args);
        *self = Self::spawn(&authority, args);
    }

    /// The page's URL for joining without the form.
    pub fn link(&self, room: &str, name: &str) -> String {
        format!("{}?room={room}&name={}&autojoin=1", self.url, percent_encoded(name))
    }

    /// Overloads the server with requests until the returned value is dropped.
    pub fn flood(&self) -> Flood {
        let authority = self.url.split('/').nth(2).expect("a URL has an authority").to_owned();
        let ends = Arc::new(AtomicBool::new(false));
        let threads = (0..FLOODING).map(|_| {
            let (authority, ends) = (authority.clone(), Arc::clone(&ends));
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let _ = ask(&authority);
                }
            })
        });
        Flood { threads: threads.collect(), ends }
    }

    fn spawn(addr: &str, args: Vec<String>) -> Self {
        // Port 0 for media means the port that was bound for TCP.
        let mut process = Command::new(env!("CARGO_BIN_EXE_aq-server"))
            .args(["--addr", addr, "--media-addr", "127.0.0.1:0", "--log-level", "debug"])
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut stderr = process.stderr.take().expect("stderr is a pipe");
        let log = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let mut program = Self { url: String::new(), args, process, log: Some(log) };
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        match line.trim().strip_prefix("Open ") {
            Some(url) => program.url = url.to_owned(),
            None => {
                let _ = program.process.kill();
                panic!("the server says {line:?}\n{}", program.log());
            }
        }
        program
    }

    fn terminate(&mut self) {
        let pid = i32::try_from(self.process.id()).expect("a pid fits");
        if matches!(self.process.try_wait(), Ok(None)) {
            // SAFETY: the child has not been waited for, so the PID is its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Returns its log. Call it only when the process has ended or is about to.
    fn log(&mut self) -> String {
        self.log.take().and_then(|log| log.join().ok()).unwrap_or_default()
    }
}

/// Sends one request and reads the response.
fn ask(authority: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(authority)?;
    write!(stream, "GET /aq_server/app.js HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

impl Drop for Pause {
    fn drop(&mut self) {
        // SAFETY: as above; the pause does not outlive a test's program.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.terminate();
        if wait_for_exit(&mut self.process).is_err() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("The server's last lines:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
