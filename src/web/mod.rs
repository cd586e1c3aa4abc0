//! The web plane: HTTP and WebSocket connections and the signaling protocol.
//!
//! The decrypted bytes of TCP connections enter; requests and client messages leave, and the bytes of their responses.
//! Nothing here does I/O or knows rooms and media.
pub mod assets;
pub mod conn;
pub mod http;
pub mod origin;
pub mod signal;
pub mod token;
pub mod websocket;
