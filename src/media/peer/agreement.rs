//! Offers and answers of a peer: its m-lines, and the SSRCs and codecs of those on which the server sends.

use std::time::Instant;

use str0m::media::{MediaKind, Rids};

use super::Peer;
use crate::id::{Names, TrackId};
use crate::media::fault::PeerError;
use crate::media::negotiation::answer;
use crate::media::negotiation::profile::{PayloadTypes, Profile, TRANSPORT_CC_ID};
use crate::media::negotiation::{Agreed, Answered, Change};
use crate::media::transport::phase::Phase;
use crate::track::Source;

impl Peer {
    /// Returns an SDP offer with the changes since the last one, or `None` if there are none.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn build_offer(&mut self, now: Instant, names: &mut Names) -> Result<Option<String>, PeerError> {
        let changes = self.negotiation.start_offer(now);
        if changes.is_empty() {
            return Ok(None);
        }
        self.declare_streams(&changes, names)?;
        let mut sdp = self.rtc.sdp_api();
        self.session.apply(changes, &mut self.negotiation, &mut sdp, names);
        let applied = sdp.apply();
        for outgoing in self.sending.m_lines() {
            self.rtc.direct_api().remove_stream_tx(outgoing.ssrc.into());
        }
        let Some((offer, pending)) = applied else {
            // str0m's state has these changes already, so they are agreed without an offer.
            let answers = self.answered();
            self.negotiation.handle_answer(now, answers.into_iter());
            self.negotiation.note_exchange();
            return Ok(None);
        };
        let m_lines = self.negotiation.m_lines();
        Ok(Some(self.session.start(&offer, pending, m_lines, self.checks.awaits_answer())))
    }

    /// Queues the answer to the outstanding offer until `take_answer`.
    ///
    /// # Errors
    /// There is no outstanding offer, or it already has an answer: the peer has to end.
    pub fn queue_answer(&mut self, sdp: String) -> Result<(), PeerError> {
        self.session.queue_answer(sdp)
    }

    /// Takes the queued answer, for `handle_answer`.
    pub fn take_answer(&mut self) -> Option<String> {
        self.session.take_answer()
    }

    /// Returns true if an answer names none of this transport's m-lines, because it answers an offer of the
    /// participant's previous transport.
    pub fn is_foreign(&self, answer: &str) -> bool {
        let m_lines = self.negotiation.m_lines();
        let mut mids = answer.lines().filter_map(|line| line.strip_prefix("a=mid:"));
        !mids.any(|mid| m_lines.iter().any(|m_line| m_line.mid.is_some_and(|own| *own == *mid.trim())))
    }

    /// Applies the answer to the outstanding offer.
    ///
    /// # Errors
    /// The answer is invalid. The peer has to end, because the answer may have been applied in part.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        sdp: &str,
        profile: &Profile,
        names: &mut Names,
    ) -> Result<Vec<Agreed>, PeerError> {
        let (pending, answer) = self.session.read_answer(sdp)?;
        let accepted = self.rtc.sdp_api().accept_answer(pending, answer);
        accepted.map_err(|error| PeerError::BadAnswer(error.to_string()))?;
        self.checks.handle_answer();
        self.streams.set_parameter_sets(answer::parameter_sets(sdp, self.session.offered()));
        self.take_streams(names)?;
        self.sending.set_redundant(&answer::redundant(sdp, self.session.offered()));
        let answers = self.answered();
        let agreed = self.negotiation.handle_answer(now, answers.into_iter());
        for agreed in &agreed {
            if let Agreed::Subscribed { m_line, track } = *agreed {
                self.start_track(m_line, track, profile);
            }
        }
        self.note_without_simulcast(&agreed);
        if self.phase == Phase::Signaling && self.negotiation.expects_media() {
            self.phase = Phase::Connecting { since: now, ice: false };
        }
        Ok(agreed)
    }

    /// Gives waiting tracks to live m-lines that carry no needed track, without an offer. Returns each m-line's index
    /// and its new track. See `Negotiation::exchange`.
    pub fn exchange(&mut self, profile: &Profile) -> Vec<(usize, TrackId)> {
        let exchanged = self.negotiation.exchange();
        for (m_line, track) in &exchanged {
            self.start_track(*m_line, *track, profile);
        }
        exchanged
    }

    /// Returns the negotiated direction of every m-line.
    fn answered(&self) -> Vec<Answered> {
        let answers = self.negotiation.m_lines().iter().enumerate().filter_map(|(m_line, state)| {
            let media = self.rtc.media(state.mid?)?;
            Some(Answered { m_line, direction: media.direction(), rejected: media.stopped() })
        });
        answers.collect()
    }

    /// Records the m-lines on which the peer sends no simulcast layers although it was offered them.
    fn note_without_simulcast(&mut self, agreed: &[Agreed]) {
        for agreed in agreed {
            if let Agreed::Publishing { mid, source: Source::Camera, kind: MediaKind::Video } = *agreed
                && self.rtc.media(mid).is_some_and(|media| !matches!(media.rids_rx(), Rids::Specific(_)))
            {
                self.session.note_without_simulcast(mid);
            }
        }
    }

    /// Declares to str0m the SSRCs of all m-lines on which the server sends, for the next offer. Reused m-lines get new
    /// SSRCs. It does not use `reset_stream_tx`, which leaves the stream filed under its old SSRC.
    fn declare_streams(&mut self, changes: &[Change], names: &mut Names) -> Result<(), PeerError> {
        for change in changes {
            if let Change::Direct { mid, fresh_ssrc: true, .. } = change {
                self.sending.renew_m_line(*mid, names)?;
            }
        }
        let mut direct = self.rtc.direct_api();
        for outgoing in self.sending.m_lines() {
            direct.declare_stream_tx(outgoing.ssrc.into(), outgoing.rtx.ssrc.map(Into::into), outgoing.mid, None);
        }
        Ok(())
    }

    /// Removes the streams that str0m has created for the m-lines of an answer, and keeps the SSRCs of those on which
    /// the server sends.
    fn take_streams(&mut self, names: &mut Names) -> Result<(), PeerError> {
        let mut direct = self.rtc.direct_api();
        for (m_line, state) in self.negotiation.m_lines().iter().enumerate() {
            let Some(mid) = state.mid else { continue };
            while let Some(stream) = direct.stream_tx_by_mid(mid, None) {
                let (ssrc, rtx_ssrc) = (stream.ssrc(), stream.rtx());
                direct.remove_stream_tx(ssrc);
                if state.publishes().is_none() && self.sending.m_line_mut(m_line).is_none() {
                    self.sending.add_m_line(m_line, mid, *ssrc, rtx_ssrc.map(|ssrc| *ssrc), names)?;
                }
            }
        }
        Ok(())
    }

    fn start_track(&mut self, m_line: usize, track: TrackId, profile: &Profile) {
        let Some(outgoing) = self.sending.m_line_mut(m_line) else {
            return;
        };
        let Some(media) = self.rtc.media(outgoing.mid) else {
            return;
        };
        let mut payload_types = PayloadTypes::default();
        for params in self.rtc.codec_config().params() {
            if media.remote_pts().contains(&params.pt()) {
                payload_types.insert(params.spec().codec, params.pt(), params.resend());
                payload_types.red = payload_types.red.or(params.red().filter(|_| outgoing.takes_redundancy));
            }
        }
        let accepted = profile.accepted(media.remote_extmap());
        outgoing.start(track, payload_types, accepted);
        self.sending.has_arrival_feedback |= accepted.contains(TRANSPORT_CC_ID);
    }
}

#[cfg(test)]
impl Peer {
    /// Returns the m-lines of the latest offer, which an answer has to repeat.
    pub fn offered(&self) -> &[crate::media::negotiation::offered::Offered] {
        self.session.offered()
    }
}
