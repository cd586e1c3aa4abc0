//! The page's appearance: contrast, small windows, and forced colors.

use crate::chromium::Chromium;
use crate::page::{KEEP_SOCKET, Page, tile};
use crate::program::Program;
use crate::turn::side_by_side;

const LOOKS: &str = include_str!("looks.js");

/// Window sizes of small phones, portrait and landscape, and of a page at 400 % zoom.
const SMALL: [(u32, u32); 6] = [(320, 568), (320, 256), (360, 640), (740, 360), (667, 375), (568, 320)];

/// Shows all states of the call's elements at once.
const EVERYTHING: &str = "(async () => {
    await looks.notices('Words');
    document.querySelectorAll('#call [hidden]').forEach((element) => { element.hidden = false; });
    document.querySelector('.notices .link')?.click();
    for (const selector of ['#restricted', '.note', '.stall']) document.querySelectorAll(selector).forEach((element) => { element.textContent = 'Words'; });
    document.querySelectorAll('.tile').forEach((tile) => tile.classList.add('has-video', 'speaking', 'pinned', 'frozen'));
})()";

/// Checks the texts on Bob's tile in Ann's page when his picture is missing or reduced.
fn quality_is_told_in_words(ann: &mut Page) {
    // Ignore the server's own messages about it from now on.
    ann.eval::<()>(
        "void (() => {
            const own = socket.onmessage;
            socket.onmessage = (event) => ['quality', 'error'].includes(JSON.parse(event.data).event) || own(event);
            window.tell = (message) => own({ data: JSON.stringify(message) });
            window.bob = aq.tracks.find(({ kind, own }) => kind === 'video' && !own);
            window.quality = (sent, limit) => tell({ event: 'quality', tracks: [{ mid: bob.mid, sent, limit }] });
        })()",
    );
    let bob = tile("Bob");
    let title = format!("{bob}.querySelector('.slow').title");
    let words = format!("({bob}.querySelector('.note').hidden ? '' : {bob}.querySelector('.note').textContent)");
    let both = format!("[{title}, {words}]");
    for (limit, expected_title, expected_words) in [
        (
            "oversized",
            "Parts of this video come in packets that are too large to be forwarded",
            "This video comes in packets that are too large to be forwarded.",
        ),
        (
            "keyframe",
            "No picture has come yet with which the video, or a sharper one, can start",
            "Waiting for a picture with which the video can start.",
        ),
    ] {
        for (sent, expected_words) in [(true, ""), (false, expected_words)] {
            ann.eval::<()>(&format!("void quality({sent}, {limit:?})"));
            if limit == "keyframe" {
                // This state is normal for a short time, so there is no text at first.
                assert_eq!(ann.eval::<[String; 2]>(&both), ["", ""], "{limit}, sent: {sent}");
                if sent {
                    continue;
                }
            }
            let is_shown = format!("{title} === {expected_title:?} && {words} === {expected_words:?}");
            ann.until(&format!("the text for {limit} is shown, sent: {sent}"), &is_shown);
        }
        ann.eval::<()>("void quality(true, 'none')");
        assert_eq!(ann.eval::<[String; 2]>(&both), ["", ""], "after {limit}");
    }
    // An unsupported codec, of which the server tells first; the note is about a picture that is not there.
    ann.eval::<()>(&format!("void {bob}.classList.remove('has-video')"));
    ann.eval::<()>("void tell({ event: 'error', code: 'cannot-decode', message: 'It comes in AV1.', id: bob.id, source: 'camera' })");
    ann.eval::<()>("void quality(false, 'codec')");
    ann.until("it is said", &format!("{words} === 'Your browser cannot play this video.'"));
    ann.eval::<()>("void tell({ event: 'error', code: 'packet-too-large', message: 'Your packets are too large.', id: aq.me.id, source: 'camera' })");
    ann.until("the warning is shown", "probe.says().includes('packets that are too large')");
    ann.press("[data-notice=problem] .dismiss");
}

fn is_legible(page: &mut Page, state: &str) {
    let found: (usize, Vec<String>) = page.eval("(({ pairs, bad }) => [pairs, [...new Set(bad)]])(looks.pale())");
    assert!(found.0 > 5, "{state}: only {} color pairs were checked", found.0);
    assert!(found.1.is_empty(), "{state}: {:#?}", found.1);
}

/// Waits until nothing extends beyond the window's sides. Tiles follow a new size with the next animation frame.
fn fits_its_window(page: &mut Page, size: &str) {
    page.until(&format!("{size} holds everything"), "looks.wide().length === 0");
}

#[test]
fn the_page_is_legible_in_each_state_and_in_small_windows() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.url, KEEP_SOCKET);
    ann.prefers_dark(false);
    ann.eval::<()>(&format!("void (() => {{ {LOOKS} }})()"));

    is_legible(&mut ann, "form");
    ann.until("the preview is shown", "document.querySelector('.mirror').videoWidth > 0");
    ann.eval::<()>("void (document.querySelector('#name').readOnly = true, document.querySelector('#with-mic').click(), document.querySelector('#invited').hidden = false, document.querySelector('#invited').textContent = 'Words')");
    is_legible(&mut ann, "form of an invitation");
    ann.eval::<()>("void (document.querySelector('#name').readOnly = false, document.querySelector('#with-mic').click(), document.querySelector('#invited').hidden = true)");
    for (width, height) in SMALL {
        ann.resizes(width, height);
        for notice in [false, true] {
            let change = if notice {
                "looks.notices('Some words about what is wrong. '.repeat(4))"
            } else {
                "looks.dismisses()"
            };
            ann.eval::<()>(change);
            fits_its_window(&mut ann, &format!("{width}x{height}"));
            let scrolls: bool = ann.eval("['html', 'body'].some((selector) => { const { scrollWidth, clientWidth } = document.querySelector(selector); return scrollWidth > clientWidth; })");
            assert!(!scrolls, "{width}x{height}: the form scrolls sideways");
            assert!(
                ann.eval::<bool>("looks.within('#btn-join')"),
                "{width}x{height}, notice {notice}: Join is out of sight"
            );
        }
    }
    ann.eval::<()>("looks.dismisses()");
    // In landscape, a phone shows the whole form.
    for (width, height) in [(740, 360), (667, 375)] {
        ann.resizes(width, height);
        let is_whole = "(({ scrollHeight, clientHeight }) => scrollHeight <= clientHeight)(document.documentElement)";
        ann.until(&format!("{width}x{height} shows the whole form"), is_whole);
    }

    ann.resizes(1280, 800);
    ann.joins("garden", "Ann");
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    quality_is_told_in_words(&mut ann);
    bob.says("Hello https://example.org");
    ann.finds_line("Bob", "Hello https://example.org");
    ann.says("Hello");
    ann.eval::<()>("void document.querySelector('.line.own').classList.add('refused')");
    ann.says("Again");
    ann.eval::<()>("void (() => { const mark = document.createElement('p'); mark.className = 'mark'; mark.textContent = 'Not sent'; document.querySelector('.line.refused').append(mark); })()");
    for dark in [false, true] {
        ann.prefers_dark(dark);
        is_legible(&mut ann, &format!("call with chat, dark: {dark}"));
    }
    ann.press("#btn-more");
    is_legible(&mut ann, "call with a menu");
    ann.keys("Escape");
    ann.eval::<()>(EVERYTHING);
    is_legible(&mut ann, "everything is on");
    ann.eval::<()>("void document.querySelectorAll('.tool:not(.leave), .split').forEach((button) => { button.classList.toggle('off'); button.classList.toggle('active'); })");
    for dark in [true, false] {
        ann.prefers_dark(dark);
        is_legible(&mut ann, &format!("everything is off, dark: {dark}"));
    }
    ann.eval::<()>("looks.hover()");
    for dark in [true, false] {
        ann.prefers_dark(dark);
        is_legible(&mut ann, &format!("the pointer is over it, dark: {dark}"));
    }
    ann.eval::<()>(
        "void (document.querySelector('#call').hidden = true, document.querySelector('#join').hidden = false)",
    );
    for dark in [true, false] {
        ann.prefers_dark(dark);
        is_legible(&mut ann, &format!("the pointer is over the form, dark: {dark}"));
    }
    // Initials of various names.
    ann.eval::<()>("void (document.querySelector('#join').hidden = true, document.querySelector('#call').hidden = false, document.querySelectorAll('.tile').forEach((tile) => tile.classList.remove('has-video')))");
    for hue in (0..360).step_by(15) {
        ann.eval::<()>(&format!(
            "void document.querySelectorAll('.tile').forEach((tile) => tile.style.setProperty('--hue', {hue}))"
        ));
        is_legible(&mut ann, &format!("initials of hue {hue}"));
    }

    // The same call in small windows.
    for (width, height) in SMALL {
        bob.resizes(width, height);
        bob.eval::<()>(&format!("void (() => {{ {LOOKS} }})()"));
        fits_its_window(&mut bob, &format!("{width}x{height}"));
        bob.until(&format!("{width}x{height} shows the buttons"), "looks.within('#bar')");
        bob.until(&format!("{width}x{height}: targets are large"), "looks.small().length === 0");
    }
    ann.is_sound();
    bob.is_sound();
}

#[test]
fn states_are_distinguishable_with_forced_colors() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.url);
    ann.forces_colors();
    ann.eval::<()>(&format!("void (() => {{ {LOOKS} }})()"));
    let differs = |ann: &mut Page, what: &str, selector: &str, pseudo: &str, change: &str| {
        let look = format!("looks.mark({selector:?}, {pseudo})");
        // At once where that is enough: the page may change a class again.
        let (before, is_other): (String, bool) =
            ann.eval(&format!("((before) => {{ {change}; return [before, {look} !== before]; }})({look})"));
        if !is_other {
            ann.until(&format!("{what} is seen beside {before}"), &format!("{look} !== {before:?}"));
        }
        before
    };
    ann.until("the microphone is open", "!document.querySelector('#with-mic').classList.contains('off')");
    differs(&mut ann, "a microphone that is off", "#with-mic", "null", "document.querySelector('#with-mic').click()");
    ann.joins("garden", "Ann");
    let quiet = differs(
        &mut ann,
        "one who speaks",
        ".tile",
        "'::after'",
        "document.querySelector('.tile').classList.toggle('speaking')",
    );
    let quiet = if ann.eval("document.querySelector('.tile').classList.contains('speaking')") {
        quiet
    } else {
        ann.eval("looks.mark('.tile', '::after')")
    };
    assert_eq!(quiet, "none", "a tile whose participant is silent");
    differs(
        &mut ann,
        "a screen that is shared",
        "#btn-screen",
        "null",
        "document.querySelector('#btn-screen').classList.toggle('active')",
    );
    differs(
        &mut ann,
        "an open chat",
        "#btn-chat",
        "null",
        "document.querySelector('#btn-chat').classList.toggle('active')",
    );
    ann.is_sound();
}
