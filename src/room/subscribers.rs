//! The subscribers of one track, and the number of its packets that were not queued for each of them.
//!
//! Packets of layers that a subscriber does not get are counted once per track, not per subscriber. The difference is
//! attributed to each subscriber when its layers change, or before the counters are read.

use smallvec::SmallVec;

use crate::drop_reason::DropReason;
use crate::id::PeerId;
use crate::media::publish::layer::LAYERS;

/// One subscriber of a track that gets some of its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The subscribing peer.
    pub peer: PeerId,
    /// Index of the subscriber's m-line that carries the track.
    pub m_line: usize,
    /// Bit set of the layers of which the subscriber needs every packet.
    pub layers: u8,
    /// How many layers, counted from the smallest, the subscriber's view can use.
    pub wanted: u8,
}

/// The subscribers of one track.
#[derive(Debug, Default)]
pub struct Subscribers {
    active: Vec<Subscriber>,
    carriers: Vec<Carrier>,
    counts: Counts,
}

/// The packets of a track that were not queued for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unqueued {
    /// The subscriber.
    pub peer: PeerId,
    /// Its m-line.
    pub m_line: usize,
    /// The numbers of packets by reason, each of which may be 0.
    pub packets: [(DropReason, u32); 3],
}

/// An m-line that carries the track, whether or not any layer is sent on it.
#[derive(Clone, Copy, Debug)]
struct Carrier {
    peer: PeerId,
    m_line: usize,
    layers: u8,
    /// Why the other layers are not sent.
    reason: DropReason,
    /// The track's counts when the carrier was last settled.
    settled: Counts,
}

/// Counts of the track's packets, which wrap.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    by_layer: [u32; LAYERS],
    not_loudest: u32,
    silenced: u32,
}

impl Subscribers {
    /// Upper bound of the memory of each subscriber, in bytes.
    pub const BYTES_EACH: usize = size_of::<Subscriber>() + size_of::<Carrier>();

    /// Iterates over the subscribers that get at least one layer.
    pub fn iter(&self) -> std::slice::Iter<'_, Subscriber> {
        self.active.iter()
    }

    /// Returns the number of m-lines that carry the track.
    pub fn carriers(&self) -> usize {
        self.carriers.len()
    }

    /// Counts a packet of a layer, to be queued for the subscribers that get the layer.
    pub fn count(&mut self, layer: u8) {
        let count = &mut self.counts.by_layer[usize::from(layer)];
        *count = count.wrapping_add(1);
    }

    /// Counts a packet that is not forwarded because the microphone is not among the loudest.
    pub fn count_not_loudest(&mut self) {
        self.counts.not_loudest = self.counts.not_loudest.wrapping_add(1);
    }

    /// Counts a packet that is not forwarded because a moderator has muted the microphone.
    pub fn count_silenced(&mut self) {
        self.counts.silenced = self.counts.silenced.wrapping_add(1);
    }

    /// Adds a subscriber or changes its layers. `reason` applies to the other layers. Returns the packets that were not
    /// queued for it since the last change.
    pub fn set(&mut self, subscriber: Subscriber, reason: DropReason) -> Option<Unqueued> {
        let Subscriber { peer, m_line, layers, .. } = subscriber;
        match self.active.iter().position(|other| (other.peer, other.m_line) == (peer, m_line)) {
            Some(index) if layers == 0 => drop(self.active.remove(index)),
            Some(index) => self.active[index] = subscriber,
            None if layers == 0 => {}
            None => self.active.push(subscriber),
        }
        let Some(carrier) = self.carriers.iter_mut().find(|other| (other.peer, other.m_line) == (peer, m_line)) else {
            self.carriers.push(Carrier { peer, m_line, layers, reason, settled: self.counts });
            return None;
        };
        let unqueued = carrier.settle(&self.counts);
        carrier.layers = layers;
        carrier.reason = reason;
        Some(unqueued)
    }

    /// Removes a subscriber. Returns the packets that were not queued for it since the last change.
    pub fn remove(&mut self, peer: PeerId) -> SmallVec<[Unqueued; 1]> {
        self.active.retain(|subscriber| subscriber.peer != peer);
        let counts = self.counts;
        let mut unqueued = SmallVec::new();
        self.carriers.retain_mut(|carrier| {
            let stays = carrier.peer != peer;
            if !stays {
                unqueued.push(carrier.settle(&counts));
            }
            stays
        });
        unqueued
    }

    /// Returns the packets that were not queued for each subscriber since the last call or change.
    pub fn settle(&mut self) -> impl Iterator<Item = Unqueued> {
        self.carriers.iter_mut().map(|carrier| carrier.settle(&self.counts))
    }
}

impl Carrier {
    fn settle(&mut self, counts: &Counts) -> Unqueued {
        let since = std::mem::replace(&mut self.settled, *counts);
        let missed = (0..LAYERS).filter(|layer| self.layers & 1 << layer == 0);
        let missed = missed.map(|layer| counts.by_layer[layer].wrapping_sub(since.by_layer[layer]));
        let missed = missed.fold(0, u32::wrapping_add);
        let packets = [
            (self.reason, missed),
            (DropReason::NotLoudest, counts.not_loudest.wrapping_sub(since.not_loudest)),
            (DropReason::Silenced, counts.silenced.wrapping_sub(since.silenced)),
        ];
        Unqueued { peer: self.peer, m_line: self.m_line, packets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_counted_by_the_layers_and_the_reason_at_their_arrival() {
        let peer = |slot| PeerId { slot, generation: 0 };
        let of = |slot, layers| Subscriber { peer: peer(slot), m_line: 1, layers, wanted: 1 };
        let numbers = |unqueued: Unqueued| unqueued.packets.map(|(_, count)| count);
        let mut subscribers = Subscribers::default();
        subscribers.count(0);
        assert_eq!(subscribers.set(of(1, 0b001), DropReason::LayerNotSelected), None, "earlier packets do not count");
        for (layer, count) in [(0, 10), (1, 5), (2, 2)] {
            (0..count).for_each(|_| subscribers.count(layer));
        }
        let unqueued = subscribers.set(of(1, 0), DropReason::OverBudget).unwrap();
        assert_eq!((unqueued.packets[0].0, numbers(unqueued)), (DropReason::LayerNotSelected, [7, 0, 0]));
        assert_eq!((subscribers.iter().count(), subscribers.carriers()), (0, 1));
        subscribers.count(0);
        subscribers.count_not_loudest();
        subscribers.count_silenced();
        subscribers.count_silenced();
        subscribers.set(of(2, 0b111), DropReason::LayerNotSelected);
        subscribers.count(2);
        let unqueued: Vec<Unqueued> = subscribers.settle().collect();
        assert_eq!(unqueued[0].packets[0], (DropReason::OverBudget, 2));
        assert_eq!(unqueued.into_iter().map(numbers).collect::<Vec<_>>(), [[2, 1, 2], [0, 0, 0]]);
        subscribers.count(1);
        let unqueued: Vec<_> = subscribers.remove(peer(1)).into_iter().map(numbers).collect();
        assert_eq!(unqueued, [[1, 0, 0]], "the rest was counted before");
        assert_eq!((subscribers.remove(peer(1)).len(), subscribers.carriers()), (0, 1));
    }
}
