//! The results of one shape, as table rows and as JSON.

use serde_json::{Value, json};

use super::counts::{HELD_DELIVERY, Measured};
use super::floor::Floors;
use super::shape::Shape;

/// Share of the generator's core above which the generator may be the limit.
const BUSY: f64 = 0.9;

/// Share of a shape's packets that the generator has to send for a valid result.
const OFFERED: f64 = 0.98;

/// Share of time waiting for a core above which other programs disturbed the measurement.
const DISTURBED: f64 = 0.02;

/// The results of a shape.
pub struct Row {
    pub shape: Shape,
    pub measured: Measured,
    /// Seconds until all participants had joined.
    pub joined_s: f64,
    /// Server memory per participant, and mean length of its segmented sends, if known.
    pub kb_each: Option<f64>,
    pub run_length: Option<f64>,
    pub floors: Option<Floors>,
}

/// Prints the heading of the load table.
pub fn print_load_heading() {
    println!(
        "{:<17} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>8} {:>9} {:>7}",
        "load", "packets/s", "delivery", "p50 ms", "p99 ms", "p99.9", "core", "join s", "KB each", "gen."
    );
}

impl Row {
    /// Prints the row of the load table. It counts chat messages if the shape has no media.
    pub fn print_load(&self) {
        let measured = &self.measured;
        let delays = measured.shown_delays();
        let rate = (measured.arrived + measured.lines.count()) as f64 / measured.spent.elapsed.as_secs_f64();
        println!(
            "{:<17} {:>9.0} {:>8.3}% {:>8.2} {:>8.2} {:>8.2} {:>7} {:>8.1} {:>9} {:>6.0}%",
            self.shape.name,
            rate,
            measured.delivery() * 100.0,
            delays.at(0.5),
            delays.at(0.99),
            delays.at(0.999),
            measured.core().map_or("-".to_owned(), |core| format!("{:.1}%", core * 100.0)),
            self.joined_s,
            shown(self.kb_each, 0),
            measured.spent.busy * 100.0,
        );
        if !measured.is_held() {
            println!("  not held: that takes 99.9 % delivery and a p99 below 5 ms");
        }
        if measured.spent.busy > BUSY {
            println!("  the generator's core was nearly full: the server may carry more, and sooner");
        }
        if measured.disturbed() > DISTURBED {
            println!(
                "  something else ran on the server's core for {:.0} % of the time while the server had work",
                measured.disturbed() * 100.0
            );
        }
        if measured.spent.waited > DISTURBED {
            println!(
                "  something else ran on the generator's core for {:.0} % of the time",
                measured.spent.waited * 100.0
            );
        }
        if self.offered() < OFFERED {
            println!("  the generator could send {:.0} % of this load", self.offered() * 100.0);
        }
        if measured.overflowed > 0 {
            println!(
                "  {} datagrams found the generator's receive buffers full (raise net.core.rmem_max): not the \
                 server's fault",
                measured.overflowed
            );
        }
    }

    /// Prints the row of the cost table, unless packets were lost.
    pub fn print_cost(&self) {
        let (Some(us), Some(floors)) = (self.us_per_packet(), self.floors) else { return };
        println!(
            "{:<17} {:>9.2} {:>9.2} {:>6.2} {:>12.2} {:>6.2} {:>12.2} {:>6.2} {:>10}",
            self.shape.name,
            us,
            floors.bare,
            us / floors.bare,
            floors.runs_of_4,
            us / floors.runs_of_4,
            floors.runs_of_8,
            us / floors.runs_of_8,
            shown(self.run_length, 2),
        );
    }

    /// Returns the share of the shape's packets that the generator sent.
    fn offered(&self) -> f64 {
        let (video, audio) = self.shape.forwarded_per_second();
        if self.shape.publishers == 0 {
            return 1.0;
        }
        self.measured.expected as f64 / (video + audio) / self.measured.spent.elapsed.as_secs_f64()
    }

    /// Returns true if the generator was at its limit.
    pub fn is_generator_full(&self) -> bool {
        self.measured.spent.busy > BUSY || self.offered() < OFFERED
    }

    /// Returns true if the server held the whole load.
    pub fn is_held(&self) -> bool {
        self.measured.is_held() && self.offered() >= OFFERED
    }

    /// Returns true if other programs used the server's or the generator's core.
    pub fn is_disturbed(&self) -> bool {
        self.measured.disturbed().max(self.measured.spent.waited) > DISTURBED
    }

    /// Returns the server's CPU microseconds per forwarded packet, or `None` if packets were lost: an overloaded server
    /// forwards the remaining ones at a lower cost.
    pub fn us_per_packet(&self) -> Option<f64> {
        let us = self.measured.us_per_packet()?;
        (self.measured.delivery() >= HELD_DELIVERY).then_some(us)
    }

    /// Returns the cost of a packet as a multiple of a bare send.
    pub fn times_bare(&self) -> Option<f64> {
        Some(self.us_per_packet()? / self.floors?.bare)
    }

    /// Returns all results.
    pub fn to_json(&self) -> Value {
        let (shape, measured) = (&self.shape, &self.measured);
        json!({
            "shape": shape.name, "rooms": shape.rooms, "size": shape.size, "publishers": shape.publishers,
            "video_kbps": shape.video_kbps, "audio": shape.audio, "chat": shape.chat,
            "packets_per_s": measured.rate(), "delivery": measured.delivery(), "worst_delivery": measured.worst,
            "chat_lines": measured.lines.count(), "cpu": measured.core(), "us_per_packet": self.us_per_packet(),
            "floor_4_us": self.floors.map(|floors| floors.runs_of_4),
            "floor_8_us": self.floors.map(|floors| floors.runs_of_8),
            "bare_us": self.floors.map(|floors| floors.bare), "times_bare": self.times_bare(),
            "p50_ms": measured.shown_delays().at(0.5), "p99_ms": measured.shown_delays().at(0.99),
            "p999_ms": measured.shown_delays().at(0.999), "max_ms": measured.shown_delays().at(1.0),
            "join_s": self.joined_s, "run_length": self.run_length, "kb_per_participant": self.kb_each,
            "generator_offered": self.offered(), "generator_busy": measured.spent.busy, "generator_late_ms": measured.late.as_secs_f64() * 1e3,
            "generator_overflowed": measured.overflowed, "generator_waited": measured.spent.waited, "server_waited": measured.disturbed(),
        })
    }
}

/// Prints the heading of the cost table.
pub fn print_cost_heading() {
    println!(
        "\n{:<17} {:>9} {:>9} {:>6} {:>12} {:>6} {:>12} {:>6} {:>10}",
        "cost", "us/packet", "bare send", "ratio", "sealed by 4", "ratio", "sealed by 8", "ratio", "run length"
    );
}

/// Formats an optional figure.
fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}
