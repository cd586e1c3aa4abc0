//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::shape::{self, Shape};

/// What one core carries: the real server on one core, live receivers on the others.
///
/// Without flags it measures the shapes of docs/performance.md; with --rooms or --size any other, to plan capacity.
#[derive(Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
pub struct Flags {
    /// Rooms of a shape of your own
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    rooms: Option<u64>,
    /// Participants in each of its rooms
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    size: Option<u64>,
    /// How many of each room publish; the others watch [default: all]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    publishers: Option<u64>,
    /// Video of each publisher
    #[arg(long, value_name = "KBPS", value_parser = at_least(1))]
    video_kbps: Option<u64>,
    /// Packets of a frame leave one by one, as a browser's pacer sends them
    #[arg(long)]
    paced: bool,
    /// Publishers send 50 audio packets a second too
    #[arg(long)]
    audio: bool,
    /// Time for which each shape is measured [default: 10, with --quick 2]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    seconds: Option<u64>,
    /// Few small shapes, in less than a minute
    #[arg(long)]
    pub quick: bool,
    /// Only shapes whose name contains this, "storm" for the joins
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rooms", "size"])]
    pub only: Option<String>,
    /// Find the highest load that is held, of watchers of one publisher or of rooms of --size
    #[arg(long, value_name = "OF")]
    pub ramp: Option<Ramp>,
    /// Let people come and go for so long, and tell what has grown after the first minute
    #[arg(long, value_name = "SECONDS", conflicts_with = "ramp", value_parser = at_least(1))]
    pub soak: Option<u64>,
    /// Fail if a packet costs more than a bare send of it, or a load is not held
    #[arg(long)]
    pub check: bool,
    /// Write all figures here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a picture of the cost against subscribers here
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Load a server that runs already, instead of starting one
    #[arg(long, value_name = "HOST:PORT", value_parser = resolve)]
    pub addr: Option<SocketAddr>,
    /// The process of that server, if it runs on this machine: its time and memory are read
    #[arg(long, value_name = "PID", requires = "addr")]
    pub pid: Option<u32>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a ramp steps up.
#[derive(Clone, Copy, ValueEnum)]
pub enum Ramp {
    /// Watchers of one publisher
    Watchers,
    /// Rooms of --size, everybody publishing
    Rooms,
}

impl Flags {
    /// Returns the shapes to measure.
    pub fn shapes(&self) -> Vec<Shape> {
        let shapes = if self.is_custom() {
            vec![self.custom(self.rooms.unwrap_or(1) as usize)]
        } else if self.quick {
            shape::quick()
        } else {
            shape::all()
        };
        let only = self.only.as_deref().unwrap_or_default();
        shapes.into_iter().filter(|shape| shape.name.contains(only)).collect()
    }

    /// Returns the shape that the flags describe, with `rooms` rooms.
    pub fn custom(&self, rooms: usize) -> Shape {
        let size = self.size.unwrap_or(4) as usize;
        Shape {
            name: format!("{rooms} of {size}").into(),
            rooms,
            size,
            publishers: self.publishers.map_or(size, |publishers| (publishers as usize).min(size)),
            video_kbps: self.video_kbps.unwrap_or(1_000) as usize,
            paced: self.paced,
            audio: self.audio,
            chat: false,
        }
    }

    /// Returns true if the join storm is to be measured.
    pub fn storms(&self) -> bool {
        !self.is_custom() && self.only.as_deref().is_none_or(|only| "join storm".contains(only))
    }

    /// Returns how long each shape is measured.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 2 } else { 10 }))
    }

    /// Returns how long each floor is measured.
    pub fn floor_time(&self) -> Duration {
        Duration::from_millis(if self.quick { 700 } else { 2_000 })
    }

    fn is_custom(&self) -> bool {
        self.rooms.is_some() || self.size.is_some()
    }
}

fn at_least(least: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(least..=20_000)
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let addrs = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addrs.into_iter().find(SocketAddr::is_ipv4).ok_or_else(|| "the bench needs an IPv4 address".to_owned())
}
