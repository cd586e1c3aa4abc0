//! The web plane: HTTP and WebSocket connections and the signaling protocol.
//!
//! The input is the decrypted bytes of TCP connections. The output is requests, client messages, and the bytes of
//! responses. Nothing here does I/O or knows rooms and media.

pub mod assets;
pub mod conn;
pub mod http;
pub mod origin;
pub mod signal;
pub mod token;
pub mod websocket;
