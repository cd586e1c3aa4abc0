//! Spatial layers in one stream between real browsers: each viewer gets those that its tile can use.

use std::collections::BTreeMap;

use crate::chromium::Chromium;
use crate::layers::WINDOWS;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::stories::turn;

/// A browser that sends one stream, in a codec and mode of its choice.
fn sends_spatial(codec: &str, mode: &str) -> String {
    format!(
        "{{
            const remote = RTCPeerConnection.prototype.setRemoteDescription;
            RTCPeerConnection.prototype.setRemoteDescription = function ({{ type, sdp }}) {{
                // What an offer names first is sent.
                const first = [...sdp.matchAll(/^a=rtpmap:(\\d+) {codec}\\/90000/gm)].map(([, pt]) => pt);
                const prefer = (line, head, pts) => {{
                    const all = pts.trim().split(' ');
                    const rest = all.filter((pt) => !first.includes(pt));
                    return [head, ...first.filter((pt) => all.includes(pt)), ...rest].join(' ');
                }};
                const plain = sdp.replace(/^a=(rid|simulcast):.*\\r\\n/gm, '');
                return remote.call(this, {{ type, sdp: plain.replace(/^(m=video \\S+ \\S+)((?: \\d+)+)/gm, prefer) }});
            }};
            const set = RTCRtpSender.prototype.setParameters;
            RTCRtpSender.prototype.setParameters = function (parameters) {{
                const layered = parameters.encodings.filter(({{ scalabilityMode }}) => scalabilityMode);
                layered.forEach((each) => Object.assign(each, {{ scalabilityMode: '{mode}', maxBitrate: 2_500_000 }}));
                return set.call(this, parameters);
            }};
        }}"
    )
}

#[test]
fn the_picture_follows_the_tile_within_one_stream() {
    let _turn = turn();
    for (codec, mode) in [("VP9", "L3T3_KEY"), ("AV1", "L3T3")] {
        let Some(mut chromium) = Chromium::start() else { return };
        let server = Program::start(&[]);
        let mut ann = chromium.open(&server.link("garden", "Ann"));
        let mut bob = chromium.open_with(&server.link("garden", "Bob"), &sends_spatial(codec, mode));
        ann.sees_and_hears("Bob");
        bob.sees_and_hears("Ann");
        let codecs: Vec<String> = bob.eval("probe.codecs()");
        let modes: BTreeMap<String, String> = bob.eval("probe.modes()");
        assert_eq!(codecs, [format!("video/{codec}")]);
        assert_eq!(modes, BTreeMap::from([(String::new(), mode.to_owned())]));
        follows(&mut ann, "Bob", 12);
        ann.is_sound();
        bob.is_sound();
    }
}

/// Changes the viewer's window so many times, each time until the picture follows.
fn follows(viewer: &mut Page, name: &str, changes: usize) {
    let ((width, height), lines) = WINDOWS[2];
    viewer.resizes(width, height);
    viewer.gets_lines_of(name, lines);
    let before = viewer.video(&tile(name));
    for ((width, height), lines) in WINDOWS.into_iter().cycle().take(changes) {
        viewer.resizes(width, height);
        viewer.gets_lines_of(name, lines);
    }
    let after = viewer.video(&tile(name));
    viewer.sees_and_hears(name);
    // Only more layers begin with a keyframe; the viewer itself had to ask for none.
    assert!(after.keyframes - before.keyframes < changes as u64, "{before:?} {after:?}");
    assert_eq!(after.plis, before.plis, "{before:?} {after:?}");
    // Two cores encode three sizes in VP9 or AV1 and decode them: now and then a picture is late.
    assert!(after.freezes - before.freezes <= 2, "{before:?} {after:?}");
}
