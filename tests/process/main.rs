//! Tests of the binary as a process on loopback, with real sockets, for what the simulation cannot show.
//!
//! They cover flags and exit codes, HTTP, the WebSocket upgrade, media over UDP with IPv4 and IPv6, signals, and reverse
//! proxies. Nothing waits longer than `process::DEADLINE`.

mod client;
#[path = "../files/mod.rs"]
mod files;
mod folder;
mod http;
mod process;
#[path = "../token/mod.rs"]
mod token;
mod wire;

mod flags;
mod gather;
mod interfaces;
mod logs;
mod media;
mod metrics;
mod nginx;
mod notice;
mod origin;
mod page;
mod proxies;
mod shutdown;
mod tls;
mod tokens;
