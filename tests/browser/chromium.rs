//! A headless Chromium with an empty profile. Each page has a separate window and storage.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::page::Page;
use crate::remote::Remote;
use crate::scratch::Scratch;
use crate::tab::Tab;
use crate::{find_browser, poll, wait_for_exit};

/// Flags and their reasons.
const FLAGS: [&str; 17] = [
    "--headless=new", // the real browser without a window
    "--no-sandbox",   // root in a container may not create the sandbox
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking", // Chromium itself sends nothing to the network
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--use-fake-device-for-media-stream", // a moving picture, and a beep each second
    "--use-fake-ui-for-media-stream",     // camera, microphone and screen are granted without a question
    "--autoplay-policy=no-user-gesture-required", // ?autojoin=1 plays sound without a click
    // Loopback ICE. By default Chromium gathers no candidate on the loopback interface, and on a machine without another
    // one (a container without network) it would never connect. With another interface it would connect without this
    // flag: its socket there reaches 127.0.0.1, and the server treats it as peer-reflexive. Chromium's mDNS names
    // (`.local`) need no flag, because the server learns the addresses from connectivity checks.
    "--allow-loopback-in-peer-connection",
    // Only one window is in front; without these flags timers and decoders of the others are throttled.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-dev-shm-usage",   // a container's /dev/shm is often 64 MB
    "--remote-debugging-port=0", // a free one; it is written into the profile
];

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub struct Chromium {
    process: Child,
    port: u16,
    remote: Remote,
    _profile: Scratch, // after the process, which writes in it
}

impl Chromium {
    /// Starts Chromium. Prints why and returns `None` if it is not installed.
    pub fn start() -> Option<Self> {
        let program = find_browser("CHROMIUM", &NAMES)?;
        let profile = Scratch::new("chromium");
        let mut process = Command::new(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        let opened = poll(|| {
            let text =
                fs::read_to_string(profile.path().join("DevToolsActivePort")).map_err(|error| error.to_string())?;
            let (port, path) = text.split_once('\n').ok_or("half a DevToolsActivePort")?;
            let port = port.parse().map_err(|_| format!("port {port}"))?;
            Ok((port, Remote::connect(port, path.trim())?))
        });
        match opened {
            Ok((port, remote)) => Some(Self { process, port, remote, _profile: profile }),
            Err(last) => {
                let _ = process.kill();
                let _ = process.wait();
                panic!("Chromium opens no DevTools: {last}");
            }
        }
    }

    pub fn open(&mut self, url: &str) -> Page {
        self.open_with(url, "")
    }

    /// Opens a page in which `script` runs before the page's own.
    pub fn open_with(&mut self, url: &str, script: &str) -> Page {
        let context = self.call("Target.createBrowserContext", json!({}));
        let target = self.call(
            "Target.createTarget",
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"], "newWindow": true }),
        );
        let target = target["targetId"].as_str().expect("a target has an id").to_owned();
        let remote = Remote::connect(self.port, &format!("/devtools/page/{target}")).expect("a page has DevTools");
        Page::open(Tab::in_chromium(remote, target), url, script)
    }

    /// Closes the page's tab as its user would.
    pub fn close(&mut self, page: Page) {
        self.call("Target.closeTarget", json!({ "targetId": page.id() }));
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.remote.call(method, params).expect("the browser accepts the command")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // A regular close ends its helper processes as well; after a kill they would linger.
        let asked = self.remote.call("Browser.close", json!({}));
        if asked.is_err() || wait_for_exit(&mut self.process).is_err() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
