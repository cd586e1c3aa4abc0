//! The settings, and devices that come and go during a call.

use crate::chromium::Chromium;
use crate::page::tile;
use crate::program::Program;
use crate::turn::side_by_side;

/// Two microphones, of which `unplug` takes the one in use away. Both are Chromium's fake device.
const MICROPHONES: &str = "{
    const devices = navigator.mediaDevices;
    const given = devices.getUserMedia.bind(devices);
    const names = ['Headset', 'Built-in microphone'];
    const device = (label) => ({ kind: 'audioinput', deviceId: label, groupId: '', label });
    navigator.permissions.query = async () => ({ state: 'granted' });
    devices.enumerateDevices = async () => names.map(device);
    devices.getUserMedia = async ({ audio, video }) => {
        const stream = await given({ audio: Boolean(audio), video });
        for (const track of stream.getAudioTracks()) {
            const label = audio.deviceId?.exact ?? names[0];
            Object.defineProperty(track, 'label', { value: label });
            track.getSettings = () => ({ deviceId: label });
        }
        return stream;
    };
    window.unplug = () => {
        names.shift();
        aq.local['microphone audio'].dispatchEvent(new Event('ended'));
        devices.dispatchEvent(new Event('devicechange'));
    };
}";

/// Records how the microphone was asked for.
const ASKED: &str = "{
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.asked = [];
    navigator.mediaDevices.getUserMedia = (wanted) => {
        if (wanted.audio) asked.push(wanted.audio);
        if (wanted.video) window.isFilmed = true;
        return given(wanted);
    };
}";

#[test]
fn settings_apply_at_once_and_are_remembered() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.link("garden", "Ann"), ASKED);
    ann.is_joined();
    ann.keys(",");
    ann.until("the dialog is open", "document.querySelector('#settings')?.open");
    ann.eval::<()>("void document.querySelector('#set-mirror').scrollIntoView({ block: 'center' })");
    ann.press("#set-mirror");
    ann.until("the own picture is not mirrored", "document.body.classList.contains('unmirrored')");
    ann.until(
        "the system's speaker is chosen",
        "document.querySelector('#set-speaker').selectedOptions[0].text === 'The system’s'",
    );
    let choose = |id: &str, value: &str| {
        format!(
            "void (document.querySelector('{id}').value = '{value}', document.querySelector('{id}').dispatchEvent(new Event('change')))"
        )
    };
    assert!(ann.eval::<bool>("asked.every(({ noiseSuppression }) => noiseSuppression)"), "noise is removed");
    ann.eval::<()>("void document.querySelector('#set-noise').scrollIntoView({ block: 'center' })");
    ann.press("#set-noise");
    ann.until(
        "the microphone is opened again with its noise",
        "asked.at(-1).noiseSuppression === false && aq.local['microphone audio']",
    );
    ann.eval::<()>(&choose("#set-quality", "audio"));
    ann.until("the camera is off", "!aq.local['camera video']");
    ann.eval::<()>(&choose("#set-quality", "auto"));
    ann.eval::<()>(&choose("#set-language", "fr"));
    ann.until("the dialog is in French", "document.querySelector('#settings-title').textContent === 'Paramètres'");
    ann.eval::<()>(&choose("#set-language", "ar"));
    ann.until("the page runs from right to left", "document.documentElement.dir === 'rtl'");
    ann.eval::<()>(&choose("#set-quality", "audio"));
    ann.keys("Escape");
    ann.until("the dialog is closed", "!document.querySelector('#settings')");
    ann.eval::<()>("location.reload()");
    ann.until(
        "the language is remembered",
        "document.documentElement.lang === 'ar' && document.body.classList.contains('unmirrored')",
    );
    ann.is_joined();
    ann.until("the microphone is open", "aq.local['microphone audio']");
    assert!(ann.eval::<bool>("!window.isFilmed && !aq.local['camera video']"), "sound only opens no camera");
    ann.is_sound();
}

#[test]
fn an_unplugged_microphone_is_replaced_by_the_next_one() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), MICROPHONES);
    ann.sees_and_hears("Bob");
    let lines = bob.transceivers();
    bob.eval::<()>("unplug()");
    bob.until("it is explained", "probe.says().includes('“Headset” was unplugged. Using “Built-in microphone”.')");
    assert_eq!(bob.eval::<String>("aq.local['microphone audio'].label"), "Built-in microphone");
    ann.until("Bob is not silent", &format!("!{}.classList.contains('silent')", tile("Bob")));
    ann.sees_and_hears("Bob");
    assert_eq!(bob.transceivers(), lines, "without a new offer");
    for page in [&mut ann, &mut bob] {
        page.is_sound();
    }
}

#[test]
fn a_page_that_saves_data_requests_and_sends_small_pictures() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.gets_lines_of("Bob", 720);
    bob.gets_lines_of("Ann", 720);
    let choose = |quality: &str| {
        format!(
            "import(new URL('devices/options.js', document.baseURI)).then(({{ chooseQuality }}) => chooseQuality('{quality}'))"
        )
    };
    bob.eval::<()>(&choose("save"));
    bob.gets_lines_of("Ann", 180);
    bob.sends_layers(&["q"]);
    ann.gets_lines_of("Bob", 180);
    bob.eval::<()>(&choose("auto"));
    ann.gets_lines_of("Bob", 720);
    bob.gets_lines_of("Ann", 720);
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn space_unmutes_while_it_is_held_and_a_second_tab_is_noticed() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&format!("{}&mic=off", server.link("garden", "Ann")));
    ann.is_joined();
    ann.press("#btn-mic");
    let is_on = |is_on: bool| format!("aq.local['microphone audio']?.enabled === {is_on}");
    ann.until("the microphone is on", &is_on(true));
    ann.press("#btn-mic");
    ann.until("it is muted", &is_on(false));
    // A button would take the space itself.
    ann.eval::<()>("void document.activeElement.blur()");
    let space = |kind: &str| {
        format!("void document.body.dispatchEvent(new KeyboardEvent('{kind}', {{ key: ' ', bubbles: true }}))")
    };
    ann.eval::<()>(&space("keydown"));
    ann.until("it is on while space is held", &is_on(true));
    ann.eval::<()>(&space("keyup"));
    ann.until("it is muted again", &is_on(false));
    assert!(
        ann.eval::<bool>("!dispatchEvent(new Event('beforeunload', { cancelable: true }))"),
        "the browser asks before a reload"
    );

    // Another tab of the same browser in the same room.
    ann.eval::<()>("void (window.other = new BroadcastChannel('aq-call'), other.postMessage({ kind: 'hello', room: 'garden', tab: 'other' }))");
    ann.until("the other tab is named", "document.querySelector('[data-notice=twin]')?.checkVisibility()");
    ann.eval::<()>("void other.postMessage({ kind: 'leave', room: 'garden', tab: 'other' })");
    ann.until("this tab leaves", "document.body.dataset.state === 'ended'");
    assert!(
        ann.eval::<bool>("dispatchEvent(new Event('beforeunload', { cancelable: true }))"),
        "nothing is asked after the call"
    );
}
