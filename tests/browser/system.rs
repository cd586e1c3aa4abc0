//! What the page asks of the system around a call: the screen, media keys, and the link that opens it.

use serde_json::Value;

use crate::chromium::Chromium;
use crate::program::Program;
use crate::turn::side_by_side;

/// Records the handlers of media keys, and counts locks of the screen that are held. Headless Chromium has neither.
const RECORDS: &str = "{
    window.keys = {};
    window.held = 0;
    navigator.mediaSession.setActionHandler = (action, run) => { keys[action] = run; };
    const request = async () => { held += 1; return { release: async () => { held -= 1; } }; };
    Object.defineProperty(navigator, 'wakeLock', { value: { request } });
}";

#[test]
fn a_call_keeps_the_screen_on_and_follows_media_keys() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    // A link that joins at once, with the microphone off.
    let mut ann = chromium.open_with(&format!("{}?room=garden&name=Ann&mic=off&autojoin", server.url), RECORDS);
    ann.is_joined();
    let off = |device: &str, is_off: bool| {
        format!("document.querySelector('#btn-{device}').classList.contains('off') === {is_off}")
    };
    ann.until("the microphone is off and the camera on", &format!("{} && {}", off("mic", true), off("camera", false)));
    ann.until("the screen stays on", "held === 1");
    assert_eq!(ann.eval::<Value>("navigator.mediaSession.metadata.title"), "garden");
    ann.eval::<()>("keys.togglecamera()");
    ann.until("the camera is off", &off("camera", true));
    ann.eval::<()>("keys.togglemicrophone()");
    ann.until("the microphone is on", &off("mic", false));
    ann.eval::<()>("keys.hangup()");
    ann.until("the call is over", "document.body.dataset.state === 'ended'");
    ann.until("the screen may turn off", "held === 0 && keys.hangup === null");

    let icons = "fetch(document.querySelector('link[rel=manifest]').href).then((found) => found.json()).then(({ icons }) => icons[0].src)";
    assert_eq!(ann.eval::<Value>(icons), "favicon.svg");
    ann.is_sound();
}
