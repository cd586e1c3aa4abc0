//! The call that runs during attacks: three participants that each send audio and 1 Mbit/s of video.

use std::time::Duration;

#[allow(dead_code, reason = "the bench has more uses for it")]
#[path = "../../benches/load/client.rs"]
mod client;
#[allow(dead_code, reason = "the bench has more uses for it")]
#[path = "../../benches/load/counts.rs"]
mod counts;
#[allow(dead_code, reason = "the bench has more uses for it")]
#[path = "../../benches/load/generator.rs"]
mod generator;
#[allow(dead_code, reason = "the bench has more uses for it")]
#[path = "../../benches/load/process.rs"]
mod process;
#[allow(dead_code, reason = "the bench has more uses for it")]
#[path = "../../benches/load/shape.rs"]
mod shape;
#[path = "../../benches/load/socket.rs"]
mod socket;
#[path = "../../benches/wire/mod.rs"]
pub mod wire;

use generator::Generator;
use process::Server;
use shape::Shape;

use crate::process::Process;

/// Participants of the call.
pub const PEOPLE: usize = 3;

/// How long the generator sleeps after each turn, to leave CPU time to the attackers. Longer makes it send late.
const PAUSE: Duration = Duration::from_micros(500);

/// How long the call is measured after an attack.
const AFTERMATH: Duration = Duration::from_millis(300);

/// The call.
pub struct Call {
    generator: Generator,
    server: Server,
}

/// Effects of one attack on the call.
pub struct Noticed {
    /// Packets lost.
    pub lost: u64,
    /// Datagrams dropped at the call's own full sockets, which may be among the lost ones.
    pub overflowed: u64,
    /// Delays from a publisher's send to the arrival at a subscriber's socket.
    pub p99_ms: f64,
    pub longest_ms: f64,
    /// Share of a core that the server used.
    pub core: f64,
    /// Share of time in which the server or the call had work but other programs had the CPU.
    pub waited: f64,
}

impl Call {
    /// Lets all participants join.
    pub fn begin(process: &Process) -> Self {
        process::open_many_files();
        let server = Server::at(process.addr(), Some(process.id()));
        let generator = Generator::connect(&server, &Shape::conferences("call", 1, PEOPLE));
        Self { generator, server }
    }

    /// Runs the call until `attack`, on another thread, has ended, and at least for `least`.
    pub fn during<T: Send>(&mut self, least: Duration, attack: impl FnOnce() -> T + Send) -> (T, Noticed) {
        std::thread::scope(|scope| {
            let attack = scope.spawn(attack);
            let mut over = None;
            let measured = self.generator.run_while(&self.server, |_, elapsed| {
                std::thread::sleep(PAUSE);
                if over.is_none() && elapsed >= least && attack.is_finished() {
                    over = Some(elapsed);
                }
                over.is_none_or(|over| elapsed < over + AFTERMATH)
            });
            let outcome = attack.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            let noticed = Noticed {
                lost: measured.expected - measured.arrived,
                overflowed: measured.overflowed,
                p99_ms: measured.delays.at(0.99),
                longest_ms: measured.delays.at(1.0),
                core: measured.core().unwrap_or(f64::NAN),
                waited: measured.disturbed().max(measured.spent.waited),
            };
            (outcome, noticed)
        })
    }

    /// Resident memory of the server.
    pub fn rss_kb(&self) -> u64 {
        self.server.rss_kb().expect("the server runs on this machine")
    }
}
