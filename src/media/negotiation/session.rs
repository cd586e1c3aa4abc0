//! The SDP session of one peer: the texts of offers and answers.

use str0m::change::{SdpAnswer, SdpApi, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};

use crate::id::Names;
use crate::media::fault::PeerError;
use crate::media::negotiation::answer;
use crate::media::negotiation::m_line::MLine;
use crate::media::negotiation::offered::{Offered, offered};
use crate::media::negotiation::sdp::{self, with_simulcast, with_standard_transport_cc, with_unread_transport_cc};
use crate::media::negotiation::{Change, Negotiation};
use crate::track::Source;

/// The SDP state of one peer, which later offers and answers have to repeat.
pub struct Session {
    pending: Option<SdpPendingOffer>,
    /// The answer to `pending`, queued until `handle_answer` may run.
    answer: Option<String>,
    /// The m-lines of the latest offer.
    offered: Vec<Offered>,
    /// The msid of each set of m-lines.
    stream_ids: Vec<String>,
    /// Whether the peer can send simulcast layers.
    simulcast: bool,
    /// Camera m-lines that it sends without simulcast. They stay that way: simulcast can't be added to them later.
    without_simulcast: Vec<Mid>,
}

impl Session {
    /// Creates the session of a peer without an offer.
    pub fn new(simulcast: bool) -> Self {
        Self {
            pending: None,
            answer: None,
            offered: Vec::new(),
            stream_ids: Vec::new(),
            simulcast,
            without_simulcast: Vec::new(),
        }
    }

    /// Applies changes to the next offer of `sdp`, and gives the added m-lines their mids.
    pub fn apply(
        &mut self,
        changes: Vec<Change>,
        negotiation: &mut Negotiation,
        sdp: &mut SdpApi<'_>,
        names: &mut Names,
    ) {
        for change in changes {
            match change {
                Change::Add { m_line, kind, direction, set } => {
                    let stream_id = set.map(|set| {
                        while self.stream_ids.len() <= set {
                            self.stream_ids.push(names.token(12));
                        }
                        self.stream_ids[set].clone()
                    });
                    let mid = sdp.add_media(kind, direction, stream_id, Some(names.token(12)), None);
                    negotiation.set_mid(m_line, mid);
                }
                Change::Direct { mid, direction, .. } => {
                    // str0m ignores a direction that does not change, but this m-line has to be offered again.
                    if direction != Direction::Inactive {
                        sdp.set_direction(mid, Direction::Inactive);
                    }
                    sdp.set_direction(mid, direction);
                }
            }
        }
    }

    /// Returns the text of an offer, which is pending from now on. `is_first` is true before the first answer.
    pub fn start(&mut self, offer: &SdpOffer, pending: SdpPendingOffer, m_lines: &[MLine], is_first: bool) -> String {
        self.pending = Some(pending);
        let mut offer = sdp::with_codec_before_redundancy(&with_standard_transport_cc(&offer.to_sdp_string()));
        self.offered = offered(&offer);
        if is_first {
            offer = sdp::with_repeated_candidates(&offer);
        }
        if self.simulcast { with_simulcast(&offer, &self.layered_m_lines(m_lines)) } else { offer }
    }

    /// Queues the answer to the pending offer until `take_answer`.
    ///
    /// # Errors
    /// There is no pending offer, or it already has an answer: the peer has to end.
    pub fn queue_answer(&mut self, sdp: String) -> Result<(), PeerError> {
        if self.pending.is_none() || self.answer.is_some() {
            return Err(PeerError::UnexpectedAnswer);
        }
        self.answer = Some(sdp);
        Ok(())
    }

    /// Takes the queued answer.
    pub fn take_answer(&mut self) -> Option<String> {
        self.answer.take()
    }

    /// Returns true if an answer is queued.
    pub fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Reads the answer to the pending offer, which is no longer pending.
    ///
    /// # Errors
    /// There is no pending offer, or the answer is invalid.
    pub fn read_answer(&mut self, sdp: &str) -> Result<(SdpPendingOffer, SdpAnswer), PeerError> {
        let pending = self.pending.take().ok_or(PeerError::UnexpectedAnswer)?;
        let reduced = with_unread_transport_cc(&answer::reduce(sdp, &self.offered).map_err(PeerError::of_answer)?);
        let answer = SdpAnswer::from_sdp_string(&reduced).map_err(|error| PeerError::BadAnswer(error.to_string()))?;
        Ok((pending, answer))
    }

    /// Returns the m-lines of the latest offer, as an answer has to repeat them.
    pub fn offered(&self) -> &[Offered] {
        &self.offered
    }

    /// Returns true if the peer can send a camera in simulcast layers.
    pub fn has_simulcast(&self) -> bool {
        self.simulcast
    }

    /// Records an m-line on which the peer sends no simulcast layers although it was offered them.
    pub fn note_without_simulcast(&mut self, mid: Mid) {
        if !self.without_simulcast.contains(&mid) {
            self.without_simulcast.push(mid);
        }
    }

    /// Returns the m-lines that request a camera in simulcast layers.
    fn layered_m_lines(&self, m_lines: &[MLine]) -> Vec<Mid> {
        let cameras = m_lines
            .iter()
            .filter(|m_line| m_line.kind == MediaKind::Video && m_line.asks_for() == Some(Source::Camera));
        cameras.filter_map(|m_line| m_line.mid).filter(|mid| !self.without_simulcast.contains(mid)).collect()
    }
}
