//! Bytes and messages from a participant's WebSocket.

use std::time::Duration;

use crate::cursor::Cursor;
use crate::world::{Answers, World};

/// Sends bytes after the upgrade, in pieces whose size the first byte chooses.
pub fn websocket(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let mut world = World::take(false);
    let client = world.join("main", "eve", Answers::Never);
    for piece in bytes.chunks(usize::from(*size).max(1) * 8) {
        world.data(client, piece);
    }
    world.finish();
}

/// Sends each line as a text message of a participant that answers offers. An empty line advances time.
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

/// Sends answers to successive offers. A zero byte ends an answer; `%0`, `%1` and so on are replaced by the offered mids.
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

/// Sends valid answers with lines removed, repeated, swapped or modified.
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
                    // The value of another line with the name of this one.
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
