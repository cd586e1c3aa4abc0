//! Drives the whole server from an input: participants join, leave and send anything in any order.

use std::time::Duration;

use aq_server::server::Input;

use crate::cursor::Cursor;
use crate::datagrams;
use crate::world::{Answers, World};

const ROOMS: [&str; 3] = ["main", "other", "%C3%A4%00"];
const KINDS: [&str; 2] = ["audio", "video"];
const SOURCES: [&str; 3] = ["microphone", "camera", "screen"];

/// Default drain time of the server.
const DRAIN: Duration = Duration::from_secs(3);

/// Maximum number of participants; each may connect media.
const CLIENTS: usize = 6;

pub fn program(data: &[u8]) {
    let mut program = Cursor(data);
    let mut world = World::take(true);
    for _ in 0..64 {
        if program.is_empty() {
            break;
        }
        step(&mut world, &mut program);
    }
    if program.byte() == 0xff {
        world.server.handle_input(world.now, Input::Shutdown);
        world.run(DRAIN);
        assert!(world.has_exited, "the server exits after the drain");
    } else {
        world.finish();
    }
}

fn step(world: &mut World, program: &mut Cursor) {
    let kind = program.below(16);
    if kind < 3 {
        if world.clients.len() < CLIENTS {
            let answers = [Answers::Never, Answers::Nothing, Answers::All][kind];
            world.join(ROOMS[program.below(ROOMS.len())], datagrams::NAMES[program.below(2)], answers);
        }
        return;
    }
    // All clients except Ann and Bob.
    let others = world.clients.len() - 2;
    if others == 0 {
        return;
    }
    let who = 2 + program.below(others);
    match kind {
        3 => world.data(who, program.bytes()),
        4 => {
            let text = String::from_utf8_lossy(program.bytes()).into_owned();
            world.text(who, &text);
        }
        5 => {
            let (kind, source) = (KINDS[program.below(2)], SOURCES[program.below(3)]);
            let event = ["publish", "unpublish"][program.below(2)];
            world.text(who, &format!(r#"{{"event":"{event}","kind":"{kind}","source":"{source}"}}"#));
        }
        6 => {
            let (source, muted) = (SOURCES[program.below(3)], program.byte().is_multiple_of(2));
            world.text(who, &format!(r#"{{"event":"mute","source":"{source}","muted":{muted}}}"#));
        }
        7 => {
            let tracks = world.clients[who].messages.iter().rev().find(|message| message["event"] == "tracks");
            let tracks = tracks.and_then(|message| message["tracks"].as_array()).map_or(&[][..], Vec::as_slice);
            let Some(track) = tracks.get(program.below(tracks.len().max(1))) else { return };
            let (mid, id) = (track["mid"].clone(), track["id"].clone());
            let (width, height, priority) = (program.word(), program.word(), program.byte() % 4);
            let whom = [format!(r#""mid":{mid}"#), format!(r#""id":{id},"source":"camera""#)];
            let whom = &whom[program.below(2)];
            let view = format!(r#"{{{whom},"width":{width},"height":{height},"priority":{priority}}}"#);
            world.text(who, &format!(r#"{{"event":"view","views":[{view}]}}"#));
        }
        8 => {
            let answers = [Answers::All, Answers::Nothing][program.below(2)];
            if let Some(answer) = world.honest_answer(who, answers) {
                world.answer(who, &answer);
            }
        }
        9 => world.run(Duration::from_millis(u64::from(program.byte()) * 20)),
        10 => world.end(who, program.byte().is_multiple_of(2)),
        11 if world.clients.len() < CLIENTS => {
            // Another client joins with this participant's resume secret.
            let secret = world.clients[who].messages.first().map(|message| message["resume"].clone());
            let name = format!("eve&resume={}", secret.as_ref().and_then(|secret| secret.as_str()).unwrap_or_default());
            world.join(ROOMS[program.below(ROOMS.len())], &name, Answers::All);
        }
        _ => datagrams::step(world, who, program),
    }
}
