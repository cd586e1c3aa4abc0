//! A page in a browser: the user's actions, and checks of what the user sees and hears.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::tab::Tab;
use crate::{DEADLINE, poll, poll_for};

/// Script that defines `window.probe`, with which the tests inspect a page.
const PROBE: &str = include_str!("probe.js");

/// Keeps the page's WebSocket as `window.socket`.
pub const KEEP_SOCKET: &str = "window.WebSocket = class extends window.WebSocket {
    constructor(...parameters) {
        super(...parameters);
        window.socket = this;
    }
};";

/// The window's size in CSS pixels.
const SIZE: (u32, u32) = (1280, 800);

/// Minimum increase of `totalAudioEnergy` (1 is full scale for one second) that counts as a beep, which adds some
/// hundredths.
const AUDIBLE: f64 = 1e-3;

/// Maximum increase that counts as silence: a microphone that is off still sends samples of plus or minus one, which add
/// a billionth per second.
const SILENT: f64 = 1e-6;

/// Seconds of decoded audio without a beep that count as silence: the fake microphone beeps once per second.
const SILENCE_S: f64 = 2.5;

pub struct Page {
    tab: Tab,
}

/// Playback state of an element.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Media {
    /// `currentTime` in seconds.
    time: f64,
    width: u32,
    /// Frames decoded from the network.
    frames: u64,
    /// `totalAudioEnergy`.
    energy: f64,
    /// Seconds of decoded audio, silence included.
    sound_s: f64,
    /// Whether it is neither paused nor muted.
    plays: bool,
}

/// Video statistics of an element.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Video {
    /// Decoded frames, decoded keyframes, and decoded frames that were not shown.
    pub frames: u64,
    pub keyframes: u64,
    pub dropped: u64,
    /// Freezes: pauses at least three times as long as the average and 150 ms longer.
    pub freezes: u64,
    /// Keyframe requests sent (RFC 4585 section 6.3.1).
    pub plis: u64,
}

#[derive(Debug, Deserialize)]
pub struct Line {
    pub text: String,
    pub own: bool,
}

impl Page {
    /// Opens a page in which `script` runs before the page's own.
    pub fn open(tab: Tab, url: &str, script: &str) -> Self {
        let mut page = Self { tab };
        page.tab.prepare(&format!("{PROBE}\n{script}"));
        page.resizes(SIZE.0, SIZE.1);
        page.tab.navigate(url);
        page.until("the page is loaded", "document.readyState === 'complete' && location.href !== 'about:blank'");
        page
    }

    /// Its ID in the browser.
    pub fn id(&self) -> &str {
        &self.tab.id
    }

    // Actions of the user.

    pub fn press(&mut self, selector: &str) {
        // The point in the middle has to belong to the element, so that nothing covers it, and tiles have to stand still.
        let place = format!(
            "(() => {{
                const element = document.querySelector({selector:?});
                if (element.closest('.tile')?.getAnimations().length) return null;
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                const [left, top] = [x + width / 2, y + height / 2];
                return element.contains(document.elementFromPoint(left, top)) ? [left, top] : null;
            }})()"
        );
        let place = self.until(&format!("{selector} can be pressed"), &place);
        let [x, y] = serde_json::from_value(place).expect("a place is two numbers");
        self.tab.press(x, y);
    }

    pub fn types(&mut self, selector: &str, text: &str) {
        self.press(selector);
        self.eval::<Value>(&format!("document.querySelector({selector:?}).select()"));
        self.tab.insert(text);
    }

    /// Presses at one place and releases at another one.
    pub fn drags(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.tab.drag(from, to);
    }

    /// Resizes its window, in CSS pixels.
    pub fn resizes(&mut self, width: u32, height: u32) {
        self.tab.resize(width, height);
    }

    /// Enables forced colors, as a high contrast mode does.
    pub fn forces_colors(&mut self) {
        self.tab.emulate(&[("forced-colors", "active")]);
    }

    /// Prefers dark or light colors, and no motion.
    pub fn prefers_dark(&mut self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        self.tab.emulate(&[("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")]);
    }

    /// Presses a key, such as `Tab`.
    pub fn keys(&mut self, key: &str) {
        self.tab.key(key);
    }

    /// Fills in the form and joins.
    pub fn joins(&mut self, room: &str, name: &str) {
        self.types("#name", name);
        self.types("#room", room);
        self.press("#btn-join");
        self.is_joined();
    }

    pub fn leaves(&mut self) {
        self.press("#btn-leave");
        self.until("the end screen is shown", "document.body.dataset.state === 'ended'");
    }

    /// Picks an item of the menu of a participant's tile.
    pub fn picks(&mut self, name: &str, item: &str) {
        self.press(&format!(".tile:not(.self)[data-name={name:?}] > .tile-button"));
        self.press(&format!("#tile-menu #item-{item}"));
    }

    /// Picks an item of the menu "More".
    pub fn picks_more(&mut self, item: &str) {
        self.press("#btn-more");
        self.press(&format!("#more-menu #item-{item}"));
    }

    pub fn says(&mut self, text: &str) {
        if self.eval("!document.querySelector('#chat')") {
            self.press("#btn-chat");
        }
        self.types("#chat-input", text);
        self.press("#btn-send");
        self.finds_line("You", text);
    }

    /// Crashes its renderer, so that no script of the page runs any more.
    pub fn crashes(mut self) {
        self.tab.crash();
    }

    /// Saves a screenshot as a PNG file.
    pub fn takes_picture(&mut self, file: &std::path::Path) {
        let picture = BASE64.decode(self.tab.picture().as_bytes()).expect("the picture is base64");
        std::fs::write(file, picture).expect("the picture's place is writable");
    }

    /// Begins to reload the page, and declines when the browser asks whether to leave it.
    pub fn is_asked_before_a_reload(&mut self) {
        self.eval::<()>("void (window.isAsked = true)");
        self.tab.reload();
        poll(|| self.tab.stay()).expect("the browser asks whether to leave the page");
    }

    // What the user sees and hears.

    pub fn is_joined(&mut self) {
        self.until("it is in the call", "document.body.dataset.state === 'joined'");
    }

    pub fn sees_and_hears(&mut self, name: &str) {
        self.plays(&tile(name), true, true);
        let looks = format!("{}.classList.contains('has-video')", tile(name));
        self.until(&format!("the placeholder of {name} is gone"), &looks);
    }

    pub fn shows_neither_picture_nor_sound_of(&mut self, name: &str) {
        let look =
            format!("(({{ classList: has }}) => has.contains('silent') && !has.contains('has-video'))({})", tile(name));
        self.until(&format!("{name} has the placeholder and the mark of silence"), &look);
    }

    pub fn sees_screen_of(&mut self, name: &str) {
        self.plays(&screen(name), true, false);
    }

    /// Waits until the element plays new video if `picture` is true, and new audio if `sound` is true.
    pub fn plays(&mut self, element: &str, picture: bool, sound: bool) {
        let mut first: Option<Media> = None;
        self.watch(&format!("{element} plays"), element, |now| {
            let Some(since) = first else {
                first = Some(now);
                return false;
            };
            if now.frames < since.frames || now.time < since.time || now.energy < since.energy {
                first = Some(now); // another track from here on
                return false;
            }
            let seen = now.width > 0 && now.time > since.time + 0.5 && now.frames > since.frames + 5;
            let heard = now.plays && now.time > since.time + 0.5 && now.energy > since.energy + AUDIBLE;
            (seen || !picture) && (heard || !sound)
        });
    }

    /// Waits until the picture height is `lines`.
    pub fn gets_lines_of(&mut self, name: &str, lines: u32) {
        let look = format!("probe.video({}).then(({{ lines }}) => lines === {lines})", tile(name));
        self.until(&format!("the picture height of {name} is {lines}"), &look);
    }

    /// Returns the element's video statistics.
    pub fn video(&mut self, element: &str) -> Video {
        self.eval(&format!("probe.video({element})"))
    }

    /// Waits until it sends exactly these simulcast layers, in the order of their names. Without simulcast the name is
    /// empty.
    pub fn sends_layers(&mut self, names: &[&str]) {
        let mut first: Option<BTreeMap<String, u64>> = None;
        let start = Instant::now();
        let found = poll(|| {
            let now = self.tab.evaluate("probe.sent()")?;
            let now: BTreeMap<String, u64> = serde_json::from_value(now).map_err(|error| error.to_string())?;
            let since = first.get_or_insert_with(|| now.clone());
            let more = |name: &str| now.get(name).copied().unwrap_or(0) - since.get(name).copied().unwrap_or(0);
            let is_still = now.keys().all(|name| names.contains(&&**name) || more(name) == 0);
            if is_still && names.iter().all(|name| more(name) > 5) {
                return Ok(());
            }
            let seen = format!("{since:?}, {now:?}");
            if !is_still {
                first = Some(now);
            }
            Err(seen)
        });
        found.unwrap_or_else(|last| self.fail(&format!("it sends {names:?}"), &last, start));
    }

    /// Waits until the tile receives no picture for a second while audio continues.
    pub fn gets_no_picture_of(&mut self, name: &str) {
        let mut first: Option<Media> = None;
        self.watch(&format!("{name} is not sent"), &tile(name), |now| {
            let since = *first.get_or_insert(now);
            if now.frames != since.frames || now.sound_s < since.sound_s {
                first = Some(now);
                return false;
            }
            now.sound_s > since.sound_s + 1.0
        });
    }

    /// Waits until the tile is marked as speaking, or no longer is.
    pub fn marks_as_speaking(&mut self, name: &str, speaks: bool) {
        let look = format!("{}.classList.contains('speaking') === {speaks}", tile(name));
        self.until(&format!("{name} {} marked as speaking", if speaks { "is" } else { "is not" }), &look);
    }

    /// Waits until the tile still receives audio but only silence.
    pub fn hears_silence_of(&mut self, name: &str) {
        let mut first: Option<Media> = None;
        self.watch(&format!("{name} is silent"), &tile(name), |now| {
            let since = *first.get_or_insert(now);
            if now.energy - since.energy > SILENT || now.sound_s < since.sound_s {
                first = Some(now);
                return false;
            }
            now.sound_s > since.sound_s + SILENCE_S
        });
    }

    /// Waits until the tiles of other participants are exactly these, in any order.
    pub fn has_tiles_of(&mut self, names: &[&str]) {
        let mut names = names.to_vec();
        names.sort_unstable();
        let look = "JSON.stringify([...document.querySelectorAll('.tile:not(.self, .screen)')].map(({ dataset }) => dataset.name).sort())";
        let wanted = json!(names).to_string();
        self.until(&format!("the others are {wanted}"), &format!("{look} === {:?}", wanted));
    }

    pub fn finds_line(&mut self, who: &str, text: &str) {
        let what = format!("a chat line of {who:?}: {text:?}");
        let line = json!([who, text]);
        let look =
            format!("probe.chat().some(({{ who, text }}) => JSON.stringify([who, text]) === JSON.stringify({line}))");
        self.until(&what, &look);
    }

    pub fn chat(&mut self) -> Vec<Line> {
        self.eval("probe.chat()")
    }

    /// Number of DOM nodes that exist after a collection of garbage; Chromium only.
    pub fn nodes(&mut self) -> usize {
        self.tab.nodes()
    }

    /// CPU time of the page's main thread since the first call, in seconds; Chromium only.
    pub fn main_thread_seconds(&mut self) -> f64 {
        self.tab.main_thread_seconds()
    }

    pub fn transceivers(&mut self) -> usize {
        self.eval("probe.transceivers()")
    }

    /// Waits until the JavaScript expression `look` is truthy, and returns its value.
    pub fn until(&mut self, what: &str, look: &str) -> Value {
        self.until_within(DEADLINE, what, look)
    }

    /// The same with a time limit of its own.
    pub fn until_within(&mut self, time: Duration, what: &str, look: &str) -> Value {
        let start = Instant::now();
        let found = poll_for(time, || match self.tab.evaluate(look)? {
            value if is_true(&value) => Ok(value),
            value => Err(value.to_string()),
        });
        found.unwrap_or_else(|last| self.fail(what, &last, start))
    }

    /// Returns the value of a JavaScript expression; a promise is awaited.
    pub fn eval<T: DeserializeOwned>(&mut self, expression: &str) -> T {
        let start = Instant::now();
        let value = self
            .tab
            .evaluate(expression)
            .and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
        value.unwrap_or_else(|last| self.fail(expression, &last, start))
    }

    /// Checks that the page logged no error and that no injected markup was executed.
    pub fn is_sound(&mut self) {
        assert!(!self.eval::<bool>("'hacked' in window"), "injected markup was executed");
        let errors: Vec<_> = self.tab.said().into_iter().filter(|said| said.is_error).collect();
        assert!(errors.is_empty(), "errors in the page: {errors:#?}");
    }

    fn watch(&mut self, what: &str, element: &str, mut good: impl FnMut(Media) -> bool) {
        let start = Instant::now();
        let found = poll(|| {
            let value = self.tab.evaluate(&format!("probe.media({element})"))?;
            let text = value.to_string();
            let now: Option<Media> = serde_json::from_value(value).map_err(|error| error.to_string())?;
            now.is_some_and(&mut good).then_some(()).ok_or(text)
        });
        found.unwrap_or_else(|last| self.fail(what, &last, start));
    }

    fn fail(&mut self, what: &str, last: &str, start: Instant) -> ! {
        let state = self.tab.evaluate("probe.state()").unwrap_or_else(|error| json!(error));
        let said = self.tab.said();
        panic!("not within {:?}: {what}\nlast: {last}\nthe page: {state:#}\nits console: {said:#?}", start.elapsed());
    }
}

/// A JavaScript expression for the tile of another participant.
pub fn tile(name: &str) -> String {
    format!("probe.tile({})", json!(name))
}

/// A JavaScript expression for the tile of another participant's screen.
pub fn screen(name: &str) -> String {
    format!("probe.screen({})", json!(name))
}

fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && *value != json!(0) && *value != json!("")
}
