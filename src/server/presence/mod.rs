//! Presence: participants are admitted, join, lose their connection, return and leave.
//!
//! The input is a WebSocket request, the result a participant in its room or a refusal with its reason. A participant
//! stays in its room while its connection or its media is interrupted. No participant joins without passing
//! [`admission`], and none costs more than its [`budget`].

pub mod admission;
pub mod budget;
pub mod diagnosis;
mod joining;
mod returning;
mod transport;
pub mod waiting;
