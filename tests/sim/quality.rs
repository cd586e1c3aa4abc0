//! What a viewer of four cameras gets, for many paths: the table in `quality.txt`, which is held. `AQ_UPDATE=1` rewrites it.

use std::fmt::Write;
use std::time::Duration;

use crate::media::{Camera, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/quality.txt");

const HEAD: &str = "\
# What somebody gets who watches four cameras, one on 720 lines and three on 360, in 10 seconds from the 8th on: packets
# lost at random each way, in percent; what the path carries, in kbit/s; what came of media; how long 95 % waited in the
# path's queue, in milliseconds; how often a picture stood for more than 200 ms; how many lines the pictures had.
# Held by tests/sim/quality.rs; `AQ_UPDATE=1 cargo test --test sim quality` writes it anew, the middle of five runs.
loss capacity goodput waited freezes lines
";

const LOSSES: [u32; 4] = [0, 2, 5, 10];

/// In kbit/s; what is 0 has no bound.
const CAPACITIES: [u64; 5] = [0, 5_000, 2_000, 1_000, 500];

const PEOPLE: [&str; 4] = ["ann", "ben", "cal", "dot"];

/// A picture that stands for so long is a freeze.
const FREEZE: Duration = millis(200);

/// What is measured of one path.
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

    /// The middle of each figure in so many runs.
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

    /// Whether it is the same but for what the order of str0m's maps and the lengths of handshakes make of it.
    fn is_near(&self, held: &Self) -> bool {
        let is_near = |one: u64, other: u64, most: u64| one.abs_diff(other) <= most;
        (self.loss, self.capacity) == (held.loss, held.capacity)
            && is_near(self.goodput, held.goodput, held.goodput / 5)
            && is_near(self.waited, held.waited, 90)
            && is_near(self.freezes, held.freezes, 8 + held.freezes / 2)
            && is_near(self.lines, held.lines, held.lines / 12)
    }

    fn read(line: &str) -> Self {
        let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().expect("a number")).collect();
        let [loss, capacity, goodput, waited, freezes, lines] = fields[..] else {
            panic!("six fields: {line}");
        };
        Self { loss: loss as u32, capacity, goodput, waited, freezes, lines }
    }

    fn write(&self, out: &mut String) {
        let Self { loss, capacity, goodput, waited, freezes, lines } = self;
        writeln!(out, "{loss:>4} {capacity:>8} {goodput:>7} {waited:>6} {freezes:>7} {lines:>5}").expect("a string");
    }
}

/// Measures some of the rows of the table, each so many times, and gives of each figure what is in the middle.
fn measure(which: &[(u32, u64)], times: usize) -> Vec<Row> {
    std::thread::scope(|scope| {
        let rows = which.iter().map(|(loss, capacity)| scope.spawn(move || Row::median(*loss, *capacity, times)));
        let rows: Vec<_> = rows.collect();
        rows.into_iter().map(|row| row.join().expect("what is true of any simulation holds")).collect()
    })
}

#[test]
fn paths_carry_what_the_table_says() {
    let paths = LOSSES.iter().flat_map(|loss| CAPACITIES.iter().map(|capacity| (*loss, *capacity)));
    let paths: Vec<_> = paths.collect();
    let write = |rows: &[Row]| {
        let mut text = String::from(HEAD);
        rows.iter().for_each(|row| row.write(&mut text));
        text
    };
    if std::env::var_os("AQ_UPDATE").is_some() {
        return std::fs::write(FILE, write(&measure(&paths, 5))).expect("the file can be written");
    }
    let text = std::fs::read_to_string(FILE).expect("the file is there");
    let lines = text.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit()));
    let held: Vec<Row> = lines.map(Row::read).collect();
    assert_eq!(held.iter().map(|row| (row.loss, row.capacity)).collect::<Vec<_>>(), paths, "the rows of {FILE}");
    let mut rows = measure(&paths, 1);
    let is_off = |row: &Row| held.iter().all(|held| !row.is_near(held));
    let off: Vec<_> = rows.iter().filter(|row| is_off(row)).map(|row| (row.loss, row.capacity)).collect();
    // One run may be unlucky.
    for again in measure(&off, 3) {
        let row = rows.iter_mut().find(|row| (row.loss, row.capacity) == (again.loss, again.capacity));
        *row.expect("it was measured before") = again;
    }
    let off: Vec<_> = rows.iter().filter(|row| is_off(row)).collect();
    assert!(off.is_empty(), "{FILE} says\n{text}\nand measured is\n{}\n`AQ_UPDATE=1` takes it as it is", write(&rows));
}
