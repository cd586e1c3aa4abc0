//! The program: parses flags, opens sockets and runs the event loop. The only place that ends the process.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use aq_server::config::{Config, ParseError, Secret};
use aq_server::io::certificates::Certificates;
use aq_server::io::interfaces::Announced;
use aq_server::io::reactor::Reactor;
use aq_server::io::tcp::Tcp;
use aq_server::io::udp::Udp;
use aq_server::io::www::Www;
use aq_server::io::{interfaces, logger, machine, wall};
use aq_server::server::bounds::Bounds;
use aq_server::server::{Server, Setup};
use aq_server::web::assets::Assets;
use log::{info, warn};

fn main() -> ExitCode {
    let config = match Config::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(ParseError::Asked(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(ParseError::Invalid(line)) => return fail(line),
    };
    if let Err(error) = logger::init(config.log_level) {
        return fail(format_args!("cannot start the log thread: {error}"));
    }
    let _flush = Flush;
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = fail(error);
            logger::flush(logger::ERROR_PATIENCE);
            code
        }
    }
}

/// Flushes the log on drop, so that every return from `main` does.
struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        logger::flush(logger::PATIENCE);
    }
}

fn fail(error: impl Display) -> ExitCode {
    // Not a log line, so that it is printed at every --log-level.
    logger::print_line(format_args!("aq-server: {error}"));
    ExitCode::FAILURE
}

fn run(mut config: Config) -> Result<(), String> {
    if let Some(file) = &config.token_secret_file {
        let secret = read_secret(file);
        config.token_secret = Some(
            secret.map_err(|error| format!("--token-secret-file (TOKEN_SECRET_FILE) {}: {error}", file.display()))?,
        );
    }
    if let Some(file) = &config.admin_token_file {
        let token = read_secret(file);
        config.admin_token =
            Some(token.map_err(|error| format!("--admin-token-file (ADMIN_TOKEN_FILE) {}: {error}", file.display()))?);
        warn_if_readable_by_all(file);
    }
    let tls = Certificates::open(&config).map_err(|error| error.to_string())?;
    let (www, assets) = match &config.www {
        Some(folder) => {
            let (www, assets) = Www::open(folder)
                .map_err(|error| format!("--www (WWW_DIR) {}: cannot read the folder: {error}", folder.display()))?;
            (Some(www), assets)
        }
        None => (None, Assets::embedded()),
    };
    let (listener, addr) = listen(config.addr)
        .map_err(|error| format!("--addr (SERVER_ADDR) {}: cannot listen: {}", config.addr, explain(&error)))?;
    let udp = bind_udp(config.media_addr, addr.port()).map_err(|error| {
        format!("--media-addr (MEDIA_ADDR) {}: cannot bind the UDP socket: {}", config.media_addr, explain(&error))
    })?;
    let announced = Announced::new(udp.local_addr(), config.public_ips.clone());
    let candidates = announced.candidates().map_err(|error| format!("cannot list the network interfaces: {error}"))?;
    if candidates.is_empty() {
        return Err("--media-addr (MEDIA_ADDR): this machine has no address to announce; \
                    set one with --public-ip (PUBLIC_IP)"
            .to_owned());
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("cannot read system entropy: {error}"))?;

    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut welcome = String::new();
    let names = interfaces::lan_names().map_err(|error| format!("cannot list the network interfaces: {error}"))?;
    for host in names.url_hosts(addr.ip()) {
        welcome += &format!("Open {scheme}://{host}:{}{}/\n", addr.port(), config.prefix);
    }
    if let Some(tls) = &tls {
        welcome += &format!("Certificate SHA-256 {}\n", tls.fingerprint());
    }
    let addrs: Vec<_> = candidates.iter().map(ToString::to_string).collect();
    info!("media on UDP {}, announced as {}", udp.local_addr(), addrs.join(" "));
    match config.token_secret {
        Some(_) => info!("access: a token is required to join"),
        None => info!("access: open to everyone; set --token-secret-file (TOKEN_SECRET_FILE) to require tokens"),
    }

    log_bounds(&config);

    let now = Instant::now();
    let wall = wall(now);
    let gather = config.gather;
    let setup = Setup { config, assets, candidates, wall, seed };
    let mut reactor = Reactor::new(Server::new(now, setup), listener, udp, announced, tls, www, gather)
        .map_err(|error| format!("cannot set up the event loop: {error}"))?;
    // Printed only now: a program that waits for the URL may connect or send a signal at once. A separate thread writes
    // it, because a standard output that is not read must not stop the server.
    std::thread::spawn(move || std::io::stdout().write_all(welcome.as_bytes()));
    reactor.run().map_err(|error| format!("event loop failed: {error}"))
}

/// Logs how much memory and how many file descriptors the limits allow clients to use, compared with the machine's.
fn log_bounds(config: &Config) {
    let limits = &config.limits;
    let bounds = Bounds::new(limits, Tcp::MAX_BYTES);
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    info!(
        "memory in the worst case, if every participant attacks (calls use far less): {} MB per participant, \
         {} MB per full room, {} MB in total",
        megabytes(bounds.participant),
        megabytes(bounds.room),
        megabytes(bounds.total),
    );
    if let Some(memory) = machine::memory().filter(|memory| *memory < bounds.total) {
        info!(
            "this machine has {} MB of memory, enough in the worst case for --max-participants {} (MAX_PARTICIPANTS)",
            megabytes(memory),
            bounds.participants_within(memory).max(1),
        );
    }
    let needed = (limits.max_conns + machine::OWN_DESCRIPTORS) as u64;
    match machine::descriptors() {
        Some(limit) if limit < needed => warn!(
            "file descriptors: {limit} allowed, {needed} needed for --max-conns {} (MAX_CONNS); raise the limit \
             (ulimit -n, LimitNOFILE), or connections above it wait",
            limits.max_conns
        ),
        _ => info!("file descriptors: {needed} at most"),
    }
}

/// Reads the secret: the whole file, without trailing line ends, which editors and `echo` add.
fn read_secret(file: &Path) -> Result<Secret, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read the file: {error}"))?;
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    Secret::new(&bytes[..end])
}

/// Warns about a secret that every user of this machine can read.
fn warn_if_readable_by_all(file: &Path) {
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o004 != 0 {
        warn!(
            "--admin-token-file (ADMIN_TOKEN_FILE) {0}: every user of this machine can read it; chmod 600 {0}",
            file.display()
        );
    }
}

/// Formats a system error, with advice for the common ones.
fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("{error}; stop the program that uses the port, or choose another one, such as :8081")
        }
        ErrorKind::PermissionDenied => format!("{error}; ports below 1024 need root or CAP_NET_BIND_SERVICE"),
        _ => error.to_string(),
    }
}

/// Listens on `addr`; on a machine without IPv6 the IPv6 wildcard becomes the IPv4 one.
fn listen(addr: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).or_else(|error| match v4_wildcard(addr, &error) {
        Some(addr) => TcpListener::bind(addr),
        None => Err(error),
    })?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Binds the media socket, on the port of the TCP listener if `addr` has port 0.
fn bind_udp(mut addr: SocketAddr, tcp_port: u16) -> std::io::Result<Udp> {
    if addr.port() == 0 {
        addr.set_port(tcp_port);
    }
    Udp::bind(addr).or_else(|error| match v4_wildcard(addr, &error) {
        Some(addr) => Udp::bind(addr),
        None => Err(error),
    })
}

fn v4_wildcard(addr: SocketAddr, error: &std::io::Error) -> Option<SocketAddr> {
    let no_v6 = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    let wildcard = addr.is_ipv6() && addr.ip().is_unspecified();
    (no_v6 && wildcard).then(|| SocketAddr::new([0, 0, 0, 0].into(), addr.port()))
}
