//! Simulcast between real browsers: each viewer gets the layer that its tile can use, and never a picture that stands
//! still while it changes.

use crate::chromium::Chromium;
use crate::page::tile;
use crate::program::Program;
use crate::stories::turn;

/// Sizes of a viewer's window, and the lines of the layer that its other tile can use; each change between two of
/// them comes once.
const WINDOWS: [((u32, u32), u32); 6] = [
    ((400, 300), 180),
    ((1280, 800), 360),
    ((1600, 1200), 720),
    ((400, 300), 180),
    ((1600, 1200), 720),
    ((1280, 800), 360),
];

const CHANGES: usize = 50;

/// A browser that knows nothing of layers, and skips what an offer says of them.
const UNLAYERED: &str = "{
    const real = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
        (window.skipped ??= []).push(sdp.match(/^a=(rid|simulcast):/gm)?.length ?? 0); // lines of each offer
        return real.call(this, { type, sdp: sdp.replace(/^a=(rid|simulcast):.*\\r\\n/gm, '') });
    };
}";

#[test]
fn the_picture_follows_the_tile_and_never_freezes() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");

    let before = ann.video(&tile("Bob"));
    for ((width, height), lines) in WINDOWS.into_iter().cycle().take(CHANGES) {
        ann.resizes(width, height);
        ann.gets_lines_of("Bob", lines);
    }
    let after = ann.video(&tile("Bob"));
    ann.sees_and_hears("Bob");

    // Each layer begins with a keyframe; the receiver itself had to ask for none.
    assert!(after.keyframes - before.keyframes >= CHANGES as u64, "{before:?} {after:?}");
    assert_eq!((after.freezes, after.plis), (before.freezes, before.plis), "{before:?} {after:?}");
    // Nothing that comes is of no use, as far as a busy machine has the time to show it.
    assert!((after.dropped - before.dropped) * 10 < after.frames - before.frames, "{before:?} {after:?}");
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
    assert_eq!(bob.sent_layers(), [None]);
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
