//! The call that goes on while the server is attacked: three people who send sound and a megabit of video each.

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

/// How many people talk.
pub const PEOPLE: usize = 3;

/// The generator leaves its core to the attackers for so long after each turn. Longer makes it send late.
const PAUSE: Duration = Duration::from_micros(500);

/// How long what an attack leaves behind is watched.
const AFTERMATH: Duration = Duration::from_millis(300);

/// The call.
pub struct Call {
    generator: Generator,
    server: Server,
}

/// What it noticed of one attack.
pub struct Noticed {
    /// Packets that did not come.
    pub lost: u64,
    /// Of these at most: what found the call's own sockets full.
    pub overflowed: u64,
    /// From a publisher's send to the arrival at a subscriber's socket.
    pub p99_ms: f64,
    pub longest_ms: f64,
    /// The share of a core that the server used.
    pub core: f64,
    /// The share of the time in which server or call had work, and others the processor.
    pub waited: f64,
}

impl Call {
    /// Everybody joins.
    pub fn begin(process: &Process) -> Self {
        process::open_many_files();
        let server = Server::at(process.addr(), Some(process.id()));
        let generator = Generator::connect(&server, &Shape::conferences("call", 1, PEOPLE));
        Self { generator, server }
    }

    /// Talks until `attack`, on a thread of its own, is over, and at least for so long.
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
        self.server.rss_kb().expect("it runs here")
    }
}
