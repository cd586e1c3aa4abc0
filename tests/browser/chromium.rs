//! Two headless Chromiums that all stories share: one for calm pages, and one for those whose camera has its full size,
//! because a Chromium opens its fake camera once, for all pages. Each page has a separate window and an empty profile of
//! its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use serde_json::{Value, json};

use crate::page::Page;
use crate::remote::Remote;
use crate::scratch::Scratch;
use crate::tab::Tab;
use crate::{find_browser, poll};

/// Flags and their reasons.
const FLAGS: [&str; 18] = [
    "--headless=new", // the real browser without a window
    "--no-sandbox",   // root in a container may not create the sandbox
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking", // Chromium itself sends nothing to the network
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    // The address bar's suggestions are pages of their own, which take most of the time in which a window opens.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
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

/// Runs Chromium until standard input ends, which it does at the end of this process, however it ends: a static is never
/// dropped. Then removes the profile, which Chromium's helper processes may use slightly longer than Chromium itself.
const SHELL: &str = r#""$@" & read -r end; kill $!; wait $!; until rm -rf -- "$0"; do sleep 0.1; done"#;

static CALM_PAGES: OnceLock<Shared> = OnceLock::new();
static FULL_PAGES: OnceLock<Shared> = OnceLock::new();

/// A browser's process, started by the first story that needs it.
struct Shared {
    /// Kept for its standard input.
    _shell: Child,
    _profile: Scratch,
    port: u16,
    path: String,
}

/// Makes a page's camera deliver small pictures, 10 per second instead of 20, and its microphone what it records: encoding,
/// decoding and echo cancellation take most of what a page computes.
const CALM: &str = "{
    const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    navigator.mediaDevices.getUserMedia = ({ audio, video }) => given({
        audio: audio && { ...audio, ...plain },
        video: video && { ...video, width: 320, height: 180, frameRate: 10 },
    });
}";

/// Device pixels per CSS pixel of a calm page, whose windows take a quarter of the time to draw.
const CALM_SCALE: f64 = 0.5;

/// A story's connection to the browser. Its pages are closed when it ends.
pub struct Chromium {
    /// Whether its pages compute as little as possible, because the story does not measure pictures.
    is_calm: bool,
    port: u16,
    remote: Remote,
}

impl Chromium {
    /// Connects to Chromium, and starts it before if necessary. Prints why and returns `None` if it is not installed.
    pub fn start() -> Option<Self> {
        // A saved picture of a call has to look well.
        let is_saved = env::vars_os().any(|(name, _)| name.as_encoded_bytes().starts_with(b"AQ_SCREENSHOT"));
        Self::start_with(!is_saved)
    }

    /// The same for a story that measures pictures.
    pub fn start_at_full_rate() -> Option<Self> {
        Self::start_with(false)
    }

    fn start_with(is_calm: bool) -> Option<Self> {
        let program = find_browser("CHROMIUM", &NAMES)?;
        let shared = if is_calm { &CALM_PAGES } else { &FULL_PAGES };
        let shared = shared.get_or_init(|| Shared::start(program));
        let remote = Remote::connect(shared.port, &shared.path).expect("Chromium runs until the last story has ended");
        Some(Self { is_calm, port: shared.port, remote })
    }

    pub fn open(&mut self, url: &str) -> Page {
        self.open_with(url, "")
    }

    /// Opens a page in which `script` runs before the page's own.
    pub fn open_with(&mut self, url: &str, script: &str) -> Page {
        // A browser context is as separate from others as an empty profile.
        let context = self.call("Target.createBrowserContext", json!({ "disposeOnDetach": true }));
        let target = self.call(
            "Target.createTarget",
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"], "newWindow": true }),
        );
        let target = target["targetId"].as_str().expect("a target has an id").to_owned();
        let remote = Remote::connect(self.port, &format!("/devtools/page/{target}")).expect("a page has DevTools");
        let (calm, scale) = if self.is_calm { (CALM, CALM_SCALE) } else { ("", 1.0) };
        Page::open(Tab::in_chromium(remote, target, scale), url, &format!("{calm}{script}"))
    }

    /// Closes the page's tab as its user would.
    pub fn close(&mut self, page: Page) {
        self.call("Target.closeTarget", json!({ "targetId": page.id() }));
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.remote.call(method, params).expect("the browser accepts the command")
    }
}

impl Shared {
    fn start(program: PathBuf) -> Self {
        let profile = Scratch::new("chromium");
        let mut shell = Command::new("sh")
            .args(["-c", SHELL])
            .arg(profile.path())
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let opened = poll(|| {
            let text =
                fs::read_to_string(profile.path().join("DevToolsActivePort")).map_err(|error| error.to_string())?;
            let (port, path) = text.split_once('\n').ok_or("half a DevToolsActivePort")?;
            let port = port.parse().map_err(|_| format!("port {port}"))?;
            let path = path.trim().to_owned();
            Remote::connect(port, &path).map(|_| (port, path))
        });
        match opened {
            Ok((port, path)) => Self { _shell: shell, _profile: profile, port, path },
            Err(last) => {
                drop(shell.stdin.take());
                let _ = shell.wait();
                panic!("Chromium opens no DevTools: {last}");
            }
        }
    }
}
