//! The work that one event costs: in proportion to what happened, not to how many wait.

use std::time::Duration;

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

/// The time in which all that an event causes is done. What peers do by themselves in as much time does not count.
const DONE: Duration = Duration::from_millis(300);

/// What the server counted.
#[derive(Clone, Copy, Debug)]
struct Work {
    turns: u64,
    offers: u64,
    answers: u64,
    peer_timeouts: u64,
}

impl Work {
    fn of(sim: &Sim) -> Self {
        let stats = sim.server.stats();
        let &aq_server::stats::Stats { turns, offers, answers, peer_timeouts, .. } = stats;
        Self { turns, offers, answers, peer_timeouts }
    }

    fn since(self, before: Self) -> Self {
        Self {
            turns: self.turns - before.turns,
            offers: self.offers - before.offers,
            answers: self.answers - before.answers,
            peer_timeouts: self.peer_timeouts - before.peer_timeouts,
        }
    }
}

fn room(seed: u64, people: usize) -> Sim {
    let rate = Rate { audio: secs(1), video: secs(1), ..Rate::LEAN };
    let mut world = World { rate, ..World::new(seed) };
    world.config.limits.max_room_size = people + 1;
    let mut sim = Sim::with(world);
    // Somebody to hear, so that everybody's media is connected.
    sim.join_as("host", |habits| habits.sources = vec![Microphone]);
    sim.run(secs(1));
    for number in 1..people {
        sim.watch(&format!("p{number}"));
        sim.run(millis(5));
    }
    sim.run(millis(1_500));
    sim
}

/// What an event costs; of timeouts those beyond what happens anyway.
fn cost(sim: &mut Sim, event: impl FnOnce(&mut Sim)) -> Work {
    let before = Work::of(sim);
    sim.run(DONE);
    let idle = Work::of(sim).since(before);
    let before = Work::of(sim);
    event(sim);
    sim.run(DONE);
    let work = Work::of(sim).since(before);
    let peer_timeouts = work.peer_timeouts.saturating_sub(idle.peer_timeouts);
    Work { peer_timeouts, ..work }
}

fn assert_proportional(sim: &mut Sim, name: &str, people: usize, event: impl FnOnce(&mut Sim)) {
    let work = cost(sim, event);
    println!("{name} in a room of {people}: {work:?}");
    // Whose track it is gets one too.
    assert_eq!(work.offers, people as u64, "{name} in a room of {people}: {work:?}");
    assert_eq!(work.answers, work.offers, "{name} in a room of {people}: {work:?}");
    // One for each offer and one for each answer.
    assert!(work.peer_timeouts <= 3 * people as u64 + 20, "{name} in a room of {people}: {work:?}");
    // One turn for each of them, so that media passes between two.
    let operations = work.offers + work.answers;
    assert!(work.turns >= operations, "{name} in a room of {people}: {work:?}");
}

#[test]
fn an_event_costs_each_participant_one_offer_and_one_answer_in_turns_of_their_own() {
    for (seed, people) in [(810, 10), (811, 50), (812, 200)] {
        let mut sim = room(seed, people);
        assert_proportional(&mut sim, "one who publishes", people, |sim| sim.publish("p1", Camera));
        assert!((2..people).all(|other| sim.browser(&format!("p{other}")).page.received().count() == 2));
        assert_proportional(&mut sim, "one who stops", people, |sim| sim.unpublish("p1", Camera));
    }
}
