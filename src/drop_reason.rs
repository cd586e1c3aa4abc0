//! Why a received packet was not forwarded to a participant of the room.
//!
//! A new reason is a variant, an entry of `ALL`, and a name; the metric follows `ALL`. The code that drops the packet
//! counts it (`Server::count_dropped`, or `Outcome::Dropped` of an m-line). A test must reach it: the random plans of
//! `tests/sim/plans.rs`, or if it is on their list `RARE`, `tests/sim/dropping.rs` or a unit test.

use std::time::Instant;

/// The reason for a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// The publisher left, or stopped the track, before the packet was forwarded.
    Unpublished,
    /// A moderator has muted the microphone.
    Silenced,
    /// The microphone is not among the loudest of the room.
    NotLoudest,
    /// Payload and header extensions are too large for a datagram that fits every path.
    TooLarge,
    /// No m-line of the subscriber carries the track: the publisher has no seat, or the subscriber has not answered the
    /// offer.
    NoSeat,
    /// The m-line was reassigned while the pacer held the packet.
    Reassigned,
    /// The subscriber's page does not show the track.
    NotViewed,
    /// Another layer of the track is selected for the subscriber.
    LayerNotSelected,
    /// The bitrate of the path to the subscriber does not suffice for the track.
    OverBudget,
    /// The server is overloaded and sends fewer tracks.
    Shed,
    /// The subscriber's stream starts, or changes layers, at the next keyframe.
    AwaitsKeyframe,
    /// The subscriber's media transport is not connected, or its consent has expired.
    NotConnected,
    /// The subscriber has not negotiated the codec.
    CodecNotNegotiated,
    /// The packet precedes the start of the subscriber's stream, or came too late to be numbered.
    TooOld,
    /// The subscriber's pacer held the packet until it had left the retransmission history.
    HeldTooLong,
    /// The sequence number may have been sealed before.
    Guard,
    /// The subscriber's peer failed or left while its packets were forwarded.
    PeerEnded,
}

/// The number of reasons.
pub const DROP_REASONS: usize = DropReason::ALL.len();

impl DropReason {
    /// All reasons, in the order of their values.
    pub const ALL: [Self; 17] = [
        Self::Unpublished,
        Self::Silenced,
        Self::NotLoudest,
        Self::TooLarge,
        Self::NoSeat,
        Self::Reassigned,
        Self::NotViewed,
        Self::LayerNotSelected,
        Self::OverBudget,
        Self::Shed,
        Self::AwaitsKeyframe,
        Self::NotConnected,
        Self::CodecNotNegotiated,
        Self::TooOld,
        Self::HeldTooLong,
        Self::Guard,
        Self::PeerEnded,
    ];

    /// The reason's name in metrics and logs, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unpublished => "unpublished",
            Self::Silenced => "silenced",
            Self::NotLoudest => "not_loudest",
            Self::TooLarge => "too_large",
            Self::NoSeat => "no_seat",
            Self::Reassigned => "reassigned",
            Self::NotViewed => "not_viewed",
            Self::LayerNotSelected => "layer_not_selected",
            Self::OverBudget => "over_budget",
            Self::Shed => "shed",
            Self::AwaitsKeyframe => "awaits_keyframe",
            Self::NotConnected => "not_connected",
            Self::CodecNotNegotiated => "codec_not_negotiated",
            Self::TooOld => "too_old",
            Self::HeldTooLong => "held_too_long",
            Self::Guard => "guard",
            Self::PeerEnded => "peer_ended",
        }
    }
}

/// Numbers of drops by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops<N>([N; DROP_REASONS]);

impl Drops<u64> {
    /// Counts `count` drops.
    pub fn add(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }

    /// Adds the drops of a run of packets.
    pub fn add_run(&mut self, run: &Drops<u16>) {
        self.0.iter_mut().zip(run.0).for_each(|(total, count)| *total += u64::from(count));
    }

    /// Returns the number of drops for a reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Returns the number of all drops.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Drops<u16> {
    /// Counts a drop in a run of packets, which is far shorter than 2^16.
    pub fn add_one(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }
}

/// The drops on one m-line of a subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub struct MLineDrops {
    counts: Drops<u64>,
    last: Option<(DropReason, Instant)>,
}

impl MLineDrops {
    /// Counts `count` drops at or before `now`.
    pub fn add(&mut self, now: Instant, reason: DropReason, count: u64) {
        if count > 0 {
            self.counts.add(reason, count);
            self.last = Some((reason, now));
        }
    }

    /// The drops since the m-line was added.
    pub fn counts(&self) -> &Drops<u64> {
        &self.counts
    }

    /// The reason of the last drop, and when it was counted.
    pub fn last(&self) -> Option<(DropReason, Instant)> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_reason_has_its_own_index_and_name() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DROP_REASONS);
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
            let mut drops = Drops::default();
            drops.add(reason, 3);
            assert_eq!(drops.get(reason), 3);
            assert_eq!(drops.total(), 3);
        }
    }

    #[test]
    fn an_m_line_keeps_the_reason_and_time_of_its_last_drop() {
        let start = Instant::now();
        let mut drops = MLineDrops::default();
        drops.add(start, DropReason::NoSeat, 2);
        drops.add(start, DropReason::Shed, 1);
        drops.add(start + Duration::from_secs(1), DropReason::Guard, 0);
        assert_eq!((drops.last(), drops.counts().total()), (Some((DropReason::Shed, start)), 3));
    }
}
