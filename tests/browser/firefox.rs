//! A headless Firefox with an empty profile and one page.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::page::Page;
use crate::remote::Remote;
use crate::scratch::Scratch;
use crate::tab::Tab;
use crate::{find_browser, poll, skip, wait_for_exit};

const NAMES: [&str; 2] = ["firefox-esr", "firefox"];

/// Preferences and their reasons.
const PREFERENCES: [(&str, &str); 12] = [
    ("media.navigator.streams.fake", "true"),        // a moving picture, and a tone
    ("media.navigator.permission.disabled", "true"), // camera and microphone are granted without a question
    ("media.autoplay.default", "0"),                 // ?autojoin=1 plays sound without a click
    // Firefox itself sends nothing to the network.
    ("app.normandy.enabled", "false"),
    ("app.update.disabledForTesting", "true"),
    ("browser.safebrowsing.update.enabled", "false"),
    ("browser.search.update", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("extensions.update.enabled", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("services.settings.server", "\"data:,#remote-settings-dummy/v1\""),
];

pub struct Firefox {
    process: Child,
    profile: Scratch, // after the process, which writes in it
}

impl Firefox {
    /// Server arguments for media on every address of this machine: with 127.0.0.1 alone Firefox forms no candidate pair.
    pub const REACHABLE: [&str; 2] = ["--media-addr", ":0"];

    /// Starts Firefox. Prints why and returns `None` if Firefox is not installed or the machine has only loopback.
    pub fn start() -> Option<Self> {
        let program = find_browser("FIREFOX", &NAMES)?;
        let addresses = if_addrs::get_if_addrs().expect("the addresses of this machine");
        if addresses.iter().all(|address| address.is_loopback() || address.is_link_local()) {
            skip("FIREFOX", "no address but loopback, over which Firefox makes no connection");
            return None;
        }
        let profile = Scratch::new("firefox");
        let lines = PREFERENCES.map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"));
        fs::write(profile.path().join("user.js"), lines.concat()).expect("the profile is written");
        let process = Command::new(program)
            .args(["--headless", "--no-remote", "--remote-debugging-port=0", "--profile"])
            .arg(profile.path())
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Firefox starts");
        Some(Self { process, profile })
    }

    /// Opens the page in its window.
    pub fn open(self, url: &str) -> Page {
        let file = self.profile.path().join("WebDriverBiDiServer.json");
        let opened = poll(|| {
            let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let server: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let port = server["ws_port"].as_u64().and_then(|port| port.try_into().ok()).ok_or(text)?;
            Remote::connect(port, "/session")
        });
        let mut remote = opened.expect("Firefox opens WebDriver BiDi");
        let mut call = |method, params| remote.call(method, params).expect("the browser accepts the command");
        call("session.new", json!({ "capabilities": {} }));
        let tree = call("browsingContext.getTree", json!({}));
        let context = tree["contexts"][0]["context"].as_str().expect("a window has a context").to_owned();
        Page::open(Tab::in_firefox(remote, context, self), url, "")
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // `Tab` closes Firefox, unless it failed before.
        if wait_for_exit(&mut self.process).is_err() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
