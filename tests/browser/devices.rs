//! The own devices: their menus in the lobby, refused permissions, cameras of a phone, and devices that are plugged in or fail.

use crate::chromium::Chromium;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::turn::side_by_side;

/// Denies the devices and their names until `allow` is called.
const REFUSES: &str = "{
    const { mediaDevices } = navigator;
    mediaDevices.enumerateDevices = async () => [];
    mediaDevices.getUserMedia = async () => { throw new DOMException('Permission denied', 'NotAllowedError'); };
    window.allow = () => { delete mediaDevices.enumerateDevices; delete mediaDevices.getUserMedia; };
}";

/// Calls itself Firefox.
const FIREFOX: &str = "Object.defineProperty(navigator, 'userAgent', { value: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0' });
Object.defineProperty(navigator, 'userAgentData', { value: undefined });";

/// A phone with a camera at each side and two microphones, one of which cannot be opened. `plug` adds a headset, and
/// `unplug` takes the microphone in use away.
const PHONE: &str = "{
    const devices = navigator.mediaDevices;
    const given = devices.getUserMedia.bind(devices);
    const list = [['videoinput', 'Front', 'user'], ['videoinput', 'Back', 'environment'], ['audioinput', 'Built-in'], ['audioinput', 'Broken']];
    const find = (kind, wanted) => list.find(([of, label, facing]) => of === kind && (
        wanted.facingMode?.exact ? facing === wanted.facingMode.exact : label === (wanted.deviceId?.exact ?? label)));
    navigator.permissions.query = async () => ({ state: 'granted' });
    devices.enumerateDevices = async () => list.map(([kind, label]) => ({ kind, deviceId: label, groupId: label, label }));
    devices.getUserMedia = async ({ audio, video }) => {
        for (const wanted of [audio, video]) {
            if (wanted?.deviceId?.exact === 'Broken') throw new DOMException('Could not start', 'NotReadableError');
        }
        const stream = await given({ audio: Boolean(audio), video: Boolean(video) });
        for (const track of stream.getTracks()) {
            const [, label, facingMode] = track.kind === 'audio' ? find('audioinput', audio) : find('videoinput', video);
            Object.defineProperty(track, 'label', { value: label });
            track.getSettings = () => ({ deviceId: label, facingMode });
        }
        return stream;
    };
    window.plug = (label) => {
        list.push(['audioinput', label]);
        devices.dispatchEvent(new Event('devicechange'));
    };
    window.unplug = (label) => {
        list.splice(list.findIndex((each) => each[1] === label), 1);
        aq.local['microphone audio'].dispatchEvent(new Event('ended'));
        devices.dispatchEvent(new Event('devicechange'));
    };
}";

/// Counts the notes that are played.
const COUNTS_NOTES: &str = "{
    window.notes = 0;
    const { createOscillator } = BaseAudioContext.prototype;
    BaseAudioContext.prototype.createOscillator = function() { notes += 1; return createOscillator.call(this); };
}";

/// A microphone that sends a tone without end.
const TALKS: &str = "{
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await given(wanted);
        for (const track of stream.getAudioTracks()) {
            const audio = new AudioContext();
            const [tone, out] = [audio.createOscillator(), audio.createMediaStreamDestination()];
            tone.connect(out);
            tone.start();
            stream.removeTrack(track);
            track.stop();
            stream.addTrack(out.stream.getAudioTracks()[0]);
        }
        return stream;
    };
}";

const LOOKS: &str = include_str!("looks.js");
const RINGS: &str = include_str!("rings.js");

/// Nothing of the lobby is cut or extends beyond the window, in three languages.
fn fits_every_window(page: &mut Page) {
    page.eval::<()>(&format!("void (() => {{ {LOOKS} }})()"));
    for language in ["de", "ar", "en"] {
        page.eval::<()>(&format!(
            "import(new URL('words/index.js', document.baseURI)).then(({{ setLanguage }}) => setLanguage('{language}'))"
        ));
        for (width, height) in [(320, 568), (360, 740), (740, 360), (1280, 800)] {
            page.resizes(width, height);
            let found: Vec<String> = page.eval("looks.faults(false)");
            assert!(found.is_empty(), "{language}, {width}x{height}: {found:#?}");
        }
    }
}

fn microphone(page: &mut Page, label: &str) {
    page.until(&format!("{label} is used"), &format!("aq.local['microphone audio']?.label === '{label}'"));
}

fn chooses(page: &mut Page, menu: &str, value: &str) {
    page.eval::<()>(&format!(
        "void ((menu) => {{ menu.value = '{value}'; menu.dispatchEvent(new Event('change')); }})(document.querySelector('{menu}'))"
    ));
}

#[test]
fn the_lobby_has_menus_of_all_devices_a_tone_and_the_settings() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&format!("{}?room=garden", server.url), COUNTS_NOTES);
    for device in ["microphone", "camera", "speaker"] {
        let menu = format!("document.querySelector('#pick-{device}')");
        ann.until(
            &format!("the menu of the {device} has a choice"),
            &format!("{menu}.checkVisibility() && {menu}.selectedOptions[0]?.text"),
        );
    }
    fits_every_window(&mut ann);
    ann.press("#btn-tone");
    ann.until("two notes are played", "notes === 2");
    let speaker: String =
        ann.eval("[...document.querySelector('#pick-speaker').options].map(({ value }) => value).find(Boolean)");
    chooses(&mut ann, "#pick-speaker", &speaker);
    ann.press("#btn-lobby-settings");
    ann.until("the settings are open", "document.querySelector('#settings')?.open");
    assert_eq!(ann.eval::<String>("document.querySelector('#set-speaker').value"), speaker);
    ann.keys("Escape");
    ann.until("the focus is back", "document.activeElement.id === 'btn-lobby-settings'");
    ann.joins("garden", "Ann");
    ann.is_sound();
}

#[test]
fn a_refused_permission_names_the_way_out_of_this_browser() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let lobby = format!("{}?room=garden&name=Ann", server.url);
    let steps = "[...document.querySelectorAll('.steps li')].filter((step) => step.checkVisibility()).map(({ textContent }) => textContent)";
    for (more, expected) in
        [("", "Switch on “Camera” and “Microphone”."), (FIREFOX, "Remove the block with the cross beside it.")]
    {
        let mut ann = chromium.open_with(&lobby, &format!("{REFUSES}{more}"));
        ann.until("the steps are shown", &format!("{steps}[1] === '{expected}'"));
        fits_every_window(&mut ann);
        ann.eval::<()>("void allow()");
        ann.press("#btn-again");
        ann.until("the preview plays", "document.querySelector('.preview video').videoWidth > 0");
        ann.until("the menus are filled", "document.querySelector('#pick-camera').options.length > 0");
        ann.is_sound();
    }
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), &format!("{REFUSES}{FIREFOX}"));
    bob.is_joined();
    bob.until("the call names it, too", "probe.says().includes('Remove the block with the cross beside it.')");
    bob.is_sound();
}

#[test]
fn a_phone_switches_cameras_a_headset_is_offered_and_a_broken_device_is_left() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&format!("{}?room=garden&name=Bob", server.url), PHONE);
    bob.until("the camera is open", "document.querySelector('.mirror')?.videoWidth > 0");
    let lobby = "document.querySelector('.preview video')";
    bob.press("#btn-flip");
    bob.until("the back is not mirrored", &format!("{lobby}.videoWidth > 0 && !{lobby}.matches('.mirror')"));
    bob.press("#btn-join");
    bob.is_joined();
    ann.sees_and_hears("Bob");
    let lines = bob.transceivers();
    for (label, is_mirrored) in [("Front", true), ("Back", false)] {
        bob.keys("f");
        bob.until(label, &format!("aq.local['camera video']?.label === '{label}'"));
        bob.until("its picture", &format!("document.body.classList.contains('unmirrored') !== {is_mirrored}"));
        ann.sees_and_hears("Bob");
    }

    bob.eval::<()>("plug('Headset X')");
    bob.until("it is offered", "probe.says().includes('“Headset X” is connected.')");
    microphone(&mut bob, "Built-in");
    bob.press("[data-notice=plugged] .button");
    microphone(&mut bob, "Headset X");
    bob.until("the offer is gone", "!document.querySelector('[data-notice=plugged]')");

    bob.keys(",");
    bob.until("the settings are open", "document.querySelector('#settings')?.open");
    chooses(&mut bob, "#set-microphone", "Broken");
    bob.until("it is explained", "probe.says().includes('“Broken” can’t be used. Using “Headset X”.')");
    microphone(&mut bob, "Headset X");
    bob.until("the menu shows it", "document.querySelector('#set-microphone').value === 'Headset X'");
    // The next one is broken, the one after it is used.
    chooses(&mut bob, "#set-microphone", "Built-in");
    microphone(&mut bob, "Built-in");
    bob.eval::<()>("unplug('Built-in')");
    bob.until("it is explained", "probe.says().includes('“Built-in” was unplugged. Using “Headset X”.')");
    microphone(&mut bob, "Headset X");
    ann.until("Bob is not silent", &format!("!{}.classList.contains('silent')", tile("Bob")));
    ann.sees_and_hears("Bob");
    assert_eq!(bob.transceivers(), lines, "without a new offer");
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn one_who_talks_while_muted_is_told_and_a_reload_is_asked_about() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.link("garden", "Ann"), TALKS);
    ann.until("the microphone is on", "aq.local['microphone audio']?.enabled");
    ann.press("#btn-mic");
    ann.until("it is muted", "!aq.local['microphone audio'].enabled");
    ann.until("it is said", "probe.says().includes('You are muted. Press M, or hold space to speak.')");
    ann.press("[data-notice=talking] .button");
    ann.until("it is on", "aq.local['microphone audio'].enabled");
    ann.until("the word is gone", "!document.querySelector('[data-notice=talking]')");

    ann.eval::<()>("void (window.stayed = true)");
    ann.is_asked_before_a_reload();
    assert!(ann.eval::<bool>("stayed && document.body.dataset.state === 'joined'"), "who declines stays in the call");
    ann.is_sound();
}

#[test]
fn space_opens_a_microphone_that_the_call_was_entered_without() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&format!("{}&mic=off", server.link("garden", "Ann")));
    ann.is_joined();
    assert!(ann.eval::<bool>("!aq.local['microphone audio']"), "no microphone is open");
    ann.eval::<()>("void document.activeElement.blur()");
    let space = |kind: &str| {
        format!("void document.body.dispatchEvent(new KeyboardEvent('{kind}', {{ key: ' ', bubbles: true }}))")
    };
    ann.eval::<()>(&space("keydown"));
    ann.until("it is on while space is held", "aq.local['microphone audio']?.enabled");
    ann.eval::<()>(&space("keyup"));
    ann.until("it is muted", "aq.local['microphone audio']?.enabled === false");
    ann.keys("?");
    ann.until(
        "the key is listed",
        "[...document.querySelectorAll('#keys kbd')].some(({ textContent }) => textContent === 'Space')",
    );
    ann.keys("Escape");

    // Where it cannot be opened, a notice says why.
    let mut eve = chromium.open_with(&format!("{}&mic=off&cam=off", server.link("garden", "Eve")), REFUSES);
    eve.is_joined();
    eve.eval::<()>("void document.activeElement.blur()");
    eve.eval::<()>(&space("keydown"));
    eve.until("it is explained", "probe.says().includes('Your browser is blocking the microphone.')");
    eve.eval::<()>(&space("keyup"));
    ann.is_sound();
    eve.is_sound();
}

#[test]
fn no_focus_ring_is_cut() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&format!("{}?room=garden", server.url));
    ann.prefers_dark(false);
    ann.eval::<()>(&format!("void (() => {{ {RINGS} }})()"));
    ann.until("the preview is shown", "document.querySelector('.mirror').videoWidth > 0");
    let sizes = [(360, 740), (740, 360), (1280, 800)];
    let are_whole = |ann: &mut Page, state: &str| {
        for (width, height) in sizes {
            ann.resizes(width, height);
            // Tiles follow the size with the next animation frame.
            ann.until(&format!("{state} in {width}x{height}"), "(([rings, bad]) => (rings > 1 && !bad.length) || Promise.reject(new Error(`${rings} rings: ${bad}`)))(rings())");
        }
    };
    are_whole(&mut ann, "lobby");
    ann.joins("garden", "Ann");
    are_whole(&mut ann, "call");
    for (key, what) in
        [("c", "#chat"), ("p", "#people"), ("s", "#statistics .graph"), (",", "#settings"), ("?", "#keys")]
    {
        ann.eval::<()>("void document.activeElement.blur()");
        ann.keys(key);
        ann.until(what, &format!("document.querySelector('{what}')?.checkVisibility()"));
        are_whole(&mut ann, what);
        if ["#settings", "#keys"].contains(&what) {
            ann.keys("Escape");
        }
    }
    ann.is_sound();
}
