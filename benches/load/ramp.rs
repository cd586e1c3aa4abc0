//! Searches for the highest load of a kind that the server holds.

use serde_json::{Value, json};

use super::flags::{Flags, Ramp};
use super::report::{Row, print_load_heading};
use super::shape::Shape;

/// Maximum number of measurements of a step if other programs disturb it.
const TRIES: u32 = 3;

/// The first step, and the last one: the generator has no addresses for more.
const FIRST: usize = 16;
const MOST: usize = 16_000;

/// Doubles the load until it is not held, then bisects.
pub fn climb(flags: &Flags, ramp: Ramp, measure: impl Fn(&Shape) -> Row) -> Value {
    let (what, shape): (_, &dyn Fn(usize) -> Shape) = match ramp {
        Ramp::Watchers => ("watchers", &Shape::watchers),
        Ramp::Rooms => ("rooms", &|rooms| flags.custom(rooms)),
    };
    print_load_heading();
    let (mut held, mut failed, mut full, mut disturbed) = (None::<(usize, Row)>, None, false, false);
    loop {
        let (low, high) = (held.as_ref().map_or(0, |(count, _)| *count), failed);
        let next = match high {
            None => (low * 2).max(FIRST),
            Some(high) => low.midpoint(high),
        };
        // Stop when the interval is at most a twelfth of the load.
        if high.is_some_and(|high| high - low <= (high / 12).max(1)) || next > MOST {
            break;
        }
        let mut tries = 0;
        let row = loop {
            let row = measure(&shape(next));
            row.print_load();
            tries += 1;
            // Repeat a step that was not held while other programs disturbed it.
            if row.is_held() || tries == TRIES || !row.is_disturbed() {
                break row;
            }
        };
        disturbed |= !row.is_held() && row.is_disturbed();
        full |= row.is_generator_full();
        if row.is_held() {
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
    } else if disturbed {
        "the machine was not quiet, so that it may be more"
    } else {
        "above it, packets were lost or late"
    };
    println!("held: {count} {what}, {:.0} packets/s; {limit}", row.measured.rate());
    json!({ "ramp": what, "held": count, "generator_was_the_limit": full, "disturbed": disturbed, "at": row.to_json() })
}
