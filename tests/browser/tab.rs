//! A browser tab, controlled with the commands of Chromium or Firefox.

use serde_json::{Value, json};

use crate::firefox::Firefox;
use crate::remote::Remote;

pub struct Tab {
    /// ID of Chromium's target or Firefox's browsing context.
    pub id: String,
    remote: Remote,
    /// Device pixels per CSS pixel; Chromium only.
    scale: f64,
    /// The Firefox of this tab, which ends with it.
    firefox: Option<Firefox>,
}

/// A console message, or an uncaught exception.
#[derive(Debug)]
pub struct Said {
    pub is_error: bool,
    #[expect(dead_code, reason = "it is printed")]
    pub words: String,
}

impl Tab {
    pub fn in_chromium(remote: Remote, id: String, scale: f64) -> Self {
        Self { id, remote, scale, firefox: None }
    }

    pub fn in_firefox(remote: Remote, id: String, firefox: Firefox) -> Self {
        Self { id, remote, scale: 1.0, firefox: Some(firefox) }
    }

    /// Runs `script` in each later page before the page's own scripts.
    pub fn prepare(&mut self, script: &str) {
        if self.firefox.is_some() {
            self.call("session.subscribe", json!({ "events": ["log.entryAdded"] }));
            self.call("script.addPreloadScript", json!({ "functionDeclaration": format!("() => {{ {script} }}") }));
            return;
        }
        self.call("Page.enable", json!({}));
        self.call("Runtime.enable", json!({}));
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
        // Each window behaves as if it were in front.
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
    }

    pub fn navigate(&mut self, url: &str) {
        if self.firefox.is_some() {
            self.call("browsingContext.navigate", json!({ "context": self.id, "url": url, "wait": "none" }));
            return;
        }
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// Resizes the window, in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        if self.firefox.is_some() {
            let viewport = json!({ "width": width, "height": height });
            self.call("browsingContext.setViewport", json!({ "context": self.id, "viewport": viewport }));
            return;
        }
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": self.scale, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Clicks at a position.
    pub fn press(&mut self, x: f64, y: f64) {
        if self.firefox.is_some() {
            let actions = json!([
                { "type": "pointerMove", "x": x.round(), "y": y.round() },
                { "type": "pointerDown", "button": 0 },
                { "type": "pointerUp", "button": 0 },
            ]);
            let source = json!({ "type": "pointer", "id": "mouse", "actions": actions });
            self.call("input.performActions", json!({ "context": self.id, "actions": [source] }));
            return;
        }
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Drags from one position to another one; Chromium only.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        for (kind, (x, y)) in [("mousePressed", from), ("mouseMoved", to), ("mouseReleased", to)] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Sets the user's preferences, as media features and their values; Chromium only.
    pub fn emulate(&mut self, features: &[(&str, &str)]) {
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Presses a key, such as `Tab`; in Firefox, only one that writes a character.
    pub fn key(&mut self, key: &str) {
        if self.firefox.is_some() {
            assert!(key.chars().count() == 1, "no key {key}");
            return self.insert(key);
        }
        let (code, text) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            "ArrowLeft" => (37, None),
            "ArrowUp" => (38, None),
            "ArrowRight" => (39, None),
            "ArrowDown" => (40, None),
            letter if letter.len() == 1 => (i32::from(letter.to_ascii_uppercase().as_bytes()[0]), Some(letter)),
            other => panic!("no key {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if let (Some(text), "keyDown") = (text, kind) {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text.
    pub fn insert(&mut self, text: &str) {
        if self.firefox.is_some() {
            let keys = text.chars().map(|letter| letter.to_string());
            let press =
                |key: String| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })];
            let actions: Vec<Value> = keys.flat_map(press).collect();
            let source = json!({ "type": "key", "id": "keyboard", "actions": actions });
            self.call("input.performActions", json!({ "context": self.id, "actions": [source] }));
            return;
        }
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Starts to reload the page; Chromium only.
    pub fn reload(&mut self) {
        self.call("Page.reload", json!({}));
    }

    /// Declines to leave the page, where the browser asks for that; Chromium only.
    pub fn stay(&mut self) -> Result<Value, String> {
        self.remote.call("Page.handleJavaScriptDialog", json!({ "accept": false }))
    }

    /// Crashes its renderer; Chromium only.
    pub fn crash(&mut self) {
        self.remote.send("Page.crash", json!({})).expect("the browser listens");
    }

    /// Returns a screenshot as a PNG in base64; Chromium only.
    pub fn picture(&mut self) -> String {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        picture["data"].as_str().expect("a picture has data").to_owned()
    }

    /// Number of DOM nodes that exist after a collection of garbage; Chromium only.
    pub fn nodes(&mut self) -> usize {
        // What the first collection frees may hold more.
        for _ in 0..3 {
            self.call("HeapProfiler.collectGarbage", json!({}));
        }
        let counters = self.call("Memory.getDOMCounters", json!({}));
        usize::try_from(counters["nodes"].as_u64().expect("a number of nodes")).expect("it fits")
    }

    /// CPU time of the page's main thread since the first call, in seconds; Chromium only.
    pub fn main_thread_seconds(&mut self) -> f64 {
        self.call("Performance.enable", json!({ "timeDomain": "threadTicks" }));
        let metrics = self.call("Performance.getMetrics", json!({}));
        let all = metrics["metrics"].as_array().expect("a list of metrics");
        let found = all.iter().find(|metric| metric["name"] == "TaskDuration").expect("the time of tasks");
        found["value"].as_f64().expect("a time")
    }

    /// Returns the value of a JavaScript expression; a promise is awaited.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        if self.firefox.is_some() {
            // The value is transferred as JSON text, because BiDi's own format contains the type of each part.
            let expression = format!("(async () => JSON.stringify(await ({expression})))()");
            let target = json!({ "context": self.id });
            let params = json!({ "expression": expression, "awaitPromise": true, "target": target });
            let answer = self.remote.call("script.evaluate", params)?;
            return match answer["result"]["value"].as_str() {
                Some(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
                None if answer["type"] == "success" => Ok(Value::Null),
                None => Err(answer["exceptionDetails"]["text"].to_string()),
            };
        }
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.remote.call("Runtime.evaluate", params)?;
        match &answer["exceptionDetails"] {
            Value::Null => Ok(answer["result"]["value"].take()),
            thrown => Err(format!("{} {}", thrown["text"], thrown["exception"]["description"])),
        }
    }

    /// Returns the page's console messages and exceptions since it was opened.
    pub fn said(&self) -> Vec<Said> {
        self.remote.events.iter().filter_map(Said::of).collect()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.remote.call(method, params).expect("the browser accepts the command")
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        if self.firefox.is_some() {
            let _ = self.remote.call("browser.close", json!({}));
        }
    }
}

impl Said {
    fn of(event: &Value) -> Option<Self> {
        let params = &event["params"];
        let (is_error, words) = match event["method"].as_str()? {
            "log.entryAdded" => (params["level"] == "error", params["text"].as_str()?.to_owned()),
            "Runtime.consoleAPICalled" => {
                let args = params["args"].as_array().into_iter().flatten();
                let words = args.map(|arg| arg["value"].as_str().or(arg["description"].as_str()).unwrap_or_default());
                (params["type"] == "error", words.collect::<Vec<_>>().join(" "))
            }
            "Runtime.exceptionThrown" => {
                let thrown = &params["exceptionDetails"];
                (true, thrown["exception"]["description"].as_str().or(thrown["text"].as_str())?.to_owned())
            }
            _ => return None,
        };
        Some(Self { is_error, words })
    }
}
