//! The media plane: ICE demultiplexing, WebRTC peers, RTP. It knows nothing of HTTP, WebSockets or rooms.

pub mod codec;
pub mod demux;
pub mod dtls;
pub mod forward;
pub mod keyframe;
pub mod negotiation;
pub mod peer;
pub mod profile;
pub mod sdp;
pub mod wallclock;
