//! A join storm: the effect of 200 joins within a second on a call in progress.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Role;
use super::generator::Generator;
use super::process::{Server, take_turn};
use super::shape::Shape;

/// Number of joins, participants per room, and the time in which all joins start.
const JOINS: usize = 200;
const ROOM: usize = 4;
const TIME: Duration = Duration::from_secs(1);

/// How long the call runs before the storm.
const CALM: Duration = Duration::from_secs(3);

/// Time limit for all joins.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures and prints.
pub fn measure(server: Server) -> Value {
    let _turn = take_turn();
    let call = Shape::conferences("join storm", 1, 4);
    let mut generator = Generator::connect(&server, &call);
    let calm = generator.run(CALM, &server);
    let calm_ms = calm.delays.at(1.0);
    let mut came = 0;
    let mut all_in = None;
    let begin = Instant::now();
    let storm = generator.run_while(&server, |generator, elapsed| {
        while came < JOINS && elapsed >= TIME * came as u32 / JOINS as u32 {
            let role =
                Role { room: 1 + came / ROOM, publishes: true, sampled: false, tracks: 2 * (ROOM - 1), video_bytes: 0 };
            generator.join(role);
            came += 1;
        }
        if came == JOINS && generator.joining() == 0 {
            all_in.get_or_insert_with(|| begin.elapsed());
        }
        assert!(elapsed < PATIENCE, "{} of {JOINS} do not connect", generator.joining());
        all_in.is_none()
    });
    let all_in = all_in.expect("waited for").as_secs_f64();
    let delivery = storm.delivery();
    let longest_ms = storm.delays.at(1.0);
    let late_ms = storm.late.as_secs_f64() * 1e3;
    println!(
        "\n{JOINS} joins in {} s, rooms of {ROOM}: all connected after {all_in:.1} s. A call of {} meanwhile: \
         longest delay {longest_ms:.1} ms, p99 {:.2} ms (before: {calm_ms:.1} ms), delivery {:.3} %; the server's core {:.0} %; \
         the generator was late by {late_ms:.1} ms at most.",
        TIME.as_secs(),
        call.size,
        storm.delays.at(0.99),
        delivery * 100.0,
        storm.core().unwrap_or(f64::NAN) * 100.0,
    );
    server.stop();
    json!({
        "shape": call.name, "joins": JOINS, "all_connected_s": all_in, "longest_delay_ms": longest_ms,
        "longest_delay_before_ms": calm_ms, "p99_ms": storm.delays.at(0.99), "delivery": delivery,
        "generator_late_ms": late_ms, "cpu": storm.core(),
    })
}
