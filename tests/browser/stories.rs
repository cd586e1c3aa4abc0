//! The stories, one test each, one after the other: two cores carry one call of four browsers, not several.

use std::env;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chromium::Chromium;
use crate::program::Program;
use crate::page::tile;

const MARKUP: &str = r#"<img src=x onerror="window.hacked=1">"#;

/// A browser that may not use the devices; `NotAllowedError` is what a refused prompt gives.
const REFUSED: &str = "navigator.mediaDevices.getUserMedia = async () => {
    throw new DOMException('Permission denied', 'NotAllowedError');
};";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn two_pages_meet_talk_part_and_meet_again() {
    let _turn = turn();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.url);
    ann.joins("garden", "Ann");
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    bob.is_joined();

    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    for page in [&mut ann, &mut bob] {
        page.plays("document.querySelector('.tile.self')", false, false);
        assert!(page.eval::<bool>("document.querySelector('.tile.self video').muted"), "one's own sound is an echo");
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
    bob.press("#btn-join");
    bob.is_joined();
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    assert_eq!(ann.transceivers(), lines, "the lines of who left are used again");
    ann.is_sound();
    bob.is_sound();

    if let Some(file) = env::var_os("AQ_SCREENSHOT") {
        let mut ann = chromium.open(&server.link("picture", "Ann"));
        let mut bob = chromium.open(&server.link("picture", "Bob"));
        bob.is_joined();
        ann.says("Hi Bob! Can you hear me?");
        bob.says("Loud and clear. Nice to see you!");
        bob.says("Shall we wait for Cleo?");
        ann.says("She is on her way. I have sent her the link.");
        ann.finds_line("Bob", "Shall we wait for Cleo?");
        ann.sees_and_hears("Bob");
        ann.takes_picture(Path::new(&file));
    }
}

#[test]
fn a_third_vanishes_and_a_fourth_takes_its_place() {
    let _turn = turn();
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
    cleo.crashes();
    ann.has_tiles_of(&[MARKUP]);
    markup.has_tiles_of(&["Ann"]);
    let mut dan = chromium.open(&server.link("garden", "Dan"));
    ann.sees_and_hears("Dan");
    markup.sees_and_hears("Dan");
    dan.sees_and_hears("Ann");
    dan.sees_and_hears(MARKUP);
    ann.sees_and_hears(MARKUP);
    markup.sees_and_hears("Ann");
    assert_eq!(ann.transceivers(), lines, "the lines of who vanished are used again");

    dan.is_sound();
    chromium.close(dan);
    ann.has_tiles_of(&[MARKUP]);
    ann.is_sound();
    markup.is_sound();
}
