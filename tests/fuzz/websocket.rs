//! Bytes and messages of a member's WebSocket.

use std::time::Duration;

use crate::cursor::Cursor;
use crate::world::{Answers, World};

/// Bytes after the upgrade, in pieces of the size that the first byte says.
pub fn websocket(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let mut world = World::take(false);
    let client = world.join("main", "eve", Answers::Never);
    for piece in bytes.chunks(usize::from(*size).max(1) * 8) {
        world.data(client, piece);
    }
    world.finish();
}

/// Text messages, one a line, from a member who answers offers. An empty line is a moment of time.
pub fn events(data: &[u8]) {
    let mut world = World::take(false);
    let client = world.join("main", "eve", Answers::Nothing);
    for line in String::from_utf8_lossy(data).split('\n') {
        if line.is_empty() {
            world.run(Duration::from_millis(100));
        } else {
            world.text(client, line);
        }
    }
    world.finish();
}

/// Answers to the first offer and to those that follow, each with what it says of its first lines left as it is:
/// `%0`, `%1` and so on stand for the mids that were offered. A byte 0 ends an answer.
pub fn answer(data: &[u8]) {
    let mut world = World::take(false);
    let client = world.join("main", "eve", Answers::Never);
    for text in data.split(|byte| *byte == 0) {
        world.run(Duration::from_millis(100));
        let offer = world.clients[client].offer.clone().unwrap_or_default();
        let mids = offer.lines().filter_map(|line| line.strip_prefix("a=mid:"));
        let mut text = String::from_utf8_lossy(text).into_owned();
        for (index, mid) in mids.enumerate().take(10) {
            text = text.replace(&format!("%{index}"), mid);
        }
        world.answer(client, &text);
        world.text(client, r#"{"event":"publish","kind":"video","source":"screen"}"#);
    }
    world.finish();
}

/// An honest answer with lines that are cut, doubled, swapped or changed.
pub fn edited_answer(data: &[u8]) {
    let mut world = World::take(false);
    let client = world.join("main", "eve", Answers::Never);
    let mut program = Cursor(data);
    for _ in 0..4 {
        world.run(Duration::from_millis(100));
        let Some(honest) = world.honest_answer(client, Answers::All) else { break };
        let mut lines: Vec<Vec<u8>> = honest.split("\r\n").map(|line| line.as_bytes().to_vec()).collect();
        for _ in 0..program.below(8) {
            let at = usize::from(program.word()) % lines.len();
            match program.below(6) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                2 => {
                    let other = usize::from(program.word()) % lines.len();
                    lines.swap(at, other);
                }
                3 => lines.insert(at, program.bytes().to_vec()),
                4 => {
                    let from = usize::from(program.byte()).min(lines[at].len());
                    let to = (from + program.below(16)).min(lines[at].len());
                    let new = program.bytes().iter().copied();
                    lines[at].splice(from..to, new);
                }
                _ => {
                    // The value of one line under the name of another.
                    let other = lines[usize::from(program.word()) % lines.len()].clone();
                    let name = lines[at].iter().position(|byte| *byte == b':').unwrap_or(0);
                    let value = other.iter().position(|byte| *byte == b':').unwrap_or(0);
                    lines[at].splice(name.., other[value..].iter().copied());
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&lines.join(&b"\r\n"[..])).into_owned();
        world.answer(client, &text);
        world.text(client, r#"{"event":"publish","kind":"video","source":"screen"}"#);
        if program.is_empty() {
            break;
        }
    }
    world.finish();
}
