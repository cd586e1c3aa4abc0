//! Spatial layers in one stream (SVC) between real browsers: each viewer receives the layers that fit its tile.

use std::collections::BTreeMap;

use crate::chromium::Chromium;
use crate::layers::WINDOWS;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::turn::alone;

/// Makes a browser send one stream in this codec and scalability mode.
fn sends_spatial(codec: &str, mode: &str) -> String {
    format!(
        "{{
            const remote = RTCPeerConnection.prototype.setRemoteDescription;
            RTCPeerConnection.prototype.setRemoteDescription = function ({{ type, sdp }}) {{
                // A browser sends the codec that an offer lists first.
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
    for (codec, mode) in [("VP9", "L3T3_KEY"), ("AV1", "L3T3")] {
        let _turn = alone();
        let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
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

/// Changes the size of the viewer's window `changes` times, and each time waits until the picture height follows.
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
    // Only switches to more layers need a keyframe, and the viewer never requests one.
    assert!(after.keyframes - before.keyframes < changes as u64, "{before:?} {after:?}");
    assert_eq!(after.plis, before.plis, "{before:?} {after:?}");
    // Two cores encode and decode three layers of VP9 or AV1, so a picture may occasionally be late.
    assert!(after.freezes - before.freezes <= 2, "{before:?} {after:?}");
}
