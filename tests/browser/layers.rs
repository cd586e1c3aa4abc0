//! Simulcast between real browsers: each viewer gets the layer that its tile can use, and never a picture that stands
//! still while it changes.

use std::collections::BTreeMap;

use crate::chromium::Chromium;
use crate::firefox::Firefox;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::stories::turn;

/// Sizes of a viewer's window, and the lines of the layer that its other tile can use; each change between two of
/// them comes once.
pub const WINDOWS: [((u32, u32), u32); 6] = [
    ((400, 300), 180),
    ((1280, 800), 360),
    ((1600, 1200), 720),
    ((400, 300), 180),
    ((1600, 1200), 720),
    ((1280, 800), 360),
];

/// A browser that knows nothing of layers, and skips what an offer says of them.
const UNLAYERED: &str = "{
    const real = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
        (window.skipped ??= []).push(sdp.match(/^a=(rid|simulcast):/gm)?.length ?? 0); // lines of each offer
        return real.call(this, { type, sdp: sdp.replace(/^a=(rid|simulcast):.*\\r\\n/gm, '') });
    };
}";

/// Rounds of which one has to be without a freeze.
const ROUNDS: usize = 3;

#[test]
fn the_picture_follows_the_tile_and_never_freezes() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    follows_smoothly(&mut ann, "Bob", 50);
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn layers_that_nobody_watches_are_not_sent() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    sends_what_is_watched(&mut bob, "Bob", &mut ann);
    for page in [&mut ann, &mut bob] {
        let modes: BTreeMap<String, String> = page.eval("probe.modes()");
        assert!(!modes.is_empty() && modes.values().all(|mode| mode == "L1T3"), "pictures can be left out: {modes:?}");
    }
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn a_browser_without_layers_sends_one_picture_to_all() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), UNLAYERED);
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    assert_eq!(bob.eval::<usize>("skipped[0]"), 4, "three layers are asked for, and to have them at once");
    bob.sends_layers(&[""]);
    for ((width, height), _) in WINDOWS {
        ann.resizes(width, height);
        ann.sees_and_hears("Bob");
    }
    // A later offer asks for none any more.
    bob.press("#btn-screen");
    ann.sees_screen_of("Bob");
    assert_eq!(bob.eval::<usize>("skipped.at(-1)"), 0, "it is asked again");
    ann.sees_and_hears("Bob");
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn firefox_gets_what_its_tile_can_use() {
    let _turn = turn();
    let Some((firefox, mut chromium)) = Firefox::start().zip(Chromium::start()) else { return };
    let server = Program::start(&Firefox::REACHABLE);
    let mut ann = firefox.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    follows_smoothly(&mut ann, "Bob", 20);
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn firefox_sends_layers() {
    let _turn = turn();
    let Some((firefox, mut chromium)) = Firefox::start().zip(Chromium::start()) else { return };
    let server = Program::start(&Firefox::REACHABLE);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = firefox.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    // With less than a core to itself it skips pictures now and then, in any layer.
    let freezes = follows(&mut ann, "Bob", 20);
    assert!(freezes <= 2, "{freezes}");
    sends_what_is_watched(&mut bob, "Bob", &mut ann);
    // The camera goes and comes without an offer.
    bob.press("#btn-camera");
    ann.until("Bob is not seen", &format!("!{}.classList.contains('has-video')", tile("Bob")));
    bob.press("#btn-camera");
    ann.sees_and_hears("Bob");
    bob.sends_layers(&["f", "h", "q"]);
    ann.is_sound();
    bob.is_sound();
}

/// Changes the viewer's window so many times, each time until the picture follows. Gives the freezes.
fn follows(viewer: &mut Page, name: &str, changes: usize) -> u64 {
    let before = viewer.video(&tile(name));
    for ((width, height), lines) in WINDOWS.into_iter().cycle().take(changes) {
        viewer.resizes(width, height);
        viewer.gets_lines_of(name, lines);
    }
    let after = viewer.video(&tile(name));
    viewer.sees_and_hears(name);
    // Each layer begins with a keyframe; the viewer itself had to ask for none.
    assert!(after.keyframes - before.keyframes >= changes as u64, "{before:?} {after:?}");
    assert_eq!(after.plis, before.plis, "{before:?} {after:?}");
    // Nothing that comes is of no use, as far as a busy machine has the time to show it.
    assert!((after.dropped - before.dropped) * 10 < after.frames - before.frames, "{before:?} {after:?}");
    after.freezes - before.freezes
}

/// The same without any freeze. Whatever else runs here may cause one now and then, but not in each round.
fn follows_smoothly(viewer: &mut Page, name: &str, changes: usize) {
    let mut freezes = Vec::new();
    while !freezes.contains(&0) {
        assert!(freezes.len() < ROUNDS, "{freezes:?} freezes over {changes} changes each");
        freezes.push(follows(viewer, name, changes));
    }
}

fn sends_what_is_watched(publisher: &mut Page, name: &str, viewer: &mut Page) {
    for ((width, height), lines, layers) in
        [((1600, 1200), 720, &["f", "h", "q"][..]), ((400, 300), 180, &["q"]), ((1600, 1200), 720, &["f", "h", "q"])]
    {
        viewer.resizes(width, height);
        viewer.gets_lines_of(name, lines);
        publisher.sends_layers(layers);
    }
}
