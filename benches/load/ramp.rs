//! The highest load of a kind that is held.

use serde_json::{Value, json};

use crate::flags::{Flags, Ramp};
use crate::report::{BUSY, Row, print_load_heading};
use crate::shape::Shape;

/// The first step of each kind, and where it ends for lack of addresses.
const FIRST: usize = 16;
const MOST: usize = 16_000;

/// Steps up until a load is not held, then halves the interval until it is narrow.
pub fn climb(flags: &Flags, ramp: Ramp, measure: impl Fn(&Shape) -> Row) -> Value {
    let (what, shape): (_, &dyn Fn(usize) -> Shape) = match ramp {
        Ramp::Watchers => ("watchers", &Shape::watchers),
        Ramp::Rooms => ("rooms", &|rooms| flags.custom(rooms)),
    };
    print_load_heading();
    let (mut held, mut failed, mut full) = (None::<(usize, Row)>, None, false);
    loop {
        let (low, high) = (held.as_ref().map_or(0, |(count, _)| *count), failed);
        let next = match high {
            None => (low * 2).max(FIRST),
            Some(high) => low.midpoint(high),
        };
        // Narrow enough: a twelfth.
        if high.is_some_and(|high| high - low <= (high / 12).max(1)) || next > MOST {
            break;
        }
        let row = measure(&shape(next));
        row.print_load();
        full |= row.measured.spent.busy > BUSY;
        if row.measured.is_held() {
            held = Some((next, row));
        } else {
            failed = Some(next);
        }
    }
    let Some((count, row)) = held else {
        println!("not even one step is held");
        return json!({ "ramp": what, "held": 0 });
    };
    let limit = if full {
        "the generator's core was full, so that this is the highest load that it could make"
    } else {
        "above it, the server's core was the limit"
    };
    println!("held: {count} {what}, {:.0} packets/s; {limit}", row.measured.rate());
    json!({ "ramp": what, "held": count, "generator_was_the_limit": full, "at": row.to_json() })
}
