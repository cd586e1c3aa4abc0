//! The web plane: what one TCP connection says and hears, as bytes in memory.
//!
//! Pure: no sockets, files, threads or clocks; `now` is a parameter. Knows nothing of media or rooms.

pub mod assets;
pub mod conn;
pub mod http;
pub mod origin;
pub mod websocket;
