//! axe-core finds no barrier in any state of the page, in light and in dark.

use std::{env, fs};

use crate::chromium::Chromium;
use crate::page::Page;
use crate::program::Program;
use crate::skip;
use crate::turn::side_by_side;

/// What axe-core finds, one line for each rule.
const FINDS: &str = "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
    violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join()}`))";

fn is_accessible(page: &mut Page, state: &str) {
    for dark in [false, true] {
        page.prefers_dark(dark);
        // Colors change over some milliseconds, unless no motion is preferred.
        page.until(
            &format!("{state} stands still"),
            "document.getAnimations().every(({ playState }) => playState !== 'running')",
        );
        let found: Vec<String> = page.eval(FINDS);
        assert!(found.is_empty(), "{state}, dark: {dark}: {found:#?}");
    }
}

#[test]
fn axe_finds_nothing_in_any_state() {
    let _turn = side_by_side();
    let Some(path) = env::var_os("AQ_AXE") else { return skip("AXE", "no axe-core (its axe.min.js in AQ_AXE)") };
    let axe = fs::read_to_string(path).expect("AQ_AXE is a file");
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&format!("{}?room=garden", server.url));
    ann.eval::<()>(&format!("void (() => {{ {axe} }})()"));
    is_accessible(&mut ann, "the lobby");
    ann.joins("garden", "Ann");
    is_accessible(&mut ann, "a call with oneself");
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    is_accessible(&mut ann, "one to one");
    let mut cleo = chromium.open(&server.link("garden", "Cleo"));
    ann.has_tiles_of(&["Bob", "Cleo"]);
    is_accessible(&mut ann, "three people");
    cleo.keys("h");
    bob.press("#btn-screen");
    bob.press("#btn-mic");
    ann.sees_screen_of("Bob");
    is_accessible(&mut ann, "a shared screen");
    ann.says("Hello https://example.org");
    is_accessible(&mut ann, "the chat");
    for (key, content) in [("p", "#people-list .person"), ("s", "#figures section")] {
        ann.keys("Escape");
        ann.keys(key);
        ann.until(content, &format!("document.querySelector('{content}')"));
        is_accessible(&mut ann, content);
    }
    ann.keys("Escape");
    for (key, content) in [("?", "#keys"), ("n", "#rename"), (",", "#settings"), ("e", "#react-menu")] {
        ann.keys(key);
        ann.until(content, &format!("document.querySelector('{content}')"));
        is_accessible(&mut ann, content);
        ann.keys("Escape");
        ann.until("it is closed", &format!("!document.querySelector('{content}')"));
    }
    ann.press("#btn-more");
    is_accessible(&mut ann, "the menu of all");
    ann.keys("Escape");
    ann.press(".tile[data-name=Cleo] > .tile-button");
    ann.until("the menu of a tile", "document.querySelector('#volume')");
    is_accessible(&mut ann, "the menu of a tile");
    ann.keys("Escape");
    ann.press("#btn-screen");
    ann.until("it says that it presents", "probe.says().startsWith('You are presenting')");
    is_accessible(&mut ann, "the banner of the own screen");
    let confirm = "import(new URL('views/confirm.js', document.baseURI)).then(({ ask }) => void ask({ title: 'End?', text: 'All leave.', yes: 'End' }))";
    ann.eval::<()>(confirm);
    is_accessible(&mut ann, "a question");
    ann.keys("Escape");
    for (width, height) in [(360, 740), (740, 360)] {
        ann.resizes(width, height);
        is_accessible(&mut ann, &format!("{width}x{height}"));
    }
    ann.resizes(1280, 800);
    ann.leaves();
    is_accessible(&mut ann, "the end");
    ann.is_sound();
}
