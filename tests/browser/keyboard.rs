//! A call with the keyboard only.

use crate::chromium::Chromium;
use crate::page::Page;
use crate::program::Program;
use crate::turn::side_by_side;

/// Maximum number of Tab presses, more than a page has focusable elements.
const TABS: usize = 40;

fn focus(page: &mut Page, selector: &str) {
    page.until(&format!("{selector} is there"), &format!("document.querySelector({selector:?})?.checkVisibility()"));
    // The element cannot be focused while something covers it.
    let look = format!("(document.querySelector({selector:?}).focus(), document.activeElement.matches({selector:?}))");
    page.until(&format!("{selector} has the focus"), &look);
}

fn has_focus(page: &mut Page, selector: &str) {
    let look =
        format!("document.activeElement.matches({selector:?}) || document.activeElement.outerHTML.slice(0, 200)");
    page.until(&format!("{selector} has the focus"), &format!("({look}) === true"));
}

#[test]
fn focus_survives_page_changes_and_stays_out_of_covered_elements() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.url);
    ann.types("#room", "garden");
    ann.keys("Enter");
    ann.is_joined();
    has_focus(&mut ann, "#room-name");
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    let mut cleo = chromium.open(&server.link("garden", "Cleo"));
    let mut dan = chromium.open(&server.link("garden", "Dan"));
    ann.has_tiles_of(&["Bob", "Cleo", "Dan"]);

    // Pin the first on an empty stage, replace it by the second, and unpin.
    for (name, other) in [("Bob", None), ("Cleo", Some("Bob"))] {
        focus(&mut ann, &format!("#grid .tile[data-name={name}] .corner"));
        ann.keys("Enter");
        has_focus(&mut ann, &format!("#stage .tile[data-name={name}] .corner"));
        if let Some(other) = other {
            ann.until("it is back", &format!("document.querySelector('#grid .tile[data-name={other}]')"));
        }
    }
    ann.keys("Enter");
    has_focus(&mut ann, "#grid .tile[data-name=Cleo] .corner");

    // Participants whose tile has the focus leave: one from the middle, one from the stage, and the last one.
    cleo.leaves();
    ann.has_tiles_of(&["Bob", "Dan"]);
    has_focus(&mut ann, ".tile[data-name=Bob] .corner, .tile[data-name=Dan] .corner");
    focus(&mut ann, "#grid .tile[data-name=Dan] .corner");
    ann.keys("Enter");
    has_focus(&mut ann, "#stage .tile[data-name=Dan] .corner");
    dan.leaves();
    ann.has_tiles_of(&["Bob"]);
    has_focus(&mut ann, ".tile[data-name=Bob] .corner");
    bob.leaves();
    ann.has_tiles_of(&[]);
    has_focus(&mut ann, "#room-name");
    // An element is hidden while it has the focus.
    ann.eval::<()>("void (document.querySelector('#notice').hidden = false)");
    focus(&mut ann, "#btn-notice");
    ann.keys("Enter");
    has_focus(&mut ann, "#room-name");
    // If the user removes the focus, the page does not restore it.
    focus(&mut ann, "#btn-mic");
    ann.eval::<()>("void document.activeElement.blur()");
    ann.eval::<()>("new Promise((done) => setTimeout(() => { document.querySelector('#btn-mic').hidden = true; setTimeout(done, 50); }, 50))");
    has_focus(&mut ann, "body");

    // On a phone the chat covers the call.
    ann.resizes(360, 640);
    focus(&mut ann, "#btn-chat");
    ann.keys("Enter");
    has_focus(&mut ann, "#chat-input");
    let mut reached = 0;
    for _ in 0..TABS {
        ann.keys("Tab");
        assert!(
            ann.eval::<bool>(
                "document.activeElement === document.body || Boolean(document.activeElement.closest('#chat, #notice'))"
            ),
            "a key reaches what is covered"
        );
        reached += usize::from(ann.eval::<bool>("document.activeElement !== document.body"));
    }
    assert!(reached > 4, "Tab reaches the chat: {reached}");
    // The same if the window becomes narrow while the chat is open.
    ann.resizes(1280, 800);
    focus(&mut ann, "#btn-camera");
    ann.resizes(360, 640);
    ann.until("the focus is in the chat", "Boolean(document.activeElement.closest('#chat'))");
    focus(&mut ann, "#chat-input");
    ann.keys("Escape");
    has_focus(&mut ann, "#btn-chat");

    focus(&mut ann, "#btn-leave");
    ann.keys("Enter");
    ann.until("the form is back", "document.body.dataset.state === 'form'");
    has_focus(&mut ann, "#join h1");
    for page in [&mut ann, &mut bob, &mut cleo, &mut dan] {
        page.is_sound();
    }
}
