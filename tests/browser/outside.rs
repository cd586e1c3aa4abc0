//! What stops a call from outside of the page: the network, the system, the browser, and a question of it.

use std::time::{Duration, Instant};

use crate::chromium::Chromium;
use crate::page::tile;
use crate::program::Program;
use crate::stories::turn;

/// A loss of the network is named within two seconds; the rest is a loaded machine's.
const NAMED: Duration = Duration::from_millis(3500);

/// A browser whose question for devices waits for an answer.
const ASKS: &str = "{
    window.asked = 0;
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const answer = new Promise((done) => { window.allow = () => done(true); window.refuse = () => done(false); });
    navigator.permissions.query = async () => ({ state: 'prompt' });
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        window.asked += 1;
        if (await answer) return given(wanted);
        throw new DOMException('Permission denied', 'NotAllowedError');
    };
}";

const SAYS: &str = "document.querySelector('#notice').hidden ? '' : document.querySelector('#notice').textContent";

#[test]
fn a_question_for_devices_keeps_nobody_out_and_is_asked_once() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), ASKS);
    let mut eve = chromium.open_with(&server.link("garden", "Eve"), ASKS);
    for page in [&mut bob, &mut eve] {
        page.sees_and_hears("Ann");
        page.until("the question is explained", &format!("({SAYS}).includes('You are in the call already')"));
    }
    ann.has_tiles_of(&["Bob", "Eve"]);
    ann.shows_neither_picture_nor_sound_of("Bob");
    bob.press("#btn-mic");
    bob.eval::<()>("window.allow()");
    ann.sees_and_hears("Bob");
    bob.until("the explanation is gone", &format!("!({SAYS})"));
    eve.eval::<()>("window.refuse()");
    eve.until("it is told in words", &format!("({SAYS}).includes('You can watch, listen and chat.')"));
    for page in [&mut bob, &mut eve] {
        assert_eq!(page.eval::<u32>("window.asked"), 1);
    }
    // What the browser pauses plays again.
    bob.eval::<()>(&format!("void {}.querySelector('video').pause()", tile("Ann")));
    bob.sees_and_hears("Ann");
    // The system takes the microphone for itself for a while.
    bob.eval::<()>("void (Object.defineProperty(aq.local['microphone audio'], 'muted', { value: true, configurable: true }), aq.local['microphone audio'].dispatchEvent(new Event('mute')))");
    bob.until("it is told in words", &format!("({SAYS}).includes('The system has paused the microphone')"));
    ann.until("Bob is shown as silent", &format!("{}.classList.contains('silent')", tile("Bob")));
    bob.eval::<()>("void (Object.defineProperty(aq.local['microphone audio'], 'muted', { value: false }), aq.local['microphone audio'].dispatchEvent(new Event('unmute')))");
    ann.until("Bob is no more silent", &format!("!{}.classList.contains('silent')", tile("Bob")));
    // A device is unplugged, and plugged in again.
    bob.eval::<()>("void (navigator.permissions.query = async () => ({ state: 'granted' }), aq.local['camera video'].dispatchEvent(new Event('ended')))");
    ann.until("the picture is gone", &format!("!{}.classList.contains('has-video')", tile("Bob")));
    bob.eval::<()>("void navigator.mediaDevices.dispatchEvent(new Event('devicechange'))");
    ann.sees_and_hears("Bob");
    for page in [&mut ann, &mut bob, &mut eve] {
        page.is_sound();
    }
}

#[test]
fn a_lost_network_is_named_and_pictures_are_marked_as_frozen() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    let says = "document.querySelector('#banner').hidden ? '' : document.querySelector('#banner').textContent";
    let mark = format!("{}.querySelector('.stall')?.textContent === 'Picture frozen'", tile("Bob"));
    assert!(ann.eval::<bool>(&format!("!({says}) && !({mark})")), "nothing is wrong yet");

    // Nothing comes any more, on no line and by no message.
    let pause = server.pause();
    let start = Instant::now();
    ann.until("the loss is named", &format!("({says}).startsWith('The network is interrupted')"));
    ann.until("the picture is marked", &mark);
    assert!(start.elapsed() < NAMED, "after {:?}", start.elapsed());
    // The system may know it as well.
    ann.eval::<()>("void (Object.defineProperty(navigator, 'onLine', { value: false, configurable: true }), dispatchEvent(new Event('offline')))");
    ann.until("its cause is named", &format!("({says}).startsWith('This device is offline')"));
    drop(pause);
    // Packets flow, whatever the system believes.
    ann.until("nothing is wrong", &format!("!({says}) && !({mark})"));
    ann.sees_and_hears("Bob");
    ann.eval::<()>("void delete navigator.onLine");

    // Silence of the others is none of the network.
    bob.press("#btn-mic");
    bob.press("#btn-camera");
    ann.shows_neither_picture_nor_sound_of("Bob");
    ann.press("#btn-mic");
    ann.press("#btn-camera");
    bob.leaves();
    ann.has_tiles_of(&[]);
    // Longer than a loss would take to be named.
    ann.eval::<()>("new Promise((done) => setTimeout(done, 3000))");
    assert_eq!(ann.eval::<String>(says), "");
    ann.is_sound();
}
