//! Simulation of the whole server: bytes and datagrams in and out, str0m peers as browsers, a seeded network and a
//! simulated clock.
//!
//! Invariants are asserted throughout every test: payloads are those that a participant of the same room sent on the
//! m-line named by `tracks` (`sim`, `media`), packets fit their neighbours (`reception`), no SRTP index is used twice
//! and responses leave from the address that received the request (`tap`), messages follow the protocol's order
//! (`page`), and an offer is answered before the next (`answering`). The tests themselves assert only what is specific
//! to their story.
//!
//! A seed determines everything except the random numbers of the cryptographic library: two runs of one plan give the
//! same trace (`plans`, `trace`, `chance`).

mod abuse;
mod acknowledging;
mod answering;
mod attacks;
mod browser;
mod certificate;
mod chance;
mod checking;
#[path = "../decoder/mod.rs"]
mod decoder;
mod decoding;
mod encoding;
mod fault;
mod identity;
mod invariants;
mod layer;
mod media;
mod network;
mod page;
mod reception;
mod sdp;
mod sim;
mod story;
mod tap;
mod tile;
#[path = "../token/mod.rs"]
mod token;
mod trace;
mod waiting;
mod websocket;

mod budgets;
mod capacity;
mod chat;
mod drop;
mod dropping;
mod faults;
mod forged;
mod forwarding;
mod found;
mod gestures;
mod grid;
mod joining;
mod layers;
mod moderation;
mod negotiation;
mod outages;
mod plans;
mod quality;
mod returning;
mod screen;
mod seats;
mod shedding;
mod slow;
mod spatial;
mod speaking;
mod starting;
mod storm;
mod switches;
mod thinning;
mod timing;
mod tokens;
mod transport;
mod viewing;
mod wishes;
mod work;
