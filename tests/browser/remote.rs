//! One connection to a browser's remote control: a command goes out, its answer comes back.
//!
//! Chromium's DevTools (<https://chromedevtools.github.io/devtools-protocol/>) and Firefox's WebDriver BiDi
//! (<https://w3c.github.io/webdriver-bidi/>) put the same JSON around different commands. The crates that drive them
//! generate types for all of it, thousands of them, and refuse an event that a newer browser added; these tests need a
//! dozen commands.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A browser that answers no command for so long hangs; it is far above what a loaded machine needs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Remote {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// What came unasked since the start, such as console lines.
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

    /// Gives the `result` of the answer.
    ///
    /// # Errors
    ///
    /// The browser's own words when it refuses the command, or what is wrong with the connection.
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

    /// Sends a command that the receiver does not live to answer.
    pub fn send(&mut self, method: &str, params: Value) -> Result<u64, String> {
        self.last_id += 1;
        let text = json!({ "id": self.last_id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).map_err(|error| format!("{method}: {error}"))?;
        Ok(self.last_id)
    }
}
