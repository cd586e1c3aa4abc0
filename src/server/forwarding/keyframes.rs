//! Keyframe requests of subscribers, passed on to publishers.

use crate::id::{PeerId, TrackId};
use crate::media::publish::keyframe::Reason;
use crate::server::Server;
use crate::server::participants::Work;
use crate::track::Kind;

impl Server {
    /// Requests a keyframe of a layer from the publisher for a subscriber: now if the rate limit allows, else with a
    /// later packet.
    pub(super) fn request_keyframe(&mut self, track: TrackId, layer: u8, reason: Reason) {
        let now = self.now;
        let Some(publisher) = self.participants.get_mut(track.publisher) else {
            return;
        };
        let Some(published) = publisher.published.track_mut(track.mid) else {
            return;
        };
        if published.kind == Kind::Audio {
            return;
        }
        let layer = published.layers.nearest(layer);
        published.layers.request_keyframe(layer, reason);
        if let Some((layer, reason)) = published.layers.poll_request(now) {
            publisher.peer.request_keyframe(track.mid, layer);
            self.stats.keyframe_requests[reason as usize] += 1;
            self.turn.queue(Work::Drive, track.publisher, publisher);
        }
    }

    /// Requests keyframes on all m-lines that forward to a participant.
    pub(super) fn request_keyframes(&mut self, id: PeerId, reason: Reason) {
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        let m_lines = 0..participant.peer.negotiation.m_lines().len();
        let tracks: Vec<_> = m_lines.filter_map(|m_line| participant.peer.sending.carried(m_line)).collect();
        for (track, layer) in tracks {
            self.request_keyframe(track, layer, reason);
        }
    }
}
