//! The whole server in simulation: bytes and datagrams in, bytes and datagrams out, str0m peers as browsers, a
//! seeded network, a simulated clock.
//!
//! What must hold whatever happens is asserted while it happens, in every test: that payloads are those which somebody
//! of the same room sent on the line that `tracks` named (`sim`, `media`), that packets fit their neighbours
//! (`reception`), that no number is sealed twice and answers leave from where they were asked (`tap`), that messages
//! come in the order of the protocol (`page`), and that an offer is answered before the next (`answering`). The
//! tests say what else must come of their story.
//!
//! A seed fixes everything but what the cryptographic library draws for itself: two runs of one plan give the same trace
//! (`plans`, `trace`, `chance`).

mod acknowledging;
mod answering;
mod attacks;
mod browser;
mod certificate;
mod chance;
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
mod websocket;

mod budgets;
mod capacity;
mod chat;
mod drop;
mod faults;
mod forged;
mod forwarding;
mod found;
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
