//! The streams that the server sends to one peer, as a subscriber.
//!
//! In: packets of the tracks that it subscribes to, its feedback on them, and the layers that the allocation grants.
//! Out: sealed datagrams, and the peer's requests for keyframes and lost packets.
//!
//! Never here: two packets under one outgoing sequence number, a copy of a payload except the one into the send buffer,
//! or a scan over other peers.

pub mod allocation;
mod demand;
pub mod egress;
mod m_lines;
pub mod outgoing;
pub mod picture_ids;
pub mod quality;
pub mod renumbering;
pub mod requests;
pub mod rtx;
pub mod selection;
pub mod sending;
mod sent_counts;
mod writer;
