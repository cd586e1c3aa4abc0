//! The real binary as a process on loopback, with real sockets: what no simulation shows.
//!
//! A few tests on top of the others: flags and exit codes, HTTP, the WebSocket upgrade, media over UDP in both
//! families, signals, and nginx in front. Nothing waits longer than `process::DEADLINE`.

mod client;
mod folder;
mod http;
mod process;
#[path = "../token/mod.rs"]
mod token;
mod wire;

mod flags;
mod interfaces;
mod logs;
mod media;
mod nginx;
mod origin;
mod page;
mod proxies;
mod shutdown;
mod tls;
mod tokens;
