//! Wire formats of RTP and RTCP: parsers and writers.
//!
//! In: bytes of one packet, and the state of its SSRC where a format has one. Out: fields and descriptions, or bytes.
//! Nothing fails: unreadable data yields a default or `None`.
//!
//! Never here: knowledge of peers, tracks or subscribers, or a decision about what is sent.

pub mod codec;
pub mod elements;
pub mod packet;
pub mod rtcp;
pub mod transport_feedback;
