//! Builds the input of a subscriber's allocation, applies the result to its m-lines, and reports it to the subscriber
//! (quality) and to the publishers (wanted layers).

use smallvec::SmallVec;
use str0m::media::Mid;

use crate::id::{PeerId, TrackId};
use crate::media::publish::grade::Grade;
use crate::media::publish::layer::RIDS;
use crate::media::publish::layers::MAX_GRADES;
use crate::media::subscribe::allocation::wish::{LoadCap, Wish};
use crate::media::subscribe::allocation::{self, Grant, claim};
use crate::media::subscribe::quality::{Limit, Quality};
use crate::media::subscribe::selection::{Selection, View};
use crate::room::subscribers::Subscriber;
use crate::server::Server;
use crate::server::participants::Work;
use crate::track::{Kind, Source};
use crate::web::signal::{self, ServerMessage};

/// Until the path has been measured, every track is sent in at least its lowest grade up to this total bitrate, so that
/// a camera that has just started does not stop. A higher value fills the queue of a slow path for a moment; a lower
/// one delays some videos.
const UNMEASURED_BPS: u64 = 1_500_000;

/// The bitrate assumed for the lowest grade of a track before the path has been measured.
const UNMEASURED_TRACK_BPS: u64 = 150_000;

/// One subscribed video track, as input for the allocation.
struct Candidate {
    m_line: usize,
    track: TrackId,
    view: View,
    is_screen: bool,
    speaks: bool,
    load_cap: LoadCap,
    has_paused_layers: bool,
    is_spatial: bool,
    is_oversized: bool,
    grades: SmallVec<[Grade; MAX_GRADES]>,
    selected: Option<Selection>,
}

impl Server {
    /// Queues the allocation of all subscribers of a track whose layers have changed.
    pub(super) fn reallocate_subscribers(&mut self, track: TrackId) {
        let track = self.participants.track(track).into_iter();
        let subscribers: Vec<PeerId> = track.flat_map(|track| track.subscribers.iter()).map(|to| to.peer).collect();
        subscribers.into_iter().for_each(|peer| self.queue(Work::Allocate, peer));
    }

    /// Computes which grade of each video track a participant is sent, and applies it.
    pub(in crate::server) fn allocate(&mut self, id: PeerId) {
        let now = self.now;
        let candidates = self.candidates(id);
        let wishes: SmallVec<[Wish; 16]> = candidates.iter().map(Candidate::wish).collect();
        let mut grants = Vec::new();
        let Some(sending) = self.participants.get_mut(id).map(|participant| &mut participant.peer.sending) else {
            return;
        };
        let available_bps = sending.available_bps();
        let audio_bps = sending.audio_bps(now);
        let is_measured = sending.egress.as_ref().is_some_and(|egress| egress.estimator.is_measured());
        let totals = allocation::allocate(available_bps, audio_bps, &wishes, &mut grants);
        if !is_measured {
            let mut spent_bps = totals.allocated_bps;
            let is_starved = |grant: &Grant| grant.grade.is_none() && grant.limit == Limit::Bandwidth;
            for (wish, grant) in wishes.iter().zip(&mut grants).filter(|(_, grant)| is_starved(grant)) {
                let least = wish.grades.first().map(|grade| grade.bitrate_bps.max(UNMEASURED_TRACK_BPS));
                if let Some(least_bps) = least.filter(|least| spent_bps + least <= UNMEASURED_BPS) {
                    spent_bps += least_bps;
                    grant.grade = Some(0);
                }
            }
        }
        for (candidate, grant) in candidates.iter().zip(&grants) {
            let Some(outgoing) = self
                .participants
                .get_mut(id)
                .and_then(|participant| participant.peer.sending.m_line_mut(candidate.m_line))
            else {
                continue;
            };
            let quality = candidate.quality(grant);
            // Before the first packet of a track arrives there is no quality to report, unless the server sheds
            // the track.
            let is_shed = grant.limit == Limit::Server;
            let is_known = !candidate.grades.is_empty() || outgoing.quality.is_some() || is_shed;
            if is_known || candidate.is_oversized {
                outgoing.quality = Some(quality);
            }
            let selection = candidate.selection(grant);
            if outgoing.selected() != selection {
                outgoing.select(selection);
            }
            self.update_subscription(id, candidate.m_line, candidate.track);
        }
        if let Some(participant) = self.participants.get_mut(id) {
            participant.peer.sending.handle_allocation(now, totals.wanted_bps);
        }
        self.send_quality(id);
        self.probe(id);
    }

    /// Sends a participant the quality of the tracks that it receives, if it has changed since the last report.
    pub(in crate::server) fn send_quality(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        let m_lines = participant.peer.sending.videos().filter_map(|(m_line, outgoing)| {
            let track = outgoing.track?;
            let layers = &self.participants.track(track)?.layers;
            let result = outgoing.current_quality(layers);
            (result != outgoing.reported_quality).then_some((m_line, outgoing.mid, result?))
        });
        let changed: Vec<_> = m_lines.collect();
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        for (m_line, _, quality) in &changed {
            if let Some(outgoing) = participant.peer.sending.m_line_mut(*m_line) {
                outgoing.reported_quality = Some(*quality);
            }
        }
        if !changed.is_empty() {
            let tracks = changed.iter().map(|(_, mid, quality)| to_message(mid, quality)).collect();
            self.send(id, &ServerMessage::Quality { tracks });
        }
    }

    /// Marks a track as one whose packets are too large to forward, which changes the quality reported to its
    /// subscribers.
    pub(in crate::server) fn on_oversized(&mut self, track: TrackId) {
        let now = self.now;
        let Some(published) = self.participants.track_mut(track).filter(|published| published.kind == Kind::Video)
        else {
            return;
        };
        published.layers.handle_oversized(now);
        if published.layers.take_changed() {
            self.reallocate_subscribers(track);
        }
    }

    /// Sends a publisher the layers of a track that its subscribers need.
    pub(in crate::server) fn send_wanted_layers(&mut self, track: TrackId, wanted: u8) {
        self.send(track.publisher, &ServerMessage::Layers { mid: &track.mid, rids: &RIDS[..usize::from(wanted)] });
    }

    /// Notifies a subscriber that it cannot decode a track.
    pub(super) fn report_cannot_decode(&mut self, id: PeerId, track: TrackId) {
        let Some(publisher) = self.participants.get(track.publisher) else {
            return;
        };
        let name = &publisher.name;
        let published = publisher.published.track(track.mid);
        let message = match published.map(|track| track.kind) {
            Some(Kind::Audio) => format!("{name} sends audio in a format that this browser cannot play."),
            _ => format!("{name} sends video in a format that this browser cannot show."),
        };
        let source = published.map(|track| track.source);
        let publisher_id = publisher.id.clone();
        let error = ServerMessage::Error {
            code: "cannot-decode",
            message: &message,
            retry: false,
            id: Some(&publisher_id),
            source,
        };
        self.send(id, &error);
    }

    fn candidates(&self, id: PeerId) -> Vec<Candidate> {
        let m_lines = self.participants.get(id).into_iter().flat_map(|participant| participant.peer.sending.videos());
        let candidates = m_lines.filter_map(|(m_line, outgoing)| {
            let track = outgoing.track?;
            let publisher = self.participants.get(track.publisher)?;
            let published = publisher.published.track(track.mid).filter(|published| published.kind == Kind::Video)?;
            let room = self.rooms.get(&publisher.room);
            Some(Candidate {
                m_line,
                track,
                view: outgoing.view,
                is_screen: published.source == Source::Screen,
                speaks: room.is_some_and(|room| room.speakers.reported().contains(&track.publisher)),
                load_cap: self.load_cap(track, outgoing.view.priority),
                has_paused_layers: published.layers.has_paused_layers(),
                is_spatial: published.layers.is_spatial(),
                is_oversized: published.layers.is_oversized(),
                grades: published.layers.grades(),
                selected: outgoing.selected(),
            })
        });
        candidates.collect()
    }

    /// Updates the track's subscriber entry after a change on an m-line: the forwarded and wanted layers. Requests the
    /// keyframe that the m-line waits for.
    pub(in crate::server) fn update_subscription(&mut self, id: PeerId, m_line: usize, track: TrackId) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let is_connected = participant.peer.is_connected();
        let Some(outgoing) =
            participant.peer.sending.m_line_mut(m_line).filter(|outgoing| outgoing.track == Some(track))
        else {
            return;
        };
        let layers = outgoing.layers();
        let awaited = outgoing.awaited();
        let view = outgoing.view;
        let reason = outgoing.not_selected_reason();
        // A held packet must not start a layer whose later packets are not queued.
        let held = &mut participant.outbox.held;
        let held_before = held.len();
        held.retain(|held| held.m_line as usize != m_line || layers & 1 << held.layer != 0);
        let discarded = (held_before - held.len()) as u64;
        self.count_dropped(id, m_line, reason, discarded);
        let load_cap = self.load_cap(track, view.priority);
        let Some(published) = self.participants.track_mut(track) else {
            return;
        };
        let is_screen = published.source == Source::Screen;
        let permit = claim::permit(view.tile(), load_cap, is_screen, &published.layers.heights());
        let wanted = published.layers.needed(permit.layers as u8);
        let unqueued = published.subscribers.set(Subscriber { peer: id, m_line, layers, wanted }, reason);
        // Only `distribute` asks the publisher for fewer layers: it compares the needs of all subscribers.
        let is_raised = wanted > published.layers.signaled() && published.layers.want(now, wanted);
        if is_raised {
            self.send_wanted_layers(track, wanted);
        }
        self.count_unqueued(unqueued);
        // A keyframe before the connection is up would be lost, and would delay the next one.
        if let Some((layer, reason)) = awaited.filter(|_| is_connected) {
            self.request_keyframe(track, layer, reason);
        }
    }
}

/// Encodes a track's quality for the protocol.
fn to_message<'a>(mid: &'a Mid, quality: &Quality) -> signal::Quality<'a> {
    signal::Quality {
        mid,
        sent: quality.is_sent,
        rid: quality.layer.map(|layer| RIDS[usize::from(layer)]),
        height: (quality.height > 0).then_some(quality.height),
        limit: match quality.limit {
            Limit::None => "none",
            Limit::View => "view",
            Limit::Bandwidth => "bandwidth",
            Limit::Publisher => "publisher",
            Limit::Server => "server",
            Limit::Keyframe => "keyframe",
            Limit::Codec => "codec",
            Limit::Oversized => "oversized",
        },
    }
}

impl Candidate {
    fn wish(&self) -> Wish<'_> {
        Wish {
            grades: &self.grades,
            height: self.view.tile(),
            priority: self.view.priority,
            is_screen: self.is_screen,
            speaks: self.speaks,
            load_cap: self.load_cap,
            has_paused_layers: self.has_paused_layers,
            current: self
                .selected
                .and_then(|selected| self.grades.iter().rposition(|grade| self.layers_of(grade) <= selected)),
        }
    }

    fn quality(&self, grant: &Grant) -> Quality {
        let grade = grant.grade.map(|grade| self.grades[grade]);
        let has_layers = self.grades.first().map(|grade| grade.layer) != self.grades.last().map(|grade| grade.layer);
        Quality {
            is_sent: grade.is_some(),
            layer: grade.filter(|grade| has_layers || grade.layer > 0).map(|grade| grade.layer),
            height: grade.map_or(0, |grade| grade.height),
            limit: grant.limit,
        }
    }

    /// The layers that a grade consists of.
    fn layers_of(&self, grade: &Grade) -> Selection {
        let Grade { layer, temporal, .. } = *grade;
        if self.is_spatial {
            Selection { layer: 0, spatial: layer, temporal }
        } else {
            Selection { layer, spatial: u8::MAX, temporal }
        }
    }

    fn selection(&self, grant: &Grant) -> Option<Selection> {
        match grant.grade {
            Some(index) => {
                let part = self.layers_of(&self.grades[index]);
                // The highest grade has no spatial bound, so that the keyframe of a new layer above it is forwarded. A
                // previous bound that is high enough is kept: raising it would require a keyframe.
                let is_highest = index + 1 == self.grades.len();
                let before = self.selected.map(|selected| selected.spatial).filter(|before| *before >= part.spatial);
                let spatial = if is_highest { before.unwrap_or(u8::MAX) } else { part.spatial };
                Some(Selection { spatial, ..part })
            }
            None if self.grades.is_empty() => claim::select_first(self.view.tile(), self.load_cap, self.is_screen),
            None => None,
        }
    }
}
