//! The media plane: ICE demultiplexing, WebRTC peers, RTP. It knows nothing of HTTP, WebSockets or rooms.

pub mod addresses;
pub mod allowance;
pub mod bandwidth;
pub mod codec;
pub mod demux;
pub mod dtls;
pub mod egress;
pub mod elements;
pub mod fault;
pub mod forward;
pub mod history;
pub mod keyframe;
pub mod negotiation;
pub mod outgoing;
pub mod packet;
pub mod peer;
pub mod profile;
pub mod rtcp;
pub mod sdp;
pub mod sending;
pub mod srtp;
pub mod wallclock;
