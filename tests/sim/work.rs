//! The work that one event causes: proportional to what happened, not to the number of participants that wait.

use std::time::Duration;

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

/// Time after which everything caused by an event is done. Periodic work of peers during that time is subtracted.
const DONE: Duration = Duration::from_millis(300);

/// The server's counters.
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

fn room(seed: u64, participants: usize) -> Sim {
    let rate = Rate { audio: secs(1), video: secs(1), ..Rate::LEAN };
    let mut world = World { rate, ..World::new(seed) };
    world.config.limits.max_room_size = participants + 1;
    let mut sim = Sim::with(world);
    // A publisher, so that the media of every participant connects.
    sim.join_as("host", |habits| habits.sources = vec![Microphone]);
    sim.run(secs(1));
    for number in 1..participants {
        sim.watch(&format!("p{number}"));
        sim.run(millis(5));
    }
    sim.run(millis(1_500));
    sim
}

/// The work caused by `event`, without the timeouts that occur anyway.
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

fn assert_proportional(sim: &mut Sim, name: &str, participants: usize, event: impl FnOnce(&mut Sim)) {
    let work = cost(sim, event);
    println!("{name} in a room of {participants}: {work:?}");
    // The publisher gets an offer too.
    assert_eq!(work.offers, participants as u64, "{name} in a room of {participants}: {work:?}");
    assert_eq!(work.answers, work.offers, "{name} in a room of {participants}: {work:?}");
    // One for each offer and one for each answer.
    assert!(work.peer_timeouts <= 3 * participants as u64 + 20, "{name} in a room of {participants}: {work:?}");
    // At least one turn for each, so that media is forwarded in between.
    let operations = work.offers + work.answers;
    assert!(work.turns >= operations, "{name} in a room of {participants}: {work:?}");
}

#[test]
fn an_event_costs_each_participant_one_offer_and_one_answer_in_separate_turns() {
    for (seed, participants) in [(810, 10), (811, 50), (812, 200)] {
        let mut sim = room(seed, participants);
        assert_proportional(&mut sim, "publishing", participants, |sim| sim.publish("p1", Camera));
        assert!((2..participants).all(|other| sim.browser(&format!("p{other}")).page.received().count() == 2));
        assert_proportional(&mut sim, "unpublishing", participants, |sim| sim.unpublish("p1", Camera));
    }
}
