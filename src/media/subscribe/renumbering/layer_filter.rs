//! Chooses by spatial and temporal layer which packets of one SSRC are sent.

use std::collections::VecDeque;

use crate::media::rtp::codec::Description;
use crate::media::rtp::packet::Incoming;

/// Number of remembered changes of the highest spatial layer. Spatial layers return at keyframes only, so these changes
/// span more than a second.
pub(super) const CHANGES: usize = 8;

/// The highest layers of a source to forward; `u8::MAX` for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Highest spatial layer within one SSRC.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

/// The layers that are sent now.
#[derive(Debug)]
pub(super) struct LayerFilter {
    /// Highest temporal layer that is decodable now because nothing that it depends on was dropped.
    temporal: u8,
    /// Highest spatial layer sent now, and the earlier values, latest first.
    spatial: Highest,
    spatial_before: VecDeque<Highest>,
    /// The current picture.
    picture: Option<Picture>,
}

/// A highest spatial layer, and the packet and picture from which it applies.
#[derive(Clone, Copy, Debug)]
struct Highest {
    layer: u8,
    seq_no: u64,
    timestamp: u32,
}

#[derive(Clone, Copy, Debug)]
struct Picture {
    timestamp: u32,
    is_dropped: bool,
}

/// The decision on one packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It is sent.
    Sent,
    /// Its picture, or its layer of the picture, is not sent.
    Dropped {
        /// The timestamp of the picture if all of it is dropped.
        timestamp: Option<u32>,
        /// Whether it is the first packet of the picture.
        is_new_picture: bool,
    },
}

impl LayerFilter {
    /// Upper bound of the heap memory in bytes.
    pub const MAX_BYTES: usize = 2 * CHANGES * size_of::<Highest>();

    /// Creates a filter that has not started.
    pub fn new() -> Self {
        let spatial = Highest { layer: u8::MAX, seq_no: 0, timestamp: 0 };
        Self { temporal: u8::MAX, spatial, spatial_before: VecDeque::new(), picture: None }
    }

    /// Starts a source with this packet.
    pub fn start(&mut self, packet: &Incoming, bound: Bound) {
        self.temporal = u8::MAX;
        self.picture = Some(Picture { timestamp: packet.timestamp, is_dropped: false });
        self.spatial = Highest { layer: bound.spatial, seq_no: packet.seq_no, timestamp: packet.timestamp };
        self.spatial_before.clear();
    }

    /// Highest spatial layer sent of the current picture.
    #[inline]
    pub fn spatial(&self) -> u8 {
        self.spatial.layer
    }

    /// Decides whether to send a packet with a higher sequence number than all before. The first packet of a picture
    /// decides for all, so that no picture is sent in part.
    #[inline]
    pub fn decide(&mut self, packet: &Incoming, description: &Description, bound: Bound) -> Verdict {
        if let Some(picture) = self.picture
            && picture.timestamp == packet.timestamp
        {
            return self.verdict(picture, description, false);
        }
        // A spatial layer that was dropped is decodable again from a keyframe on only.
        let spatial = if packet.can_start { bound.spatial } else { bound.spatial.min(self.spatial.layer) };
        if spatial != self.spatial.layer {
            let now = Highest { layer: spatial, seq_no: packet.seq_no, timestamp: packet.timestamp };
            self.spatial_before.truncate(CHANGES - 1);
            self.spatial_before.push_front(std::mem::replace(&mut self.spatial, now));
        }
        let layer = description.temporal;
        // Dropped temporal layers return one by one, each where it does not depend on dropped pictures.
        let is_decodable = layer <= self.temporal || layer == self.temporal + 1 && description.can_switch_up;
        let is_dropped = layer > bound.temporal || !is_decodable;
        self.temporal =
            if is_dropped { self.temporal.min(layer - 1) } else { self.temporal.max(layer).max(description.opens) };
        let picture = Picture { timestamp: packet.timestamp, is_dropped };
        self.picture = Some(picture);
        self.verdict(picture, description, true)
    }

    #[inline]
    fn verdict(&self, picture: Picture, description: &Description, is_new_picture: bool) -> Verdict {
        if picture.is_dropped || description.spatial > self.spatial.layer {
            let timestamp = picture.is_dropped.then_some(picture.timestamp);
            return Verdict::Dropped { timestamp, is_new_picture };
        }
        Verdict::Sent
    }

    /// Whether to send a late packet. `highest` is the highest spatial layer sent of its picture.
    pub fn allows_late(&self, description: &Description, highest: Option<u8>, bound: Bound) -> bool {
        description.temporal <= self.temporal.min(bound.temporal)
            && highest.is_some_and(|highest| description.spatial <= highest)
    }

    /// Returns the highest spatial layer sent of a late packet's picture, or `None` if it is no longer remembered.
    pub fn sent_spatial(&self, packet: &Incoming) -> Option<u8> {
        let is_since = |since: &&Highest| packet.seq_no >= since.seq_no || packet.timestamp == since.timestamp;
        let mut changes = std::iter::once(&self.spatial).chain(&self.spatial_before);
        changes.find(is_since).map(|since| since.layer)
    }
}
