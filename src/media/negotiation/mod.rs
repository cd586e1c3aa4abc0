//! Offers and answers as sets of m-lines.
//!
//! In: publications and subscriptions of one peer, and the text of its SDP answers. Out: the changes that the next offer
//! makes, and what an answer agreed to. Only the server sends offers, one at a time.
//!
//! Never here: packets, SSRCs that are sealed, or a use of an answer's text before it is checked and reduced.

pub mod answer;
pub mod profile;
pub mod sdp;
pub mod state;
