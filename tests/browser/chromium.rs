//! One headless Chromium with an empty profile; each page that it opens is a window and a storage of its own.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::page::Page;
use crate::remote::Remote;
use crate::scratch::Scratch;
use crate::tab::Tab;
use crate::{find_browser, poll, wait_for_exit};

/// Why each flag is there:
const FLAGS: [&str; 17] = [
    "--headless=new", // the real browser without a window
    "--no-sandbox",   // a container's root may not make the sandbox
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking", // nothing of its own goes to the network
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--use-fake-device-for-media-stream", // a moving picture, and a beep each second
    "--use-fake-ui-for-media-stream",     // camera, microphone and screen are granted without a question
    "--autoplay-policy=no-user-gesture-required", // ?autojoin=1 plays sound without a click
    // Loopback ICE. Chromium gathers no candidate on the loopback interface, and where a machine has no other (a
    // container without network) it would gather none at all and never connect. With another interface it connects
    // without this flag too: its socket on that interface reaches 127.0.0.1, and the server takes it as peer-reflexive.
    // Chromium's mDNS names (`.local`) stand only for addresses that the server learns from the checks themselves, so
    // nothing need be switched off for them.
    "--allow-loopback-in-peer-connection",
    // Of several windows one is in front; without these the others run their timers and decoders at a crawl.
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
    /// Gives nothing, and says so, where this machine has no Chromium.
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
        self.remote.call(method, params).expect("the browser does as told")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its helpers go with it when it ends by itself; a kill would leave them to find out.
        let asked = self.remote.call("Browser.close", json!({}));
        if asked.is_err() || wait_for_exit(&mut self.process).is_err() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
