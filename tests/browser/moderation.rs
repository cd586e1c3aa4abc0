//! Invitations, and the actions of a moderator.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::token::{SECRET, token};
use crate::turn::side_by_side;

/// The fragment of an invitation link with these additional claims.
fn invitation(more: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut claims = json!({"room": "garden", "exp": now + 600});
    claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    format!("#token={}", token(&claims))
}

fn is_told(page: &mut Page, words: &str) {
    let look = "document.body.dataset.state === 'lobby' && probe.says()";
    page.until(&format!("the lobby shows {words:?}"), &format!("({look} || '').includes({words:?})"));
}

#[test]
fn a_moderator_mutes_locks_and_removes() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&["--token-secret", SECRET]);
    let link = |name: &str, more: Value| server.link("garden", name) + &invitation(more);
    let mut ann = chromium.open(&link("Ann", json!({"moderate": true})));
    let mut bob = chromium.open(&format!("{}{}", server.url, invitation(json!({"sub": "bob", "name": "Bob"}))));
    let given = |field: &str, value: &str| format!("document.querySelector('#{field}[readonly]')?.value === '{value}'");
    bob.until("the form knows the room", &given("room", "garden"));
    bob.until("the form knows the name", &given("name", "Bob"));
    bob.press("#btn-join");
    bob.is_joined();
    assert!(bob.eval::<bool>("!/token/.test(location.href)"), "the address in the location bar has no token");
    ann.sees_and_hears("Bob");

    let counts = "window.asked = 0;
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (what) => { window.asked += 1; return ask(what); };";
    let mut eve = chromium.open_with(&link("Eve", json!({"publish": false})), counts);
    eve.sees_and_hears("Ann");
    eve.until(
        "it has nothing to send",
        "['mic', 'camera', 'screen'].every((which) => !document.querySelector(`#btn-${which}`).checkVisibility())",
    );
    assert!(
        eve.eval::<bool>("window.asked === 0 && Object.keys(aq.local).length === 0"),
        "the page requests no device"
    );
    assert!(eve.eval::<bool>("!document.querySelector('.tile.self.silent')"), "the own tile is not marked as silent");
    ann.shows_neither_picture_nor_sound_of("Eve");
    for page in [&mut bob, &mut eve] {
        page.press("#btn-more");
        page.until("it may not lock", "document.querySelector('#more-menu') && !document.querySelector('#item-lock')");
        page.keys("Escape");
        page.press(".tile[data-name=Ann] > .tile-button");
        let items = "[...document.querySelectorAll('#tile-menu .item')].filter((item) => item.checkVisibility() && item.id !== 'item-pip').map(({ id }) => id).join()";
        page.until("it may not moderate", &format!("{items} === 'item-pin,item-watch,item-full,item-figures'"));
        page.keys("Escape");
    }

    eve.until(
        "the restriction is shown",
        "document.querySelector('#restricted').textContent === 'You can watch and chat here'",
    );
    let mut fay = chromium.open(&link("Fay", json!({"subscribe": false})));
    ann.sees_and_hears("Fay");
    let explanation = "document.querySelector('#restricted').textContent.includes('see or hear the others')";
    fay.until("the page explains why it shows no media", explanation);
    fay.until("no participant is marked as silent", "!document.querySelector('.tile.silent')");
    fay.press(".tile[data-name=Ann] > .tile-button");
    let can_pin =
        "document.querySelector('#tile-menu') && document.querySelector('#item-pin')?.checkVisibility() !== true";
    fay.until("without subscribing, no participant can be pinned", can_pin);
    fay.keys("Escape");
    fay.press("#btn-leave");
    ann.has_tiles_of(&["Bob", "Eve"]);

    ann.picks("Bob", "mute");
    for page in [&mut ann, &mut eve] {
        page.until("Bob is shown as silent", &format!("{}.classList.contains('silent')", tile("Bob")));
    }
    bob.until("the microphone is off", "document.querySelector('#btn-mic').classList.contains('off')");
    bob.until("the page names the moderator", "probe.says().includes('Ann turned your microphone off')");
    bob.press("#btn-mic");
    ann.until("Bob is no more silent", &format!("!{}.classList.contains('silent')", tile("Bob")));
    ann.sees_and_hears("Bob");

    ann.picks_more("lock");
    for page in [&mut ann, &mut bob, &mut eve] {
        page.until("it shows the lock", "!document.querySelector('#locked').hidden");
    }
    let mut cleo = chromium.open(&link("Cleo", json!({})));
    cleo.until("it waits", "document.querySelector('#join-status').textContent.startsWith('Waiting for a moderator')");
    cleo.press("#btn-join");
    cleo.until("it waits no more", "document.body.dataset.state === 'lobby'");
    is_told(&mut chromium.open(&server.link("garden", "Dan")), "This room is for invited people");
    // Its payload is `null`.
    let mut dan = chromium.open(&format!("{}?room=garden#token=a.bnVsbA.c", server.url));
    dan.press("#btn-join");
    is_told(&mut dan, "This room is for invited people");
    dan.eval::<()>(&format!("void (location.hash = {:?})", invitation(json!({"name": "Dan"}))));
    dan.until("the form reads another invitation", &given("name", "Dan"));
    for (claims, words) in [
        (json!({"exp": 1_700_000_000}), "This link expired on Nov 14, 2023"),
        (json!({"nbf": 4_000_000_000_u32}), "This link works from"),
        (json!({"publish": false}), "You can watch and chat here"),
        (json!({"subscribe": false}), "You can’t see or hear the others here"),
    ] {
        dan.eval::<()>(&format!("void (location.hash = {:?})", invitation(claims)));
        dan.until(words, &format!("document.querySelector('#invited').textContent.startsWith({words:?})"));
    }

    ann.picks("Bob", "remove");
    ann.press("#confirm-yes");
    let removed = "document.body.dataset.state === 'ended' && document.querySelector('#ended-words').textContent";
    bob.until("the page names the reason", &format!("({removed} || '').includes('A moderator has removed you')"));
    assert!(bob.eval::<bool>("!document.querySelector('#btn-rejoin').checkVisibility()"), "it cannot rejoin");
    ann.has_tiles_of(&["Eve"]);
    ann.picks_more("lock");
    eve.until("the lock is gone", "document.querySelector('#locked').hidden");
    bob.press("#btn-lobby");
    bob.press("#btn-join");
    is_told(&mut bob, "A moderator has removed you");
    let mut cleo = chromium.open(&link("Cleo", json!({})));
    cleo.sees_and_hears("Ann");
    for page in [&mut ann, &mut bob, &mut eve, &mut cleo] {
        page.is_sound();
    }
    if let Some(file) = std::env::var_os("AQ_SCREENSHOT_MODERATOR") {
        ann.takes_picture(std::path::Path::new(&file));
    }
}
