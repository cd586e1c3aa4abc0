//! Simulcast between real browsers: each viewer receives the layer that fits its tile, and the picture does not freeze
//! when the layer changes.

use std::collections::BTreeMap;

use crate::chromium::Chromium;
use crate::firefox::Firefox;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::turn::{alone, side_by_side};

/// Sizes of a viewer's window, and the picture height of the layer that fits its other tile. Each change between two
/// heights occurs once.
pub const WINDOWS: [((u32, u32), u32); 6] = [
    ((400, 300), 180),
    ((640, 500), 360),
    ((1000, 700), 720),
    ((400, 300), 180),
    ((1000, 700), 720),
    ((640, 500), 360),
];

/// Makes a browser ignore simulcast in offers, as one without simulcast does.
const UNLAYERED: &str = "{
    const real = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
        (window.skipped ??= []).push(sdp.match(/^a=(rid|simulcast):/gm)?.length ?? 0); // lines of each offer
        return real.call(this, { type, sdp: sdp.replace(/^a=(rid|simulcast):.*\\r\\n/gm, '') });
    };
}";

/// Number of rounds, of which one has to be without a freeze.
const ROUNDS: usize = 3;

#[test]
fn the_picture_follows_the_tile_and_never_freezes() {
    let _turn = alone();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
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
fn layers_without_a_viewer_are_not_sent() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    sends_what_is_watched(&mut bob, "Bob", &mut ann);
    for page in [&mut ann, &mut bob] {
        let modes: BTreeMap<String, String> = page.eval("probe.modes()");
        assert!(
            !modes.is_empty() && modes.values().all(|mode| mode == "L1T3"),
            "every layer has temporal layers: {modes:?}"
        );
    }
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn a_browser_without_simulcast_sends_one_stream_to_all() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), UNLAYERED);
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    assert_eq!(bob.eval::<usize>("skipped[0]"), 4, "the offer requests three layers");
    bob.sends_layers(&[""]);
    for ((width, height), _) in WINDOWS {
        ann.resizes(width, height);
        ann.sees_and_hears("Bob");
    }
    // Later offers do not request layers.
    bob.press("#btn-screen");
    ann.sees_screen_of("Bob");
    assert_eq!(bob.eval::<usize>("skipped.at(-1)"), 0, "layers are requested again");
    ann.sees_and_hears("Bob");
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn firefox_receives_the_layer_that_fits_its_tile() {
    let _turn = alone();
    let Some((firefox, mut chromium)) = Firefox::start().zip(Chromium::start_at_full_rate()) else { return };
    let server = Program::start(&Firefox::REACHABLE);
    let mut ann = firefox.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    gestures_and_writes(&mut ann, "Ann", &mut bob);
    follows_smoothly(&mut ann, "Bob", 20);
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn firefox_sends_simulcast_layers() {
    let mut turn = alone();
    let Some((firefox, mut chromium)) = Firefox::start().zip(Chromium::start_at_full_rate()) else { return };
    let server = Program::start(&Firefox::REACHABLE);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = firefox.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    // With less than a core for itself, Firefox occasionally skips pictures in any layer.
    let freezes = follows(&mut ann, "Bob", 20);
    assert!(freezes <= 2, "{freezes}");
    turn.measured();
    sends_what_is_watched(&mut bob, "Bob", &mut ann);
    // The camera is switched off and on without an offer.
    bob.press("#btn-camera");
    ann.until("Bob is not seen", &format!("!{}.classList.contains('has-video')", tile("Bob")));
    bob.press("#btn-camera");
    ann.sees_and_hears("Bob");
    bob.sends_layers(&["f", "h", "q"]);
    ann.is_sound();
    bob.is_sound();
}

/// Raises the hand of a participant, reacts, writes a chat message and opens the list of people.
fn gestures_and_writes(page: &mut Page, name: &str, other: &mut Page) {
    page.keys("h");
    other.until("the hand is up", &format!("{}.querySelector('.hand').textContent === '1'", tile(name)));
    page.press("#btn-hand");
    other.until("the hand is down", &format!("{}.querySelector('.hand').hidden", tile(name)));
    page.press("#btn-react");
    page.press("#react-menu .item.emoji");
    other.until("the reaction is shown", &format!("!{}.querySelector('.reaction').hidden", tile(name)));
    page.says("Hello, it works here, too");
    page.press("#btn-chat");
    other.press("#btn-chat");
    other.finds_line(name, "Hello, it works here, too");
    other.press("#btn-chat");
    page.press("#btn-people");
    page.until("two are listed", "document.querySelectorAll('#people-list .person').length === 2");
    page.press("#btn-people");
}

/// Changes the size of the viewer's window `changes` times, and each time waits until the picture height follows. Returns
/// the number of freezes.
fn follows(viewer: &mut Page, name: &str, changes: usize) -> u64 {
    let before = viewer.video(&tile(name));
    for ((width, height), lines) in WINDOWS.into_iter().cycle().take(changes) {
        viewer.resizes(width, height);
        viewer.gets_lines_of(name, lines);
    }
    let after = viewer.video(&tile(name));
    viewer.sees_and_hears(name);
    // Each layer begins with a keyframe, and the viewer never requests one.
    assert!(after.keyframes - before.keyframes >= changes as u64, "{before:?} {after:?}");
    assert_eq!(after.plis, before.plis, "{before:?} {after:?}");
    // Decoded pictures are shown, except for some that a busy machine drops.
    assert!((after.dropped - before.dropped) * 10 < after.frames - before.frames, "{before:?} {after:?}");
    after.freezes - before.freezes
}

/// The same without any freeze. Other programs may cause one occasionally, but not in each round.
fn follows_smoothly(viewer: &mut Page, name: &str, changes: usize) {
    let mut freezes = Vec::new();
    while !freezes.contains(&0) {
        assert!(freezes.len() < ROUNDS, "{freezes:?} freezes over {changes} changes each");
        freezes.push(follows(viewer, name, changes));
    }
}

fn sends_what_is_watched(publisher: &mut Page, name: &str, viewer: &mut Page) {
    for ((width, height), lines, layers) in
        [((1000, 700), 720, &["f", "h", "q"][..]), ((400, 300), 180, &["q"]), ((1000, 700), 720, &["f", "h", "q"])]
    {
        viewer.resizes(width, height);
        viewer.gets_lines_of(name, lines);
        publisher.sends_layers(layers);
    }
}
