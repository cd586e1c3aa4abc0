//! One page of a browser: what its user does, and what its user sees and hears.

use std::time::Instant;

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::devtools::DevTools;
use crate::poll;

/// `window.probe`: what the tests look at.
const PROBE: &str = include_str!("probe.js");

/// The window's size in CSS pixels.
const SIZE: (u32, u32) = (1280, 800);

/// A growth of `totalAudioEnergy` (full scale for one second is 1) that only a beep makes: it gives some hundredths.
const AUDIBLE: f64 = 1e-3;

/// A growth that no beep stays below: a microphone that is off still sends samples of plus or minus one, a billionth
/// a second.
const SILENT: f64 = 1e-6;

/// Seconds of decoded sound without a beep that are silence: the fake microphone beeps once a second.
const SILENCE_S: f64 = 2.5;

pub struct Page {
    pub target: String,
    devtools: DevTools,
}

/// What an element plays.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Media {
    /// `currentTime` in seconds.
    time: f64,
    width: u32,
    /// Decoded from the network.
    frames: u64,
    /// `totalAudioEnergy`.
    energy: f64,
    /// Decoded sound, silent or not, in seconds.
    sound_s: f64,
    /// Neither paused nor muted.
    plays: bool,
}

/// What has come of an element's picture.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Video {
    /// Decoded pictures; of those such as can be decoded without another; and what came but was not shown.
    pub frames: u64,
    pub keyframes: u64,
    pub dropped: u64,
    /// Pauses three times as long as usual, and 150 ms longer.
    pub freezes: u64,
    /// Requests for a keyframe (RFC 4585 section 6.3.1).
    pub plis: u64,
}

#[derive(Debug, Deserialize)]
pub struct Line {
    pub text: String,
    pub own: bool,
}

impl Page {
    pub fn new(devtools: DevTools, target: String, url: &str, script: &str) -> Self {
        let mut page = Self { target, devtools };
        page.call("Page.enable", json!({}));
        page.call("Runtime.enable", json!({}));
        page.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": format!("{PROBE}\n{script}") }));
        // Each window believes that it is the one in front.
        page.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        page.resizes(SIZE.0, SIZE.1);
        let opened = page.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        page.until("the page is loaded", "document.readyState === 'complete' && location.href !== 'about:blank'");
        page
    }

    // What its user does

    pub fn press(&mut self, selector: &str) {
        // The point in the middle must be the element's: nothing lies over it.
        let place = format!(
            "(() => {{
                const element = document.querySelector({selector:?});
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                const [left, top] = [x + width / 2, y + height / 2];
                return element.contains(document.elementFromPoint(left, top)) ? {{ left, top }} : null;
            }})()"
        );
        let place = self.until(&format!("{selector} can be pressed"), &place);
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place["left"], "y": place["top"], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    pub fn types(&mut self, selector: &str, text: &str) {
        self.press(selector);
        self.eval::<Value>(&format!("document.querySelector({selector:?}).select()"));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Gives its window another size, in CSS pixels.
    pub fn resizes(&mut self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
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
        self.until("the form is back", "document.body.dataset.state === 'form'");
    }

    pub fn says(&mut self, text: &str) {
        if self.eval("document.querySelector('#chat').hidden") {
            self.press("#btn-chat");
        }
        self.types("#chat-input", text);
        self.press("#btn-send");
        self.finds_line("You", text);
    }

    /// Its renderer dies: no script of the page runs any more.
    pub fn crashes(mut self) {
        self.devtools.send("Page.crash", json!({})).expect("the browser listens");
    }

    /// Writes what is seen to a PNG file.
    pub fn takes_picture(&mut self, file: &std::path::Path) {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let picture = picture["data"].as_str().expect("a picture has data").as_bytes();
        std::fs::write(file, BASE64.decode(picture).expect("the picture is base64"))
            .expect("the picture's place is writable");
    }

    // What its user sees and hears

    pub fn is_joined(&mut self) {
        self.until("it is in the call", "document.body.dataset.state === 'joined'");
    }

    pub fn sees_and_hears(&mut self, name: &str) {
        self.plays(&tile(name), true, true);
        let looks = format!("{}.classList.contains('has-video')", tile(name));
        self.until(&format!("the placeholder of {name} is gone"), &looks);
    }

    pub fn shows_neither_picture_nor_sound_of(&mut self, name: &str) {
        let look = format!("[...{}.classList].join(' ') === 'tile silent'", tile(name));
        self.until(&format!("{name} has the placeholder and the mark of silence"), &look);
    }

    pub fn sees_screen_of(&mut self, name: &str) {
        self.plays(&screen(name), true, false);
    }

    /// Waits until the element's picture and sound, as far as asked for, have gone on.
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

    /// Waits until pictures of so many lines come.
    pub fn gets_lines_of(&mut self, name: &str, lines: u32) {
        let look = format!("probe.video({}).then(({{ lines }}) => lines === {lines})", tile(name));
        self.until(&format!("{name} comes in {lines} lines"), &look);
    }

    /// What has come of the element's picture until now.
    pub fn video(&mut self, element: &str) -> Video {
        self.eval(&format!("probe.video({element})"))
    }

    /// The names of the layers in which it sends its pictures; one without a name for a picture without layers.
    pub fn sent_layers(&mut self) -> Vec<Option<String>> {
        self.eval("probe.layers()")
    }

    /// Waits until no picture of the tile came for a second, while sound goes on.
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

    /// Waits until the tile has the mark of one who speaks, or has lost it.
    pub fn marks_as_speaking(&mut self, name: &str, speaks: bool) {
        let look = format!("{}.classList.contains('speaking') === {speaks}", tile(name));
        self.until(&format!("{name} {} marked as speaking", if speaks { "is" } else { "is not" }), &look);
    }

    /// Waits until the sound of the tile, still coming, has nothing in it.
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

    /// Waits until the other people's tiles are those, in whatever order.
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

    pub fn transceivers(&mut self) -> usize {
        self.eval("probe.transceivers()")
    }

    /// Waits until the expression is true in the page's eyes; gives its value.
    pub fn until(&mut self, what: &str, look: &str) -> Value {
        let start = Instant::now();
        let found = poll(|| match self.evaluate(look)? {
            value if is_true(&value) => Ok(value),
            value => Err(value.to_string()),
        });
        found.unwrap_or_else(|last| self.fail(what, &last, start))
    }

    /// The value of an expression, or of what it promises.
    pub fn eval<T: DeserializeOwned>(&mut self, expression: &str) -> T {
        let start = Instant::now();
        let value = self
            .evaluate(expression)
            .and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
        value.unwrap_or_else(|last| self.fail(expression, &last, start))
    }

    /// The page ran into nothing that its author did not foresee, and nothing written in it was run.
    pub fn is_sound(&mut self) {
        assert!(!self.eval::<bool>("'hacked' in window"), "markup was run");
        let errors: Vec<_> = self.devtools.events.iter().filter(|event| is_error(event)).map(words).collect();
        assert!(errors.is_empty(), "errors in the page: {errors:#?}");
    }

    fn watch(&mut self, what: &str, element: &str, mut good: impl FnMut(Media) -> bool) {
        let start = Instant::now();
        let found = poll(|| {
            let value = self.evaluate(&format!("probe.media({element})"))?;
            let text = value.to_string();
            let now: Option<Media> = serde_json::from_value(value).map_err(|error| error.to_string())?;
            now.is_some_and(&mut good).then_some(()).ok_or(text)
        });
        found.unwrap_or_else(|last| self.fail(what, &last, start));
    }

    fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.devtools.call("Runtime.evaluate", params)?;
        match &answer["exceptionDetails"] {
            Value::Null => Ok(answer["result"]["value"].take()),
            thrown => Err(format!("{} {}", thrown["text"], thrown["exception"]["description"])),
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.devtools.call(method, params).expect("the page does as told")
    }

    fn fail(&mut self, what: &str, last: &str, start: Instant) -> ! {
        let state = self.evaluate("probe.state()").unwrap_or_else(|error| json!(error));
        let said: Vec<_> = self.devtools.events.iter().filter(|event| is_words(event)).map(words).collect();
        panic!("not within {:?}: {what}\nlast: {last}\nthe page: {state:#}\nits console: {said:#?}", start.elapsed());
    }
}

/// The tile of another participant, as an expression in the page.
pub fn tile(name: &str) -> String {
    format!("probe.tile({})", json!(name))
}

/// The tile of another participant's screen.
pub fn screen(name: &str) -> String {
    format!("probe.screen({})", json!(name))
}

fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && *value != json!(0) && *value != json!("")
}

fn is_words(event: &Value) -> bool {
    event["method"] == "Runtime.consoleAPICalled" || is_error(event)
}

fn is_error(event: &Value) -> bool {
    let thrown = event["method"] == "Runtime.exceptionThrown";
    let console = event["method"] == "Runtime.consoleAPICalled" && event["params"]["type"] == "error";
    thrown || console
}

fn words(event: &Value) -> String {
    let thrown = &event["params"]["exceptionDetails"];
    let said = event["params"]["args"].as_array().into_iter().flatten();
    let said = said.map(|arg| arg["value"].as_str().or(arg["description"].as_str()).unwrap_or_default());
    match thrown["exception"]["description"].as_str().or(thrown["text"].as_str()) {
        Some(words) => words.to_owned(),
        None => said.collect::<Vec<_>>().join(" "),
    }
}
