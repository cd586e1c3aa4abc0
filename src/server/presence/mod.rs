//! Presence: participants are admitted, join, are interrupted, return and leave.
//!
//! A request for a WebSocket enters; a participant in its room leaves, or a refusal with its reason. A participant
//! stays in its room while its connection or its media is interrupted. No participant joins without passing
//! [`admission`], and none costs more than its [`budget`].

pub mod admission;
pub mod budget;
pub mod diagnosis;
mod joining;
mod returning;
mod transport;
