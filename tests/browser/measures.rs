//! What the page costs: time until the first picture, its main thread in a quiet call, and what stays behind.
//!
//! Times on a busy machine say nothing, so those two run only on request (docs/performance.md).

use std::thread;
use std::time::{Duration, Instant};

use crate::chromium::Chromium;
use crate::page::{KEEP_SOCKET, Page};
use crate::poll;
use crate::program::Program;
use crate::turn::{alone, side_by_side};

/// From the click on Join to the first frame of another participant, in milliseconds.
const FIRST_FRAME: &str = "new Promise((done) => {
    const start = performance.now();
    document.querySelector('#btn-join').click();
    const look = () => {
        const video = document.querySelector('.tile:not(.self) video');
        if (video) return video.requestVideoFrameCallback(() => done(performance.now() - start));
        setTimeout(look, 1);
    };
    look();
})";

/// Has three people join and leave 100 times, each with a raised hand; the list of people is open.
const COME_AND_GO: &str = "(async () => {
    const tell = (message) => socket.onmessage({ data: JSON.stringify(message) });
    for (let turn = 0; turn < 100; turn += 1) {
        const ids = ['x', 'y', 'z'].map((letter) => `${letter}${turn}`);
        for (const id of ids) tell({ event: 'joined', id, name: `Name ${id}` });
        tell({ event: 'hand', id: ids[0], raised: true });
        await new Promise(requestAnimationFrame);
        for (const id of ids) tell({ event: 'left', id });
        await new Promise(requestAnimationFrame);
    }
    return true;
})()";

/// Nodes that are not in the document; the browser itself holds some.
fn detached(page: &mut Page) -> usize {
    let attached: usize = page.eval(
        "(() => { let nodes = 1; for (const walk = document.createTreeWalker(document); walk.nextNode();) nodes += 1; return nodes; })()",
    );
    page.nodes().saturating_sub(attached)
}

/// Waits until hardly more nodes are detached than before: timers hold some for seconds. The tiles and rows of 300 people
/// are more than 10,000 nodes.
fn leaves_nothing(page: &mut Page, before: usize) {
    let settled = poll(|| match detached(page) {
        now if now < before + 200 => Ok(()),
        now => Err(format!("{now} detached nodes, {before} before")),
    });
    settled.unwrap_or_else(|last| panic!("{last}"));
}

#[test]
fn a_hundred_joins_and_leaves_leave_no_detached_nodes() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.link("garden", "Ann"), KEEP_SOCKET);
    ann.is_joined();
    ann.press("#btn-people");
    ann.until("the list is open", "document.querySelector('#people-list .person')");
    let before = detached(&mut ann);
    assert!(ann.eval::<bool>(COME_AND_GO));
    ann.until("the tiles are gone", "document.querySelectorAll('.tile').length === 1");
    leaves_nothing(&mut ann, before);
    for _ in 0..3 {
        ann.leaves();
        ann.press("#btn-rejoin");
        ann.is_joined();
    }
    leaves_nothing(&mut ann, before);
    ann.is_sound();
}

#[test]
#[ignore = "measures time: cargo test --test browser measures -- --ignored --nocapture"]
fn the_first_picture_is_there_within_450_ms_of_a_click() {
    let _turn = alone();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    bob.is_joined();
    let mut ann = chromium.open(&format!("{}?room=garden&name=Ann", server.url));
    let mut times = Vec::new();
    for _ in 0..20 {
        ann.until("the preview is shown", "document.querySelector('.mirror')?.videoWidth > 0");
        ann.until("the call's part is loaded", "document.querySelector('#call')");
        times.push(ann.eval::<f64>(FIRST_FRAME));
        ann.leaves();
        ann.press("#btn-lobby");
    }
    times.sort_by(f64::total_cmp);
    println!("first remote frame after {:.0} to {:.0} ms, median {:.0}", times[0], times[19], times[10]);
    assert!(times[10] <= 450.0, "{times:?}");
}

#[test]
#[ignore = "measures time: cargo test --test browser measures -- --ignored --nocapture"]
fn a_quiet_call_of_nine_takes_below_2_percent_of_a_core() {
    let _turn = alone();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut pages: Vec<Page> = (1..=9).map(|n| chromium.open(&server.link("garden", &format!("Person {n}")))).collect();
    let ann = &mut pages[0];
    let all = "document.querySelectorAll('.tile.has-video').length === 9";
    ann.until_within(Duration::from_secs(60), "all pictures are there", all);
    // Layers settle, and the first frames are over.
    thread::sleep(Duration::from_secs(5));
    let (start, before) = (Instant::now(), ann.main_thread_seconds());
    thread::sleep(Duration::from_secs(10));
    let share = (ann.main_thread_seconds() - before) / start.elapsed().as_secs_f64();
    println!("the main thread of a tab in a call of nine takes {:.2} % of a core", share * 100.0);
    assert!(share > 0.0 && share < 0.02, "{share}");
}
