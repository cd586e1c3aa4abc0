//! Interruptions from outside the page: network loss, the system, the browser and its permission prompt.

use crate::chromium::Chromium;
use crate::page::tile;
use crate::program::Program;
use crate::turn::{alone, side_by_side};

/// Time limits in milliseconds by the page's clock: until the page reports a network loss, and until it marks pictures as
/// frozen. Pictures may move slightly longer than packets arrive.
const NAMED_MS: f64 = 2_000.0;
const MARKED_MS: f64 = 2_500.0;

/// Number of rounds, of which one has to meet the limits: a busy machine may delay the page.
const ROUNDS: usize = 3;

/// Makes the browser's permission prompt wait for `allow` or `refuse`.
const ASKS: &str = "{
    window.asked = 0;
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const answer = new Promise((done) => { window.allow = () => done(true); window.refuse = () => done(false); });
    navigator.permissions.query = async () => ({ state: 'prompt' });
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        window.asked += 1;
        if (await answer) return given(wanted);
        throw new DOMException('Permission denied', 'NotAllowedError');
    };
}";

const SAYS: &str = "probe.says()";

#[test]
fn a_permission_prompt_does_not_delay_joining_and_appears_once() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), ASKS);
    let mut eve = chromium.open_with(&server.link("garden", "Eve"), ASKS);
    for page in [&mut bob, &mut eve] {
        page.sees_and_hears("Ann");
        page.until("the question is explained", &format!("({SAYS}).includes('You are in the call already')"));
    }
    ann.has_tiles_of(&["Bob", "Eve"]);
    ann.shows_neither_picture_nor_sound_of("Bob");
    bob.press("#btn-mic");
    bob.eval::<()>("window.allow()");
    ann.sees_and_hears("Bob");
    bob.until("the explanation is gone", &format!("!({SAYS})"));
    eve.eval::<()>("window.refuse()");
    eve.until("the denied permission is explained", &format!("({SAYS}).includes('You can watch, listen and chat.')"));
    for page in [&mut bob, &mut eve] {
        assert_eq!(page.eval::<u32>("window.asked"), 1);
    }
    // A video that the browser pauses plays again.
    bob.eval::<()>(&format!("void {}.querySelector('video').pause()", tile("Ann")));
    bob.sees_and_hears("Ann");
    // So does one that it paused in the background, where the page gets no event.
    let picture = format!("{}.querySelector('video')", tile("Ann"));
    for event in [
        "document.dispatchEvent(new Event('visibilitychange'))",
        "document.dispatchEvent(new Event('resume'))",
        "dispatchEvent(new Event('pageshow'))",
    ] {
        let is_paused = format!(
            "new Promise((done) => {{
                const resume = {picture}.onpause;
                {picture}.onpause = null;
                {picture}.pause();
                setTimeout(() => {{
                    {picture}.onpause = resume;
                    done({picture}.paused);
                }}, 50);
            }})"
        );
        assert!(bob.eval::<bool>(&is_paused));
        bob.eval::<()>(&format!("void {event}"));
        bob.until(&format!("it plays after {event}"), &format!("!{picture}.paused"));
    }
    // If it is paused repeatedly, the page shows a button instead.
    bob.eval::<()>(&format!("void (window.pauses = setInterval(() => {picture}.pause(), 50))"));
    bob.until("there is a button", "document.querySelector('[data-notice=sound] .button')?.checkVisibility()");
    bob.eval::<()>("void clearInterval(pauses)");
    bob.press("[data-notice=sound] .button");
    bob.sees_and_hears("Ann");
    assert!(bob.eval::<bool>("!document.querySelector('[data-notice=sound]')"));
    // The system mutes the microphone temporarily.
    bob.eval::<()>("void (Object.defineProperty(aq.local['microphone audio'], 'muted', { value: true, configurable: true }), aq.local['microphone audio'].dispatchEvent(new Event('mute')))");
    bob.until(
        "the muted microphone is explained",
        &format!("({SAYS}).includes('Your microphone was paused by the system')"),
    );
    ann.until("Bob is shown as silent", &format!("{}.classList.contains('silent')", tile("Bob")));
    bob.eval::<()>("void (Object.defineProperty(aq.local['microphone audio'], 'muted', { value: false }), aq.local['microphone audio'].dispatchEvent(new Event('unmute')))");
    ann.until("Bob is no more silent", &format!("!{}.classList.contains('silent')", tile("Bob")));
    // A camera is unplugged and plugged in again.
    bob.eval::<()>("void (navigator.permissions.query = async () => ({ state: 'granted' }), aq.local['camera video'].dispatchEvent(new Event('ended')))");
    ann.until("the picture is gone", &format!("!{}.classList.contains('has-video')", tile("Bob")));
    bob.eval::<()>("void navigator.mediaDevices.dispatchEvent(new Event('devicechange'))");
    ann.sees_and_hears("Bob");
    for page in [&mut ann, &mut bob, &mut eve] {
        page.is_sound();
    }
}

#[test]
fn each_sign_of_network_loss_is_reported_and_pictures_are_marked_as_frozen() {
    let mut turn = alone();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    let says = SAYS;
    let stall = format!("{}.querySelector('.stall')", tile("Bob"));
    let mark = format!("({stall}.checkVisibility() && {stall}.textContent === 'Frozen')");
    assert!(ann.eval::<bool>(&format!("!({says}) && !({mark})")), "nothing is wrong yet");

    // No packets and no messages arrive; there is no other sign of the loss.
    let mut rounds = Vec::new();
    let is_quick = |round: &(f64, f64)| round.0 < NAMED_MS && round.1 < MARKED_MS;
    while !rounds.last().is_some_and(is_quick) {
        assert!(rounds.len() < ROUNDS, "milliseconds until the loss was named and the picture was marked: {rounds:?}");
        ann.eval::<()>("void (window.since = performance.now())");
        let pause = server.pause();
        let took = |what: &str| {
            format!(
                "new Promise((done) => {{
                    const look = setInterval(() => {{
                        const took = performance.now() - since;
                        if (!({what}) && took < 10_000) return;
                        clearInterval(look);
                        done(took);
                    }}, 10);
                }})"
            )
        };
        let named = took(&format!("({says}).startsWith('Nothing arrives from the network')"));
        let marked = took(&mark);
        rounds.push(ann.eval::<(f64, f64)>(&format!("Promise.all([{named}, {marked}])")));
        assert!(ann.eval::<bool>("navigator.onLine && aq.pc.connectionState === 'connected'"), "another sign");
        let wave = "Object.assign(document.querySelector('.tile.frozen .wave'), { hidden: false })";
        let display = ann.eval::<String>(&format!("getComputedStyle({wave}).display"));
        assert_eq!(display, "none", "a frozen picture is not marked as speaking");
        drop(pause);
        ann.until("nothing is wrong", &format!("!({says}) && !({mark})"));
    }

    turn.measured();

    // The system reports offline while packets flow. Later packets disprove it, but earlier ones do not.
    let heard: Vec<(String, f64)> = ann.eval(&format!(
        "new Promise((done) => {{
            Object.defineProperty(navigator, 'onLine', {{ value: false, configurable: true }});
            const [since, heard] = [performance.now(), []];
            const look = () => {{
                const words = {says};
                if (words !== heard.at(-1)?.[0]) heard.push([words, performance.now() - since]);
                if (!words) done(heard);
            }};
            dispatchEvent(new Event('offline'));
            queueMicrotask(look); // the notice is shown with the next microtask
            const what = {{ attributes: true, childList: true, subtree: true }};
            new MutationObserver(look).observe(document.querySelector('#notices'), what);
        }})"
    ));
    let [(first, _), (_, over)] = &heard[..] else { panic!("{heard:?}") };
    assert!(first.starts_with("You are offline") && *over > 400.0, "{heard:?}");
    ann.eval::<()>("void delete navigator.onLine");

    // The browser reports the loss.
    ann.eval::<()>(
        "void (() => {
            const { prototype } = RTCPeerConnection;
            const own = Object.getOwnPropertyDescriptor(prototype, 'connectionState');
            Object.defineProperty(prototype, 'connectionState', { get: () => 'disconnected', configurable: true });
            window.reconnect = () => Object.defineProperty(prototype, 'connectionState', own);
        })()",
    );
    ann.until("the loss is named", &format!("({says}).startsWith('Nothing arrives from the network')"));
    ann.eval::<()>("void reconnect()");
    ann.until("nothing is wrong", &format!("!({says})"));

    // Packets stop and the system reports offline: the page names that cause.
    let pause = server.pause();
    ann.until("the loss is named", &format!("({says}).startsWith('Nothing arrives from the network')"));
    ann.eval::<()>("void (Object.defineProperty(navigator, 'onLine', { value: false, configurable: true }), dispatchEvent(new Event('offline')))");
    ann.until("its cause is named", &format!("({says}).startsWith('You are offline')"));
    drop(pause);
    ann.until("nothing is wrong", &format!("!({says})"));
    ann.sees_and_hears("Bob");
    ann.eval::<()>("void delete navigator.onLine");

    // The system reports online, but nothing arrives. All banner texts are recorded.
    let pause = server.pause();
    ann.eval::<()>(&format!(
        "void (() => {{
            window.heard = [];
            const look = () => heard.at(-1) === ({says}) || heard.push({says});
            const what = {{ attributes: true, childList: true, subtree: true }};
            (window.watch = new MutationObserver(look)).observe(document.querySelector('#notices'), what);
            Object.defineProperty(navigator, 'onLine', {{ value: false, configurable: true }});
            dispatchEvent(new Event('offline'));
            delete navigator.onLine;
            dispatchEvent(new Event('online'));
        }})()"
    ));
    ann.until("the picture is marked", &mark);
    // Wait longer than the page would take to report a loss without that event.
    ann.eval::<()>("new Promise((done) => setTimeout(done, 2000))");
    assert!(ann.eval::<bool>(&mark), "the mark stays");
    let heard: Vec<String> = ann.eval("(watch.disconnect(), heard)");
    let [first, last] = &heard[..] else { panic!("{heard:?}") };
    assert!(first.starts_with("You are offline") && last.starts_with("Nothing arrives from the network"), "{heard:?}");
    drop(pause);
    ann.until("nothing is wrong", &format!("!({says}) && !({mark})"));

    // Muted participants are not a network loss.
    bob.press("#btn-mic");
    bob.press("#btn-camera");
    ann.shows_neither_picture_nor_sound_of("Bob");
    ann.press("#btn-mic");
    ann.press("#btn-camera");
    bob.leaves();
    ann.has_tiles_of(&[]);
    // Wait longer than the page would take to report a loss.
    ann.eval::<()>("new Promise((done) => setTimeout(done, 3000))");
    assert_eq!(ann.eval::<String>(says), "");
    ann.is_sound();
}
