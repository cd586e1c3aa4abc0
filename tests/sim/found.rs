//! Faults that plans have found, each as short as it could be made.

use crate::media::{Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

#[test]
fn a_screen_that_is_withdrawn_and_published_again_at_once_is_seen() {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(200) });
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.publish("ann", Screen); sim.unpublish("ann", Screen); sim.run(secs(2)); sim.publish("ann", Screen);
    sim.run(secs(2));
    sim.assert_complete("main");
    sim.unpublish("ann", Screen);
    sim.publish("ann", Screen);
    sim.run(secs(2));
    for n in ["ann","bob"] { eprintln!("{n} {:?} {:?} offers {}", sim.browser(n).page.errors, sim.browser(n).closed, sim.browser(n).page.offers); }
    eprintln!("{:?}", sim.publication("ann", Screen).mid);
    sim.run(secs(30));
    for n in ["ann","bob"] { eprintln!("{n} {:?} {:?} offers {}", sim.browser(n).page.errors, sim.browser(n).closed, sim.browser(n).page.offers); }
    sim.assert_complete("main");
    let _ = millis(1);
}
