//! The quality that a viewer of four cameras gets on many kinds of path, compared with the table in `quality.txt`.
//! `AQ_UPDATE=1` rewrites the table.

use std::fmt::Write;
use std::time::Duration;

use crate::media::{Camera, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/quality.txt");

const HEAD: &str = "\
# Quality of four cameras for one viewer, one with height 720 and three with height 360, over 10 s from the 8th on:
# random loss in each direction, in percent; capacity of the path, in kbit/s; media received, in kbit/s; 95th percentile
# of the queueing delay, in ms; number of times a picture stayed for more than 200 ms; mean picture height.
# Checked by tests/sim/quality.rs; `AQ_UPDATE=1 cargo test --test sim quality` rewrites it with medians of five runs.
loss capacity goodput waited freezes lines
";

const LOSSES: [u32; 4] = [0, 2, 5, 10];

/// In kbit/s; 0 means unlimited.
const CAPACITIES: [u64; 5] = [0, 5_000, 2_000, 1_000, 500];

const PEOPLE: [&str; 4] = ["ann", "ben", "cal", "dot"];

/// A picture that stays for longer than this counts as a freeze.
const FREEZE: Duration = millis(200);

/// The measurements of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    loss: u32,
    capacity: u64,
    /// kbit/s.
    goodput: u64,
    /// Milliseconds.
    waited: u64,
    freezes: u64,
    lines: u64,
}

impl Row {
    fn measure(loss: u32, capacity: u64) -> Self {
        let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(800 + u64::from(loss) + capacity) });
        sim.join_looking_away(&PEOPLE);
        sim.watch("bob");
        sim.run(millis(500));
        sim.set_path("bob", Path::GOOD.with_loss(f64::from(loss) / 100.0));
        if capacity > 0 {
            sim.narrow("bob", 1_000 * capacity);
        }
        sim.view("bob", "ann", Camera, 720, 1);
        PEOPLE[1..].iter().for_each(|name| sim.show("bob", name, 360));
        sim.run(secs(7));
        let since = sim.now;
        sim.run(secs(10));
        let seen = PEOPLE.iter().flat_map(|name| sim.seen_since("bob", name, Camera, since));
        let heights: Vec<_> = seen.map(|(_, stamp)| u64::from(stamp.height)).collect();
        let gaps = PEOPLE.iter().flat_map(|name| sim.gaps("bob", name, Camera, since));
        Self {
            loss,
            capacity,
            goodput: sim.received("bob", since) / 1_000,
            waited: if capacity > 0 { sim.queueing("bob", since).as_millis() as u64 } else { 0 },
            freezes: gaps.filter(|gap| *gap > FREEZE).count() as u64,
            lines: heights.iter().sum::<u64>() / heights.len().max(1) as u64,
        }
    }

    /// The median of each figure over `times` runs.
    fn median(loss: u32, capacity: u64, times: usize) -> Self {
        let rows: Vec<_> = (0..times).map(|_| Self::measure(loss, capacity)).collect();
        let middle = |figure: fn(&Row) -> u64| {
            let mut figures: Vec<_> = rows.iter().map(figure).collect();
            figures.sort_unstable();
            figures[times / 2]
        };
        Self {
            loss,
            capacity,
            goodput: middle(|row| row.goodput),
            waited: middle(|row| row.waited),
            freezes: middle(|row| row.freezes),
            lines: middle(|row| row.lines),
        }
    }

    /// Whether the rows are equal within the variation that the order of str0m's maps and the lengths of handshakes
    /// cause.
    fn is_near(&self, held: &Self) -> bool {
        let is_near = |one: u64, other: u64, most: u64| one.abs_diff(other) <= most;
        (self.loss, self.capacity) == (held.loss, held.capacity)
            && is_near(self.goodput, held.goodput, held.goodput / 5)
            && is_near(self.waited, held.waited, 90)
            && is_near(self.freezes, held.freezes, 8 + held.freezes / 2)
            && is_near(self.lines, held.lines, held.lines / 12)
    }

    fn read(line: &str) -> Self {
        let fields: Vec<u64> =
            line.split_whitespace().map(|field| field.parse().expect("a field is a number")).collect();
        let [loss, capacity, goodput, waited, freezes, lines] = fields[..] else {
            panic!("a row must have six fields: {line}");
        };
        Self { loss: loss as u32, capacity, goodput, waited, freezes, lines }
    }

    fn write(&self, out: &mut String) {
        let Self { loss, capacity, goodput, waited, freezes, lines } = self;
        writeln!(out, "{loss:>4} {capacity:>8} {goodput:>7} {waited:>6} {freezes:>7} {lines:>5}")
            .expect("writing to a string cannot fail");
    }
}

/// Measures rows of the table, each as the median of `times` runs.
fn measure(which: &[(u32, u64)], times: usize) -> Vec<Row> {
    std::thread::scope(|scope| {
        let rows = which.iter().map(|(loss, capacity)| scope.spawn(move || Row::median(*loss, *capacity, times)));
        let rows: Vec<_> = rows.collect();
        rows.into_iter().map(|row| row.join().expect("the simulation's invariants hold")).collect()
    })
}

#[test]
fn measured_quality_matches_the_table() {
    let paths = LOSSES.iter().flat_map(|loss| CAPACITIES.iter().map(|capacity| (*loss, *capacity)));
    let paths: Vec<_> = paths.collect();
    let write = |rows: &[Row]| {
        let mut text = String::from(HEAD);
        rows.iter().for_each(|row| row.write(&mut text));
        text
    };
    if std::env::var_os("AQ_UPDATE").is_some() {
        return std::fs::write(FILE, write(&measure(&paths, 5))).expect("quality.txt can be written");
    }
    let text = std::fs::read_to_string(FILE).expect("quality.txt exists");
    let lines = text.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit()));
    let held: Vec<Row> = lines.map(Row::read).collect();
    assert_eq!(held.iter().map(|row| (row.loss, row.capacity)).collect::<Vec<_>>(), paths, "rows of {FILE}");
    let mut rows = measure(&paths, 1);
    let is_off = |row: &Row| held.iter().all(|held| !row.is_near(held));
    let off: Vec<_> = rows.iter().filter(|row| is_off(row)).map(|row| (row.loss, row.capacity)).collect();
    // A single run may be an outlier.
    for again in measure(&off, 3) {
        let row = rows.iter_mut().find(|row| (row.loss, row.capacity) == (again.loss, again.capacity));
        *row.expect("the row was measured before") = again;
    }
    let off: Vec<_> = rows.iter().filter(|row| is_off(row)).collect();
    assert!(
        off.is_empty(),
        "{FILE} has\n{text}\nbut the measurement is\n{}\n`AQ_UPDATE=1` rewrites the file",
        write(&rows)
    );
}
