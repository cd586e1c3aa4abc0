//! The web plane.
pub mod assets;
pub mod conn;
pub mod http;
pub mod origin;
pub mod signal;
pub mod token;
pub mod websocket;
