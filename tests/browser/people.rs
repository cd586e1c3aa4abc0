//! Raised hands, reactions, names, the list of people and the waiting room, as people use them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::page::{Page, tile};
use crate::program::Program;
use crate::token::{SECRET, token};
use crate::turn::side_by_side;

/// The names in the list of people, in its order.
fn lists(page: &mut Page, names: &str) {
    let list = "[...document.querySelectorAll('#people-list .person')].map(({ dataset }) => dataset.name).join()";
    page.until(&format!("the list is {names}"), &format!("{list} === {names:?}"));
}

#[test]
fn people_raise_hands_react_and_change_their_names() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    let mut cleo = chromium.open(&server.link("garden", "Cleo"));
    for page in [&mut ann, &mut bob, &mut cleo] {
        page.is_joined();
        page.until("all are there", "document.querySelectorAll('.tile').length === 3");
    }
    let hand = |name: &str| format!("{}.querySelector('.hand')", tile(name));
    cleo.keys("h");
    ann.until("Cleo's hand is up", &format!("{}.textContent === '1'", hand("Cleo")));
    bob.press("#btn-hand");
    ann.until("Bob's hand is the second", &format!("{}.textContent === '2'", hand("Bob")));
    ann.until("it is said", "document.querySelector('#said').textContent === 'Bob raised a hand'");
    ann.press("#btn-people");
    ann.until("the search has the focus", "document.activeElement.id === 'people-search'");
    lists(&mut ann, "Cleo,Bob,Ann");
    bob.keys("h");
    ann.until("Bob's hand is down", &format!("{}.hidden", hand("Bob")));
    lists(&mut ann, "Cleo,Ann,Bob");
    ann.types("#people-search", "BO");
    lists(&mut ann, "Bob");
    ann.keys("Escape");
    lists(&mut ann, "Cleo,Ann,Bob");
    ann.keys("Escape");
    ann.until("the focus is back", "document.activeElement.id === 'btn-people'");

    bob.press("#btn-react");
    bob.press("#react-menu .item.emoji");
    let reaction = format!("{}.querySelector('.reaction')", tile("Bob"));
    ann.until("the reaction is shown", &format!("{reaction}.textContent === '👍' && !{reaction}.hidden"));
    ann.until("for a moment", &format!("{reaction}.hidden"));
    assert!(!ann.eval::<bool>("document.querySelector('#said').textContent.includes('👍')"), "it is not said");

    bob.press(".tile.self > .tile-button");
    bob.press("#item-rename");
    bob.types("#new-name", "Bob Lee");
    bob.press("#btn-rename");
    ann.has_tiles_of(&["Bob Lee", "Cleo"]);
    for page in [&mut ann, &mut bob, &mut cleo] {
        page.is_sound();
    }
}

#[test]
fn a_moderator_admits_and_refuses_those_who_wait() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&["--token-secret", SECRET]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let link = |name: &str, moderate: bool| {
        let claims: Value = json!({"room": "garden", "exp": now + 600, "moderate": moderate});
        format!("{}#token={}", server.link("garden", name), token(&claims))
    };
    let mut ann = chromium.open(&link("Ann", true));
    ann.is_joined();
    ann.picks_more("lock");
    ann.until("it is locked", "!document.querySelector('#locked').hidden");
    let waits = "document.querySelector('#join-status').textContent.startsWith('Waiting for a moderator')";
    let mut dan = chromium.open(&link("Dan", false));
    dan.until("Dan waits", waits);
    ann.until("it is asked", "probe.says() === 'Dan wants to join'");
    let mut eve = chromium.open(&link("Eve", false));
    eve.until(
        "Eve waits behind him",
        "document.querySelector('#join-status').textContent.includes('1 person is before')",
    );
    ann.until("both are asked for", "probe.says() === 'Dan and 1 other want to join'");
    ann.press("[data-notice=knock] .button");
    ann.press("#knocks [data-name=Dan] .main");
    dan.is_joined();
    ann.has_tiles_of(&["Dan"]);
    eve.until("she is the next", "!document.querySelector('#join-status').textContent.includes('before')");
    ann.press("#knocks [data-name=Eve] .quiet");
    eve.until("the page names the reason", "probe.says() === 'A moderator did not let you in.'");
    ann.until("nobody waits", "!document.querySelector('#knocks').checkVisibility()");

    ann.picks("Dan", "promote");
    ann.press("#confirm-yes");
    dan.until("Dan may moderate", "probe.says() === 'Ann made you a moderator.'");
    ann.picks_more("end");
    ann.press("#confirm-yes");
    for page in [&mut ann, &mut dan] {
        let words = "document.querySelector('#ended-words').textContent";
        page.until(
            "it is over",
            &format!("document.body.dataset.state === 'ended' && {words}.includes('has ended the call')"),
        );
        page.is_sound();
    }
}
