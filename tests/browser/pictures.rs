//! What one does with pictures: statistics, volume, not watching, the own picture, shared screens.

use crate::chromium::Chromium;
use crate::page::{Page, screen, tile};
use crate::program::Program;
use crate::turn::side_by_side;

/// Gives the page a clipboard that can be read, and shares with sound; one screen of `ratio` and 400 lines.
const OWN_SCREEN: &str = "{
    window.copied = '';
    Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (text) => { window.copied = text; } } });
    navigator.mediaDevices.getDisplayMedia = async (wanted) => {
        window.wanted = wanted;
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [window.ratio * 400, 400];
        setInterval(() => { canvas.getContext('2d').fillStyle = `hsl(${Math.random() * 360} 50% 50%)`; canvas.getContext('2d').fillRect(0, 0, canvas.width, 400); }, 60);
        const audio = new AudioContext();
        const [tone, out] = [audio.createOscillator(), audio.createMediaStreamDestination()];
        tone.connect(out);
        tone.start();
        return new MediaStream([...canvas.captureStream(20).getTracks(), ...out.stream.getTracks()]);
    };
}";

/// The rectangle of a tile as left, top, width and height, when it stands still.
fn place(page: &mut Page, tile: &str) -> [f64; 4] {
    page.until("the tile stands still", &format!("{tile}?.getAnimations().length === 0"));
    page.eval(&format!("(({{ x, y, width, height }}) => [x, y, width, height])({tile}.getBoundingClientRect())"))
}

fn element(page: &mut Page, tile: &str) -> (f64, bool) {
    page.eval(&format!("(({{ volume, muted }}) => [volume, muted])({tile}.querySelector('video'))"))
}

fn turns_volume(page: &mut Page, percent: u32) {
    page.until("the slider is there", "document.querySelector('#volume')");
    page.eval::<()>(&format!(
        "void ((input) => {{ input.value = {percent}; input.dispatchEvent(new Event('input')); }})(document.querySelector('#volume'))"
    ));
}

#[test]
fn a_person_looks_at_statistics_and_turns_a_voice_up() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.link("garden", "Ann"), OWN_SCREEN);
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");

    ann.keys("s");
    let texts =
        |which: &str| format!("document.querySelector('#figures [data-key{which}] .streams')?.textContent ?? ''");
    ann.until(
        "Bob's figures are there",
        &format!("/\\d\\s×\\s\\d.*frames.*VP8.*sound.*opus/.test({})", texts("*=camera]:first-child[data-key")),
    );
    ann.until("so are the own layers", &format!("/layer q/.test({})", texts("$=camera]:last-child[data-key")));
    ann.until("the traffic is drawn", "document.querySelectorAll('.graph .line[d^=M]').length === 2");
    ann.until("the way is named", "/UDP., direct/.test(document.querySelector('.figures-list').textContent)");
    ann.press("#btn-report");
    let report: String = ann.eval("copied");
    assert!(report.contains("\"codec\": \"VP8\"") && report.contains("\"protocol\": \"udp\""), "{report}");
    assert!(!report.contains("Bob") && !report.contains("127.0.0.1"), "the report names nobody: {report}");
    ann.eval::<()>("void document.querySelector('#report-personal').click()");
    ann.eval::<()>("void document.querySelector('#btn-report').click()");
    let report: String = ann.eval("copied");
    assert!(report.contains("Bob"), "{report}");
    ann.press("#btn-statistics-close");

    // Above 100 %, Web Audio plays instead of the element.
    let face = tile("Bob");
    ann.press(".tile[data-name=Bob] > .tile-button");
    for (percent, wanted) in [(200, (1.0, true)), (50, (0.5, false)), (0, (0.0, false)), (100, (1.0, false))] {
        turns_volume(&mut ann, percent);
        ann.until(
            "the volume is shown",
            &format!("document.querySelector('.volume output').textContent === '{percent} %'"),
        );
        assert_eq!(element(&mut ann, &face), wanted, "{percent} %");
    }
    turns_volume(&mut ann, 150);
    ann.press("#item-watch");
    ann.gets_no_picture_of("Bob");
    ann.until("it says so", &format!("{face}.textContent.includes('You are not watching this.')"));
    assert_eq!(element(&mut ann, &face), (1.0, true), "the volume is kept");
    ann.picks("Bob", "watch");
    ann.plays(&face, true, false);
    ann.picks("Bob", "figures");
    ann.until(
        "its statistics come first",
        "document.querySelector('#figures section').dataset.key === `${aq.participants[0].id} camera`",
    );
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn the_own_picture_moves_shrinks_and_hides() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    let own = "document.querySelector('.tile.self')";
    let [left, top, width, height] = place(&mut ann, own);
    assert!(left > 900.0 && top > 400.0, "it stands at the bottom and at the end: {left} {top}");
    ann.drags((left + 40.0, top + 40.0), (200.0, 150.0));
    let [left, top, ..] = place(&mut ann, own);
    assert!(left < 40.0 && top < 40.0, "it is dragged to {left} {top}");
    assert!(ann.eval::<bool>("!document.querySelector('#tile-menu')"), "a drag opens no menu");
    ann.eval::<()>("void document.querySelector('.tile.self > .tile-button').focus()");
    ann.keys("ArrowRight");
    let [left, top, ..] = place(&mut ann, own);
    assert!(left > 900.0 && top < 40.0, "an arrow key moves it to {left} {top}");
    ann.keys("ArrowRight");
    ann.until(
        "at the edge, the arrow goes to the next tile",
        "document.activeElement.closest('.tile').dataset.name === 'Bob'",
    );

    // In a script from right to left, the end is at the left.
    ann.eval::<()>("void (document.documentElement.dir = 'rtl')");
    ann.resizes(1270, 800);
    ann.until("it stands at the left", &format!("{own}.getBoundingClientRect().x < 40"));
    ann.eval::<()>("void (document.documentElement.dir = 'ltr')");
    ann.resizes(1280, 800);
    ann.until("it stands at the right", &format!("{own}.getBoundingClientRect().x > 900"));

    ann.press(".tile.self > .tile-button");
    ann.press("#item-small");
    let chip = place(&mut ann, own);
    assert!(chip[2] < width && chip[3] < height && chip[3] > 43.0, "a chip: {chip:?}");
    ann.drags((chip[0] + 20.0, chip[1] + 20.0), (chip[0] + 20.0, chip[1] + 20.0));
    assert_eq!(place(&mut ann, own)[2], width, "a press opens it");
    ann.keys("y");
    ann.until("it is hidden", &format!("{own}.classList.contains('away')"));
    bob.sees_and_hears("Ann");
    ann.picks_more("self");
    ann.until("it is back", &format!("!{own}.classList.contains('away')"));
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn several_screens_are_shared_with_sound() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), OWN_SCREEN);
    let mut cleo = chromium.open_with(&server.link("garden", "Cleo"), OWN_SCREEN);
    ann.has_tiles_of(&["Bob", "Cleo"]);
    bob.eval::<()>("void (window.ratio = 2)");
    cleo.eval::<()>("void (window.ratio = 0.75)");
    bob.press("#btn-screen");
    ann.plays(&screen("Bob"), true, true);
    let large = "document.querySelector('.tile[data-role=share]')";
    let is = |name: &str, ratio: f64| {
        format!(
            "(({{ dataset, offsetWidth, offsetHeight }}) => dataset.name === '{name}' && Math.abs(offsetWidth / offsetHeight - {ratio}) < 0.02)({large})"
        )
    };
    ann.until("it has its aspect", &is("Bob", 2.0));
    cleo.press("#btn-screen");
    ann.sees_screen_of("Cleo");
    ann.until("it is said", "document.querySelector('#said').textContent === 'Cleo shares a screen'");
    ann.until("the last one is large", &is("Cleo", 0.75));
    ann.press("#btn-next-share");
    ann.until("the other one is large by choice", &is("Bob", 2.0));
    ann.keys("z");
    ann.until("and by key", &is("Cleo", 0.75));

    // No hall of mirrors, and stereo in both directions.
    assert!(bob.eval::<bool>(
        "!document.querySelector('.tile.screen[data-name=Bob]') && wanted.selfBrowserSurface === 'exclude'"
    ));
    for (page, direction) in [(&mut bob, "outbound-rtp"), (&mut ann, "inbound-rtp")] {
        let stereo = format!(
            "aq.pc.getStats().then((all) => [...all.values()].some(({{ type, codecId }}) => type === '{direction}' && /stereo=1/.test(all.get(codecId)?.sdpFmtpLine)))"
        );
        page.until(&format!("stereo is {direction}"), &stereo);
    }
    let prefers = "(({ degradationPreference }) => degradationPreference)(aq.pc.getSenders().find(({ track }) => track === aq.local['screen video']).getParameters())";
    for (hint, preference) in [("motion", "balanced"), ("detail", "maintain-resolution")] {
        bob.press("[data-notice=presenting] .button:not(:last-child)");
        let is_set = format!("aq.local['screen video'].contentHint === '{hint}' && {prefers} === '{preference}'");
        bob.until(&format!("{hint} matters"), &is_set);
    }
    bob.press("[data-notice=presenting] .button:last-child");
    ann.until("the screen is gone", &format!("!{}", screen("Bob")));
    ann.until("it is said", "document.querySelector('#said').textContent === 'Bob shares no screen any more'");
    for page in [&mut ann, &mut bob, &mut cleo] {
        page.is_sound();
    }
}

#[test]
fn the_call_stands_in_a_small_window_with_its_controls() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    ann.picks_more("float");
    let small = "documentPictureInPicture.window?.document";
    ann.until("it shows Bob", &format!("{small}?.querySelector('video').videoWidth > 0"));
    ann.eval::<()>(&format!("void {small}.querySelector('#btn-mic').click()"));
    bob.until("the microphone is off", &format!("{}.classList.contains('silent')", tile("Ann")));
    ann.until("the page shows it, too", "document.querySelector('#btn-mic').classList.contains('off')");
    bob.press("#btn-camera");
    ann.until("the initials stand there", &format!("{small}.querySelector('video').hidden"));
    ann.eval::<()>(&format!("void {small}.querySelector('#btn-leave').click()"));
    ann.until("the call is over", "document.body.dataset.state === 'ended' && !documentPictureInPicture.window");
    bob.has_tiles_of(&[]);
    ann.is_sound();
    bob.is_sound();
}
