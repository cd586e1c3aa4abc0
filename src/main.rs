//! The program: flags to a configuration, sockets, the loop. The only place that ends the process.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
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
        return fail(format_args!("the system gives no thread to write the log: {error}"));
    }
    let _flush = Flush;
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

/// Ends the log when the program ends, however that is.
struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        logger::flush();
    }
}

fn fail(error: impl Display) -> ExitCode {
    // The code tells it too.
    logger::tell(format_args!("aq-server: {error}"));
    ExitCode::FAILURE
}

fn run(mut config: Config) -> Result<(), String> {
    if let Some(file) = &config.token_secret_file {
        let secret = read_secret(file);
        config.token_secret =
            Some(secret.map_err(|why| format!("--token-secret-file (TOKEN_SECRET_FILE) {}: {why}", file.display()))?);
    }
    let tls = Certificates::open(&config).map_err(|error| error.to_string())?;
    let (www, assets) = match &config.www {
        Some(folder) => {
            let (www, assets) = Www::open(folder)
                .map_err(|error| format!("--www (WWW_DIR) {}: the folder can't be read: {error}", folder.display()))?;
            (Some(www), assets)
        }
        None => (None, Assets::embedded()),
    };
    let (listener, addr) = listen(config.addr)
        .map_err(|error| format!("--addr (SERVER_ADDR) {}: can't listen there: {}", config.addr, why(&error)))?;
    let udp = bind_udp(config.media_addr, addr.port()).map_err(|error| {
        format!("--media-addr (MEDIA_ADDR) {}: can't bind it on UDP: {}", config.media_addr, why(&error))
    })?;
    let announced = Announced::new(udp.local_addr(), config.public_ips.clone());
    let candidates =
        announced.candidates().map_err(|error| format!("the network interfaces can't be listed: {error}"))?;
    if candidates.is_empty() {
        return Err("--media-addr (MEDIA_ADDR): this machine has no address that could be announced; \
                    name one with --public-ip"
            .to_owned());
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("the system gives no random numbers: {error}"))?;

    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut welcome = String::new();
    let names = interfaces::lan_names().map_err(|error| format!("the network interfaces can't be listed: {error}"))?;
    for host in names.url_hosts(addr.ip()) {
        welcome += &format!("Open {scheme}://{host}:{}{}/\n", addr.port(), config.prefix);
    }
    if let Some(tls) = &tls {
        welcome += &format!("Certificate SHA-256 {}\n", tls.fingerprint());
    }
    // For a person; that nobody reads standard output, or that it is closed, is no reason not to serve.
    std::thread::spawn(move || std::io::stdout().write_all(welcome.as_bytes()));
    let addrs: Vec<_> = candidates.iter().map(ToString::to_string).collect();
    info!("media on UDP {}, announced as {}", udp.local_addr(), addrs.join(" "));
    match config.token_secret {
        Some(_) => info!("whoever joins needs a token"),
        None => info!("open to everybody who reaches it; --token-secret-file (TOKEN_SECRET_FILE) asks for tokens"),
    }

    tell_bounds(&config);

    let now = Instant::now();
    let wall = wall(now);
    let setup = Setup { config, assets, candidates, wall, seed };
    let mut reactor = Reactor::new(Server::new(now, setup), listener, udp, announced, tls, www)
        .map_err(|error| format!("the system refuses what the loop needs: {error}"))?;
    reactor.run().map_err(|error| format!("the loop can't go on: {error}"))
}

/// Says how far clients can make the server grow, and whether the machine has as much.
fn tell_bounds(config: &Config) {
    let limits = &config.limits;
    let bounds = Bounds::new(limits, Tcp::MAX_BYTES);
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    info!(
        "memory in the worst case, where all participants attack (calls take far less): {} MB each, {} MB a full room, \
         {} MB in all",
        megabytes(bounds.participant),
        megabytes(bounds.room),
        megabytes(bounds.total),
    );
    if let Some(memory) = machine::memory().filter(|memory| *memory < bounds.total) {
        info!(
            "this machine has {} MB: --max-participants {} (MAX_PARTICIPANTS) is what it could stand even then",
            megabytes(memory),
            bounds.participants_within(memory).max(1),
        );
    }
    let needed = (limits.max_conns + machine::OWN_DESCRIPTORS) as u64;
    match machine::descriptors() {
        Some(limit) if limit < needed => warn!(
            "descriptors: {limit} are allowed (ulimit -n, LimitNOFILE), and {needed} needed for --max-conns {} (MAX_CONNS): \
             beyond that connections wait",
            limits.max_conns
        ),
        _ => info!("descriptors: {needed} at most"),
    }
}

/// The secret is all of the file but the end of its last line, which editors and `echo` add.
fn read_secret(file: &Path) -> Result<Secret, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("the file can't be read: {error}"))?;
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    Secret::new(&bytes[..end])
}

/// What the system says, and what to do about it.
fn why(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("{error}; stop what runs there, or take another port, like :8081"),
        ErrorKind::PermissionDenied => format!("{error}; ports below 1024 need a privilege"),
        _ => error.to_string(),
    }
}

/// Listens; where the machine has no IPv6, its wildcard means that of IPv4.
fn listen(addr: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).or_else(|error| match v4_wildcard(addr, &error) {
        Some(addr) => TcpListener::bind(addr),
        None => Err(error),
    })?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Binds the media socket; port 0 means the port that was got for TCP.
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
