//! The fuzz targets. Each takes any bytes, and panics if an invariant does not hold.

use crate::{datagrams, http, parsing, program, websocket};

pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 9] = [
    ("http_head", http::http_head),
    ("websocket", websocket::websocket),
    ("events", websocket::events),
    ("answer", websocket::answer),
    ("edited_answer", websocket::edited_answer),
    ("readers", parsing::readers),
    ("rewriting", parsing::rewriting),
    ("datagrams", datagrams::datagrams),
    ("program", program::program),
];
