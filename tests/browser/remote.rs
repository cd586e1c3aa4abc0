//! A connection to a browser's remote control: commands and their responses.
//!
//! Chromium's DevTools (<https://chromedevtools.github.io/devtools-protocol/>) and Firefox's WebDriver BiDi
//! (<https://w3c.github.io/webdriver-bidi/>) use the same JSON envelope for different commands. Existing crates generate
//! thousands of types for the whole protocols and reject events that a newer browser adds; these tests need a dozen
//! commands.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Time limit for a response, far above what a busy machine needs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Remote {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// Events received since the start, such as console messages.
    pub events: Vec<Value>,
}

impl Remote {
    pub fn connect(port: u16, path: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|error| error.to_string())?;
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tungstenite::client(url, stream).map_err(|error| error.to_string())?;
        Ok(Self { socket, last_id: 0, events: Vec::new() })
    }

    /// Sends a command and returns the `result` of its response.
    ///
    /// # Errors
    ///
    /// The browser refuses the command, or the connection fails.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.send(method, params)?;
        loop {
            let message = self.socket.read().map_err(|error| format!("{method}: {error}"))?;
            let Message::Text(text) = message else { continue };
            let mut value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            if value["id"].is_null() {
                self.events.push(value);
            } else if value["id"] == id {
                let is_refused = !value["error"].is_null();
                return if is_refused { Err(format!("{method}: {value}")) } else { Ok(value["result"].take()) };
            }
        }
    }

    /// Sends a command without waiting for a response.
    pub fn send(&mut self, method: &str, params: Value) -> Result<u64, String> {
        self.last_id += 1;
        let text = json!({ "id": self.last_id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).map_err(|error| format!("{method}: {error}"))?;
        Ok(self.last_id)
    }
}
