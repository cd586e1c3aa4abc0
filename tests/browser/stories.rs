//! User stories, one per test.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::chromium::Chromium;
use crate::page::{screen, tile};
use crate::program::Program;
use crate::turn::{alone, side_by_side};

/// Time limit for a participant that leaves to disappear, on a busy machine. Timeouts of the server are longer.
pub const AT_ONCE: Duration = Duration::from_secs(5);

pub const MARKUP: &str = r#"<img src=x onerror="window.hacked=1">"#;

/// Makes a browser deny the devices with `NotAllowedError`, as after a refused prompt.
const REFUSED: &str = "navigator.mediaDevices.getUserMedia = async () => {
    throw new DOMException('Permission denied', 'NotAllowedError');
};";

/// Makes a browser's microphone send a tone every other second.
const TALKER: &str = "{
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await given(wanted);
        if (!stream.getAudioTracks().length) return stream;
        const audio = new AudioContext();
        const [tone, gate, out] = [audio.createOscillator(), audio.createGain(), audio.createMediaStreamDestination()];
        tone.connect(gate).connect(out);
        gate.gain.value = 0;
        tone.start();
        setInterval(() => { gate.gain.value = gate.gain.value ? 0 : 0.5; }, 1000);
        stream.getAudioTracks().forEach((track) => { stream.removeTrack(track); track.stop(); });
        out.stream.getAudioTracks().forEach((track) => stream.addTrack(track));
        return stream;
    };
}";

#[test]
fn two_pages_meet_talk_part_and_meet_again() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.url);
    ann.joins("garden", "Ann");
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    bob.is_joined();

    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    for page in [&mut ann, &mut bob] {
        page.until("the own tile plays", "document.querySelector('.tile.self.has-video video').currentTime > 0");
        assert!(
            page.eval::<bool>("document.querySelector('.tile.self video').muted"),
            "the own audio is muted, to avoid an echo"
        );
        // Chromium sends RED audio only if the answer lists it first.
        for (end, direction, expected) in
            [("sender", "sendonly", "audio/red,audio/opus"), ("receiver", "recvonly", "audio/opus,audio/red")]
        {
            let codecs = format!(
                "aq.pc.getTransceivers().filter(({{ currentDirection }}) => currentDirection === '{direction}')
                    .map(({{ {end} }}) => {end}.getParameters().codecs.map(({{ mimeType }}) => mimeType).join())"
            );
            let codecs = page.eval::<Vec<String>>(&codecs);
            assert!(codecs.iter().any(|codecs| codecs == expected), "{end}: {codecs:?}");
        }
    }

    ann.says(MARKUP);
    bob.says("That is just text here.");
    bob.says(MARKUP);
    for (page, other) in [(&mut ann, "Bob"), (&mut bob, "Ann")] {
        page.finds_line(other, MARKUP);
        assert!(page.chat().iter().any(|line| line.own && line.text == MARKUP));
        assert!(page.eval::<bool>("!document.querySelector('#chat-log img')"), "chat text became markup");
    }

    let lines = ann.transceivers();
    bob.leaves();
    ann.has_tiles_of(&[]);
    bob.press("#btn-rejoin");
    bob.is_joined();
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    assert_eq!(ann.transceivers(), lines, "m-lines of a participant that left are reused");
    ann.is_sound();
    bob.is_sound();

    if let Some(file) = env::var_os("AQ_SCREENSHOT") {
        let mut ann = chromium.open(&server.link("weekly", "Ann"));
        let mut bob = chromium.open(&server.link("weekly", "Bob"));
        bob.is_joined();
        ann.says("Hi Bob! Can you hear me?");
        bob.finds_line("Ann", "Hi Bob! Can you hear me?");
        bob.says("Loud and clear. Nice to see you!");
        bob.says("Shall we wait for Cleo?");
        ann.finds_line("Bob", "Shall we wait for Cleo?");
        ann.says("She is on her way. I have sent her the link.");
        ann.sees_and_hears("Bob");
        ann.takes_picture(Path::new(&file));
    }
}

#[test]
fn without_devices_a_participant_can_watch_listen_and_chat() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut eve = chromium.open_with(&server.link("garden", "Eve"), REFUSED);
    eve.is_joined();
    eve.until("the denied permission is explained", "probe.says().includes('You can watch, listen and chat.')");
    eve.sees_and_hears("Ann");
    ann.has_tiles_of(&["Eve"]);
    ann.shows_neither_picture_nor_sound_of("Eve");
    eve.says("I have no camera.");
    ann.finds_line("Eve", "I have no camera.");
    ann.says("Never mind.");
    eve.finds_line("Ann", "Never mind.");
    ann.is_sound();
    eve.is_sound();
}

#[test]
fn a_picture_out_of_sight_is_not_sent() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    for _ in 0..2 {
        ann.until("it is out of sight", "(document.querySelector('#tiles').style.display = 'none') === 'none'");
        ann.gets_no_picture_of("Bob");
        bob.sees_and_hears("Ann");
        ann.until("it is back", "(document.querySelector('#tiles').style.display = '') === ''");
        ann.sees_and_hears("Bob");
    }
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn a_speaking_participant_is_marked() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    // A tone and silence, for a second each, instead of the fake device's beep, which is too short to count as speech.
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), TALKER);
    bob.is_joined();
    for _ in 0..2 {
        ann.marks_as_speaking("Bob", true);
        ann.marks_as_speaking("Bob", false);
    }
    bob.until("the own tile is marked", "document.querySelector('.tile.self').classList.contains('speaking')");
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn a_call_comes_back_after_the_server_was_away() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let mut server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");

    let start = Instant::now();
    server.stop();
    let explained = "document.body.dataset.state === 'reconnecting' && /Reconnecting/.test(probe.says())";
    for page in [&mut ann, &mut bob] {
        page.until("the lost connection is explained", explained);
    }
    // Any later, the page might have noticed only by ICE.
    assert!(start.elapsed() < AT_ONCE, "reported after {:?}", start.elapsed());
    // The server stays away longer than announced.
    for page in [&mut ann, &mut bob] {
        page.until("it tries again", "/can’t be reached/.test(probe.says())");
    }
    server.start_again();
    for page in [&mut ann, &mut bob] {
        page.is_joined();
        page.until("the words are gone", "!probe.says()");
    }
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    ann.has_tiles_of(&["Bob"]);
    bob.has_tiles_of(&["Ann"]);
    ann.says("There we are again.");
    bob.finds_line("Ann", "There we are again.");
}

#[test]
fn a_call_moves_to_another_server_before_its_own_ends() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let there = Program::start(&["--allow-origin", "*"]);
    let mut here = Program::start(&["--drain", "20", "--drain-url", &there.url]);
    let mut ann = chromium.open(&here.link("garden", "Ann"));
    let mut bob = chromium.open(&here.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    let start = Instant::now();
    // The server ends as soon as all participants have moved.
    here.stop();
    assert!(start.elapsed() < Duration::from_secs(19), "after {:?}", start.elapsed());
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    ann.says("Nice here.");
    bob.finds_line("Ann", "Nice here.");
    for page in [&mut ann, &mut bob] {
        page.until("nothing is wrong", "!probe.says()");
    }
}

#[test]
fn the_page_says_that_pictures_are_reduced_because_the_server_is_busy() {
    let mut turn = alone();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    let mark = format!("{}.querySelector('.slow')?.title.startsWith('The server has too much to do')", tile("Bob"));
    let flood = server.flood();
    ann.until("a picture is marked", &mark);
    ann.plays(&tile("Bob"), false, true);
    drop(flood);
    turn.measured();
    // The video returns within seconds after the load.
    ann.until_within(Duration::from_secs(60), "the mark is gone", &format!("!{mark}"));
    ann.sees_and_hears("Bob");
}

#[test]
fn others_see_when_devices_are_switched_off_and_on() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");

    bob.press("#btn-mic");
    ann.until("Bob is shown as silent", &format!("{}.classList.contains('silent')", tile("Bob")));
    ann.hears_silence_of("Bob");
    bob.press("#btn-camera");
    ann.shows_neither_picture_nor_sound_of("Bob");
    bob.press("#btn-screen");
    ann.sees_screen_of("Bob");
    bob.until("it says that it presents", "probe.says().startsWith('You are presenting')");
    ann.shows_neither_picture_nor_sound_of("Bob");

    // A participant that joins later sees the same.
    let mut cleo = chromium.open(&server.link("garden", "Cleo"));
    cleo.sees_screen_of("Bob");
    cleo.shows_neither_picture_nor_sound_of("Bob");
    bob.press("#btn-mic");
    bob.press("#btn-camera");
    for page in [&mut ann, &mut cleo] {
        page.sees_and_hears("Bob");
        page.until("Bob is no more silent", &format!("!{}.classList.contains('silent')", tile("Bob")));
        page.sees_screen_of("Bob");
    }

    bob.press("#btn-screen");
    for page in [&mut ann, &mut cleo] {
        page.until("the screen is gone", &format!("!{}", screen("Bob")));
        page.sees_and_hears("Bob");
    }
    bob.press("#btn-screen");
    ann.sees_screen_of("Bob");
    cleo.sees_screen_of("Bob");
    for page in [&mut ann, &mut bob, &mut cleo] {
        page.is_sound();
    }
}

#[test]
fn a_pinned_participant_is_large_and_keeps_a_seat_under_last_n() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    // The fake devices beep in turn, so that without a pin the participants in the two seats would change.
    let server = Program::start(&["--last-n", "2", "--loudest", "1"]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let names = ["Bob", "Cleo", "Dan"];
    let others = names.map(|name| chromium.open(&server.link("garden", name)));
    ann.has_tiles_of(&names);
    let mut lines = 0;
    for name in names {
        ann.picks(name, "pin");
        let large =
            "[...document.querySelectorAll('.tile[data-role=large]')].map(({ dataset }) => dataset.name).join()";
        ann.until(&format!("{name} alone is large"), &format!("{large} === '{name}'"));
        ann.plays(&tile(name), true, false);
        lines = lines.max(ann.transceivers());
    }
    if let Some(file) = env::var_os("AQ_SCREENSHOT_PINNED") {
        ann.takes_picture(Path::new(&file));
    }
    assert!(lines <= 2 + 2 * 2, "{lines} lines");
    ann.has_tiles_of(&names);
    ann.picks("Dan", "pin");
    ann.until("no participant is large", "!document.querySelector('.tile[data-role=large]')");
    ann.has_tiles_of(&names);
    for mut page in others.into_iter().chain([ann]) {
        page.is_sound();
    }
}
