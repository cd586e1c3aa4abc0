//! Absences for which the server or the page waits half a minute, and the story rests meanwhile.
//!
//! Tests start in the order of their names, so these begin first and wait while others run.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::chromium::Chromium;
use crate::page::tile;
use crate::program::Program;
use crate::scratch::Scratch;
use crate::stories::{AT_ONCE, MARKUP};
use crate::turn::side_by_side;

/// How long the server keeps a participant whose connection ended without `leave`.
const RETURN: Duration = Duration::from_secs(30);

/// Time limit for a call to come back before the end that the server announced.
const EARLY: Duration = Duration::from_secs(50);

/// Makes a browser behave as without UDP until `blocked` is false: without a relay it has no candidates.
const NO_UDP: &str = "
    window.blocked = true;
    const Given = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Given {
        constructor(settings) {
            super({ ...settings, iceTransportPolicy: window.blocked ? 'relay' : 'all' });
        }
    };";

const EXPLAINED: &str = "probe.says().includes('this network blocks them')";

#[test]
fn a_third_participant_crashes_and_a_fourth_reuses_its_m_lines() {
    let mut turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut markup = chromium.open(&server.link("garden", MARKUP));
    let mut cleo = chromium.open(&server.link("garden", "Cleo"));
    ann.sees_and_hears(MARKUP);
    ann.sees_and_hears("Cleo");
    markup.sees_and_hears("Ann");
    markup.sees_and_hears("Cleo");
    cleo.sees_and_hears("Ann");
    cleo.sees_and_hears(MARKUP);

    markup.says("Hello");
    for page in [&mut ann, &mut cleo] {
        page.finds_line(MARKUP, "Hello");
        let shown: String = page.eval(&format!("{}.querySelector('.name').textContent", tile(MARKUP)));
        assert_eq!(shown, MARKUP);
        assert!(page.eval::<bool>("!document.querySelector('#tiles img, #chat-log img')"), "a name became markup");
    }

    let lines = ann.transceivers();
    let start = Instant::now();
    cleo.crashes();
    turn.rests();
    // A crash sends no `leave`, so the participant may still return.
    let gone = "!document.querySelector('.tile[data-name=\"Cleo\"]')";
    for page in [&mut ann, &mut markup] {
        page.until_within(RETURN + AT_ONCE, "the tile of the crashed page goes", gone);
    }
    assert!(start.elapsed() > RETURN - AT_ONCE, "the tile stayed for only {:?}", start.elapsed());
    turn.resumes();
    let mut dan = chromium.open(&server.link("garden", "Dan"));
    ann.sees_and_hears("Dan");
    markup.sees_and_hears("Dan");
    dan.sees_and_hears("Ann");
    dan.sees_and_hears(MARKUP);
    ann.sees_and_hears(MARKUP);
    markup.sees_and_hears("Ann");
    assert_eq!(ann.transceivers(), lines, "m-lines of a participant that vanished are reused");

    dan.is_sound();
    let start = Instant::now();
    chromium.close(dan);
    ann.has_tiles_of(&[MARKUP]);
    assert!(start.elapsed() < AT_ONCE, "the tile stayed for {:?}", start.elapsed());
    ann.is_sound();
    markup.is_sound();
}

#[test]
fn a_call_comes_back_from_a_server_that_ended_earlier_than_announced() {
    let mut turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let mut server = Program::start(&["--drain", "60"]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    let start = Instant::now();
    server.stop_at_once();
    server.start_again();
    turn.rests();
    for page in [&mut ann, &mut bob] {
        page.until_within(EARLY, "nothing is wrong", "!probe.says()");
    }
    ann.sees_and_hears("Bob");
    assert!(start.elapsed() < EARLY, "after {:?}", start.elapsed());
}

#[test]
fn a_page_that_knows_only_six_messages_takes_part() {
    let mut turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let www = Scratch::new("www");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    www.copies(&here.join("www"), "");
    for file in ["plain.html", "plain.js"] {
        fs::copy(here.join("tests/browser").join(file), www.path().join(file)).expect("it is copied");
    }
    let server = Program::start(&["--www", www.path().to_str().expect("the build folder's path is UTF-8")]);
    let link = format!("{}plain.html", server.url);

    let mut first = chromium.open(&link);
    let mut second = chromium.open(&link);
    first.plays("probe.plain(0)", true, true);
    second.plays("probe.plain(0)", true, true);
    first.eval::<()>("say('hello')");
    second.until("the chat message arrives", "window.lastLine === 'hello'");
    chromium.close(second);
    // This page sends no `leave`, so the server keeps its participant for some time.
    turn.rests();
    first.until_within(RETURN + AT_ONCE, "the video is taken away", "!probe.plain(0)");
    turn.resumes();

    let mut ann = chromium.open(&server.link("default", "Ann"));
    ann.is_joined();
    first.plays("probe.plain(0)", true, true);
    ann.has_tiles_of(&["Guest"]);
    ann.sees_and_hears("Guest");
    ann.says("Welcome");
    first.until("the chat message arrives", "window.lastLine === 'Welcome'");
    first.is_sound();
    ann.is_sound();
}

#[test]
fn with_blocked_udp_the_page_explains_it_can_chat_and_connects_later() {
    let mut turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    ann.is_joined();
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), NO_UDP);
    bob.is_joined();
    let joined = Instant::now();
    bob.until("it is explained", EXPLAINED);
    assert!(joined.elapsed() < Duration::from_secs(7), "explained after {:?}", joined.elapsed());
    bob.says("I hear nothing.");
    ann.finds_line("Bob", "I hear nothing.");
    ann.has_tiles_of(&["Bob"]);
    // The page tries again after pauses.
    turn.rests();
    let marked =
        "document.querySelector('.tile[data-name=\"Bob\"] .note')?.textContent.includes('No sound or picture')";
    ann.until_within(Duration::from_secs(30), "it is marked", marked);
    assert!(bob.eval::<bool>(EXPLAINED), "the explanation stays");
    bob.eval::<bool>("(window.first = aq.pc, window.blocked = false, true)");
    let renewed = "aq.pc !== window.first && aq.pc.connectionState === 'connected'";
    bob.until_within(Duration::from_secs(60), "a fresh transport connects", renewed);
    turn.resumes();
    bob.until("the words are gone", "!probe.says()");
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    ann.says("There you are.");
    bob.finds_line("Ann", "There you are.");
    let gone = "document.querySelector('.tile[data-name=\"Bob\"] .note').hidden";
    ann.until("the mark is gone", gone);
}
