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

    // Pin the first, replace it by the second, and unpin.
    for (name, wanted) in [("Bob", "Bob"), ("Cleo", "Cleo"), ("Cleo", "")] {
        focus(&mut ann, &format!(".tile[data-name={name}] > .tile-button"));
        ann.keys("Enter");
        has_focus(&mut ann, "#item-pin");
        ann.keys("Enter");
        has_focus(&mut ann, &format!(".tile[data-name={name}] > .tile-button"));
        let large = "document.querySelector('.tile[data-role=large]')?.dataset.name ?? ''";
        ann.until("it is large", &format!("({large}) === {wanted:?}"));
    }
    // Escape closes a menu.
    ann.keys("Enter");
    has_focus(&mut ann, "#item-pin");
    ann.keys("Escape");
    has_focus(&mut ann, ".tile[data-name=Cleo] > .tile-button");
    // The tiles are one Tab stop, and arrows move between them.
    ann.keys("ArrowRight");
    has_focus(&mut ann, ".tile[data-name=Dan] > .tile-button");
    ann.keys("ArrowLeft");
    has_focus(&mut ann, ".tile[data-name=Cleo] > .tile-button");
    let stops = "[...document.querySelectorAll('.tile-button')].filter(({ tabIndex }) => tabIndex === 0).length";
    assert_eq!(ann.eval::<usize>(stops), 1);

    // Participants whose tile has the focus leave: one from the middle, one who is large, and the last one.
    cleo.leaves();
    ann.has_tiles_of(&["Bob", "Dan"]);
    has_focus(&mut ann, ".tile[data-name=Bob] > .tile-button, .tile[data-name=Dan] > .tile-button");
    ann.picks("Dan", "pin");
    has_focus(&mut ann, ".tile[data-name=Dan][data-role=large] > .tile-button");
    dan.leaves();
    ann.has_tiles_of(&["Bob"]);
    has_focus(&mut ann, ".tile[data-name=Bob] > .tile-button, .tile.self > .tile-button");
    focus(&mut ann, ".tile[data-name=Bob] > .tile-button");
    bob.leaves();
    ann.has_tiles_of(&[]);
    has_focus(&mut ann, ".tile.self > .tile-button");
    // A notice goes while it has the focus.
    ann.eval::<()>(
        "import(new URL('notices.js', document.baseURI)).then(({ tell }) => tell({ key: 'invite.copied' }))",
    );
    focus(&mut ann, "[data-notice=info] .dismiss");
    ann.keys("Enter");
    ann.until("it keeps a focus in the call", "document.activeElement !== document.body");
    // If the user removes the focus, the page does not restore it.
    focus(&mut ann, "#btn-mic");
    ann.eval::<()>("void document.activeElement.blur()");
    ann.eval::<()>("new Promise((done) => setTimeout(() => { document.querySelector('#btn-mic').hidden = true; setTimeout(done, 50); }, 50))");
    has_focus(&mut ann, "body");
    ann.eval::<()>("void (document.querySelector('#btn-mic').hidden = false)");

    // Keys run commands while nobody types.
    let is_off = |ann: &mut Page, off: bool| {
        ann.until("the microphone", &format!("document.querySelector('#btn-mic').classList.contains('off') === {off}"));
    };
    ann.keys("m");
    is_off(&mut ann, true);
    ann.keys("m");
    is_off(&mut ann, false);

    // On a phone, too, nothing lies under the chat.
    ann.resizes(360, 640);
    focus(&mut ann, "#btn-chat");
    ann.keys("Enter");
    has_focus(&mut ann, "#chat-input");
    ann.keys("m");
    is_off(&mut ann, false);
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..TABS {
        ann.keys("Tab");
        let at = "(({ id, className, tagName }) => id || className || tagName)(document.activeElement)";
        reached.insert(ann.eval::<String>(at));
        let is_covered = "(({ activeElement: at }) => {
            if (at === document.body) return false;
            const { x, y, width, height } = at.getBoundingClientRect();
            const found = document.elementFromPoint(x + width / 2, y + height / 2);
            return !at.contains(found) && !found?.contains(at);
        })(document)";
        // Tiles may still glide.
        ann.until("the focus is not on what is covered", &format!("!{is_covered}"));
    }
    for id in ["btn-mic", "chat-input", "btn-send", "chat-log", "btn-chat-close", "btn-leave"] {
        assert!(reached.contains(id), "Tab reaches {id}: {reached:?}");
    }
    focus(&mut ann, "#chat-input");
    ann.keys("Escape");
    has_focus(&mut ann, "#btn-chat");

    focus(&mut ann, "#btn-leave");
    ann.keys("Enter");
    ann.until("the end screen is shown", "document.body.dataset.state === 'ended'");
    has_focus(&mut ann, "#ended h1");
    focus(&mut ann, "#btn-lobby");
    ann.keys("Enter");
    ann.until("the lobby is back", "document.body.dataset.state === 'lobby'");
    has_focus(&mut ann, "#join h1");
    for page in [&mut ann, &mut bob, &mut cleo, &mut dan] {
        page.is_sound();
    }
}

/// Presses Tab until the element has the focus.
fn tabs_to(page: &mut Page, selector: &str) {
    for _ in 0..TABS {
        page.keys("Tab");
        if page.eval(&format!("document.activeElement.matches({selector:?})")) {
            return;
        }
    }
    panic!("Tab does not reach {selector}");
}

fn writes(page: &mut Page, text: &str) {
    for letter in text.chars() {
        page.keys(&letter.to_string());
    }
}

#[test]
fn a_call_from_the_lobby_to_its_end_by_keyboard_alone() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    bob.is_joined();
    let mut ann = chromium.open(&format!("{}?room=garden", server.url));
    tabs_to(&mut ann, "#name");
    writes(&mut ann, "Ann");
    tabs_to(&mut ann, "#btn-join");
    ann.keys("Enter");
    ann.is_joined();
    ann.has_tiles_of(&["Bob"]);
    // The microphone is the first stop.
    has_focus(&mut ann, "#room-name");
    ann.keys("Tab");
    has_focus(&mut ann, "#btn-mic");
    let is = |id: &str, class: &str, is: bool| {
        format!("document.querySelector('#btn-{id}').classList.contains('{class}') === {is}")
    };
    ann.keys("Enter");
    ann.until("the microphone is off", &is("mic", "off", true));
    for (key, look) in [
        ("m", is("mic", "off", false)),
        ("v", is("camera", "off", true)),
        ("v", is("camera", "off", false)),
        ("h", is("hand", "active", true)),
        ("d", is("screen", "active", true)),
    ] {
        ann.keys(key);
        ann.until(key, &look);
    }
    bob.until(
        "Bob sees the screen and the hand",
        "document.querySelector('.tile.screen') && !document.querySelector('.tile:not(.self) .hand').hidden",
    );
    ann.keys("d");
    bob.until("the screen is gone", "!document.querySelector('.tile.screen')");

    // The keys are listed, and none of them works while a dialog is open or somebody types.
    ann.keys("?");
    has_focus(&mut ann, "#btn-keys-close");
    let listed: Vec<String> =
        ann.eval("[...document.querySelectorAll('#keys kbd')].map(({ textContent }) => textContent)");
    for key in ["M", "V", "D", "H", "E", "C", "P", "S", "W", "Y", "G", "I", "N", "L", "?"] {
        assert!(listed.iter().any(|each| each == key), "{key} is listed: {listed:?}");
    }
    assert!(!listed.iter().any(|each| each == "K"), "only what one may do is listed: {listed:?}");
    ann.keys("m");
    ann.keys("Escape");
    ann.until("the dialog is closed", "!document.querySelector('#keys')");
    has_focus(&mut ann, "#btn-mic");
    ann.keys("c");
    has_focus(&mut ann, "#chat-input");
    writes(&mut ann, "mlc?");
    ann.keys("Enter");
    bob.finds_line("Ann", "mlc?");
    ann.until("none was run", &is("mic", "off", false));
    ann.keys("Escape");
    has_focus(&mut ann, "#btn-chat");

    // Menus, panels, and what is in them.
    ann.keys("e");
    has_focus(&mut ann, "#react-menu .item");
    ann.keys("Enter");
    bob.until("the reaction is there", "[...document.querySelectorAll('.reaction')].some(({ hidden }) => !hidden)");
    ann.keys("p");
    has_focus(&mut ann, "#people-search");
    ann.keys("Escape");
    ann.keys("s");
    has_focus(&mut ann, "#btn-statistics-close");
    ann.keys("Enter");
    ann.until("the statistics are closed", "document.querySelector('#panel').hidden");
    tabs_to(&mut ann, ".tile[data-name=Bob] > .tile-button");
    ann.keys("Enter");
    has_focus(&mut ann, "#item-pin");
    ann.keys("ArrowUp");
    has_focus(&mut ann, "#volume");
    ann.keys("ArrowLeft");
    ann.until("it is softer", "document.querySelector('.volume output').textContent === '95 %'");
    ann.keys("Escape");
    ann.keys("n");
    has_focus(&mut ann, "#new-name");
    writes(&mut ann, "Ann Lee");
    ann.keys("Enter");
    bob.has_tiles_of(&["Ann Lee"]);
    ann.keys("y");
    ann.until("the own picture is away", "document.querySelector('.tile.self').classList.contains('away')");

    ann.keys("l");
    ann.until("the end screen is shown", "document.body.dataset.state === 'ended'");
    tabs_to(&mut ann, "#btn-rejoin");
    ann.keys("Enter");
    ann.is_joined();
    ann.has_tiles_of(&["Bob"]);
    ann.is_sound();
    bob.is_sound();
}
