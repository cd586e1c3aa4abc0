//! How a browser answers offers: correctly, as a current or an old page, or in one of the wrong ways that a server must
//! survive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::json;
use str0m::change::SdpOffer;
use str0m::media::{Mid, Rid};

use crate::browser::Browser;
use crate::checking::Checking;
use crate::decoder::encoder::{Configured, H264_PPS, H264_SPS};
use crate::encoding::Encoding;
use crate::identity::Identity;
use crate::media::{Camera, Microphone, Screen, Source};
use crate::page::Track;
use crate::reception::Drift;
use crate::sdp::{self, Line};

/// Packets that a browser keeps to answer NACKs, and for how long.
pub const RTX_PACKETS: usize = 1_024;
pub const RTX_AGE: Duration = Duration::from_secs(3);

/// m-lines of one kind on which a browser may send: one for a microphone or camera, and one for a screen.
const OWN_LINES: usize = 2;

/// m-lines of one kind that may exist in addition because their sets were still being parked when another was needed.
const SPARE_LINES: usize = 2;

/// The first of the SSRCs that several browsers share.
const COMMON_SSRC: u32 = 1_000_000;

/// Redundant audio (RFC 2198) that a browser accepts and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// None.
    Plain,
    /// Accepts and sends it.
    Redundant,
    /// Sends it, but accepts only the first payload type of each m-line.
    FirstOnly,
    /// Sends it, but accepts only the last payload type of each m-line.
    LastOnly,
}

/// What distinguishes one browser from another.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The sources that it publishes from the start.
    pub sources: Vec<Source>,
    /// Behaves like an old page, which called `addTrack` before the first offer and knows only six events.
    pub is_old: bool,
    /// Decodes only H.264.
    pub h264_only: bool,
    /// Sends its camera with another codec than VP8.
    pub encoding: Option<Encoding>,
    /// Offers simulcast for its camera, and sends it if requested.
    pub simulcast: bool,
    /// Accepts a fresh transport on the same WebSocket.
    pub renews: bool,
    /// Sends its candidates one by one after the answer instead of in it.
    pub trickles: bool,
    /// Puts its candidates in every m-line of the answer, not only in the first.
    pub repeats_candidates: bool,
    /// Its microphone sends audio levels.
    pub has_levels: bool,
    /// Redundant audio that it accepts and sends.
    pub sound: Sound,
    /// The kind of media that it never receives.
    pub rejects: Option<&'static str>,
    /// Its streams use the same SSRCs as those of every other browser with this habit.
    pub has_common_ssrcs: bool,
    /// Time from offer to answer.
    pub answer_delay: Duration,
    /// How it answers offers.
    pub answering: Answering,
    /// The certificate that it presents.
    pub identity: Identity,
    /// Sends connectivity checks at the intervals of libwebrtc.
    pub has_libwebrtc_checks: bool,
    /// Its own addresses.
    pub addrs: Vec<SocketAddr>,
    /// The proxy that carries its WebSocket.
    pub proxy: Option<IpAddr>,
    /// Records statistics of its packets.
    pub has_stats: bool,
    /// The timestamp jumps that its checks allow.
    pub drift: Drift,
    /// Additional parameters of the WebSocket URL.
    pub query: String,
}

/// Ways to answer an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    Properly,
    /// Text that is not SDP.
    Garbage,
    /// Omits the last m-line.
    MissingLine,
    /// Moves the first m-line to the end.
    Swapped,
    /// Sends the answer twice.
    Twice,
    Never,
    /// Permanently rejects each m-line on which it would receive video.
    Rejecting,
}

impl Browser {
    /// Checks an offer and schedules its answer.
    pub fn on_offer(&mut self, now: Instant, offer: String) {
        assert!(self.pending_offer.is_none(), "an offer before the last one was answered");
        // Reassigning an m-line without an offer may require one offer later. A rejected m-line is only reassigned with
        // an offer.
        let reassigned = self.habits.rejects.map_or(0, |_| self.page.reassignments());
        assert!(
            self.page.offers <= self.changes + self.page.exchanges + reassigned + 1,
            "{} offers to {} for {} changes",
            self.page.offers,
            self.name,
            self.changes
        );
        assert!(offer.contains("a=ice-lite\r\n") && offer.contains("a=candidate:"));
        if self.lines.is_empty() {
            let all = sdp::values(&offer, "candidate");
            sdp::edit(&offer, |line, section| {
                let own = sdp::values(section, "candidate");
                assert!(
                    !own.is_empty() && all.iter().all(|value| own.contains(value)),
                    "{line:?} lacks candidates of the offer"
                );
                None
            });
        }
        let lines = sdp::lines(&offer);
        for (line, before) in lines.iter().zip(&self.lines) {
            assert!(
                line.mid == before.mid && line.kind == before.kind,
                "m-lines keep their place (RFC 8829 section 5.2.2)"
            );
            let keeps = line.is_rejected || line.stream_id == before.stream_id;
            assert!(keeps, "an m-line keeps its msid: {line:?}, {before:?}");
        }
        assert!(lines.len() >= self.lines.len(), "m-lines never go away (RFC 8829 section 5.2.2)");
        self.check_tracks(&lines);
        // At most one set of two m-lines for each participant present at once, and one for each participant that shared
        // a screen.
        let received_tracks =
            || self.page.announced.iter().map(|(_, received_tracks)| received_tracks.iter().filter(|track| !track.own));
        let participants =
            received_tracks().map(|tracks| tracks.map(|track| &track.id).collect::<BTreeSet<_>>().len()).max();
        for kind in ["audio", "video"] {
            let screens = received_tracks().flatten().filter(|track| track.kind == kind && track.source == Screen);
            let screens: BTreeSet<&str> = screens.map(|track| track.id.as_str()).collect();
            let lines = lines.iter().filter(|line| line.kind == kind && !line.is_rejected).count();
            let most = participants.unwrap_or_default() + screens.len() + OWN_LINES + SPARE_LINES;
            assert!(
                lines <= most,
                "{lines} m-lines of {kind}, {participants:?} participants at most, {screens:?} shared a screen"
            );
        }
        let asks = |line: &Line| !line.rids.is_empty();
        assert!(
            self.habits.simulcast || !lines.iter().any(asks),
            "the offer asks {} for layers although it did not offer simulcast",
            self.name
        );
        if self.lines.is_empty() && self.wants(Screen) {
            // The page rejoins with a screen, for which no m-line exists yet.
            self.publish(now, Screen);
        }
        self.lines = lines;
        match self.habits.answering {
            Answering::Never => {}
            _ => self.pending_offer = Some((now + self.habits.answer_delay, offer)),
        }
    }

    /// Checks that `tracks` describes exactly what the offer carries.
    fn check_tracks(&self, lines: &[Line]) {
        for line in lines {
            let track = self.page.tracks.iter().find(|track| track.mid == line.mid);
            match line.direction {
                // A participant seated without an offer may need fewer m-lines than the one before.
                "sendonly" if self.page.exchanges > 0 && track.is_none() => {}
                "sendonly" => {
                    assert!(track.is_some_and(|track| !track.own && track.kind == line.kind), "{line:?}: {track:?}")
                }
                "recvonly" => {
                    assert!(track.is_some_and(|track| track.own && track.kind == line.kind), "{line:?}: {track:?}")
                }
                "inactive" if self.habits.rejects == Some(&line.kind) => {}
                "inactive" => assert!(track.is_none_or(|track| track.own), "{line:?}: {track:?}"),
                other => panic!("the server offered an m-line that is {other}"),
            }
        }
        let known = |mid: &str| lines.iter().any(|line| line.mid == mid);
        assert!(
            self.page.tracks.iter().all(|track| known(&track.mid)),
            "`tracks` names an m-line that is not in the offer"
        );
        for own in self.page.received() {
            let set = |mid: &str| lines.iter().find(|line| line.mid == mid).and_then(|line| line.stream_id.clone());
            for other in self.page.received() {
                let (one, two) = (set(&own.mid), set(&other.mid));
                assert!(own.id == other.id || one != two, "two participants share the msid {one:?}");
                let camera = |track: &Track| track.source != Screen;
                assert!(
                    own.id != other.id || one == two || !camera(own) || !camera(other),
                    "one participant has two msids"
                );
            }
        }
    }

    /// Creates the answer and sends it.
    pub fn answer(&mut self, now: Instant, offer: &str) {
        let sources = self.own_lines();
        let mut taken = BTreeMap::new();
        // A browser takes the active role of DTLS (RFC 8842 section 5.3), but str0m would take the passive one.
        let offer = sdp::edit(&offer.replace("a=setup:actpass", "a=setup:passive"), |line, section| {
            let refused =
                line.direction == "recvonly" && !sources.get(&line.mid).is_some_and(|source| self.wants(*source));
            let types = sdp::payload_types(section);
            let only = match self.habits.sound {
                Sound::FirstOnly => types.first(),
                Sound::LastOnly => types.last(),
                Sound::Plain | Sound::Redundant => None,
            };
            if let Some(only) = only.filter(|_| line.kind == "audio" && line.direction == "sendonly") {
                taken.insert(line.mid.clone(), only.clone());
            }
            Some(if refused { sdp::with_direction(section, "inactive") } else { section.to_owned() })
        });
        for (mid, ssrc) in self.lines.iter().flat_map(|line| line.ssrcs.first().map(|ssrc| (line.mid.as_str(), *ssrc)))
        {
            self.declared.insert(ssrc, mid.into());
        }
        if self.habits.has_libwebrtc_checks && self.checking.is_none() {
            self.checking = sdp::values(&offer, "ice-pwd").first().map(|password| Checking::new(now, password));
        }
        let Some(rtc) = &mut self.rtc else {
            return;
        };
        let offer = SdpOffer::from_sdp_string(&offer).expect("an offer that str0m can read");
        let mut answer = rtc.sdp_api().accept_offer(offer).expect("an offer that a browser accepts").to_sdp_string();
        answer = sdp::edit(&answer, |line, section| {
            Some(taken.get(&line.mid).map_or(section.to_owned(), |only| sdp::with_payload_type(section, only)))
        });
        let mut changed = false;
        for publication in self.publications.values_mut() {
            let line = self
                .lines
                .iter()
                .find(|line| line.direction == "recvonly" && sources.get(&line.mid) == Some(&publication.source));
            let mid = line.filter(|_| publication.wanted).map(|line| Mid::from(line.mid.as_str()));
            if publication.mid != mid {
                changed = true;
                let asked = line.filter(|_| publication.source == Camera).map_or(&[][..], |line| &line.rids);
                let rids: Vec<Rid> = asked.iter().map(|rid| rid.as_str().into()).collect();
                publication.restart(mid, &rids);
            }
            if let Some(mid) = mid.filter(|mid| self.cached.insert(*mid)) {
                for layer in &publication.layers {
                    if let Some(stream) = rtc.direct_api().stream_tx_by_mid(mid, layer.rid) {
                        stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, None);
                    }
                }
            }
        }
        if self.habits.has_common_ssrcs {
            for publication in self.publications.values_mut().filter(|publication| publication.mid.is_some()) {
                let first = COMMON_SSRC + 100 * publication.source as u32;
                for (own, common) in publication.change_ssrcs(first, &mut rtc.direct_api()) {
                    answer = answer.replace(&own.to_string(), &common.to_string());
                }
            }
        }
        self.changes_made += u32::from(changed);
        self.send_answer(answer);
    }

    fn send_answer(&mut self, answer: String) {
        let candidates: Vec<String> =
            sdp::values(&answer, "candidate").iter().map(|value| format!("candidate:{value}")).collect();
        let mut answer = answer;
        if let Some(kind) = self.habits.rejects {
            answer = sdp::edit(&answer, |line, section| {
                let is_rejected = line.kind == kind && line.direction == "recvonly";
                Some(if is_rejected { sdp::with_direction(section, "inactive") } else { section.to_owned() })
            });
        }
        if self.habits.repeats_candidates {
            let all: String = candidates.iter().map(|candidate| format!("a={candidate}\r\n")).collect();
            answer = sdp::edit(&answer, |_, section| {
                let is_first = section.contains("\na=candidate:");
                Some(if is_first { section.to_owned() } else { format!("{section}{all}") })
            });
        }
        if self.habits.trickles {
            answer = answer
                .lines()
                .filter(|line| !line.starts_with("a=candidate:"))
                .map(|line| format!("{line}\r\n"))
                .collect();
        }
        if self.habits.encoding.is_some_and(|encoding| encoding.configured == Configured::Never) {
            let sets = [&H264_SPS[..], &H264_PPS].map(|set| BASE64.encode(set)).join(",");
            let mode = "packetization-mode=1";
            answer = answer.replace(mode, &format!("{mode};sprop-parameter-sets={sets}"));
        }
        let mut lines = self.lines.len();
        let mut held_back = String::new();
        answer = match self.habits.answering {
            Answering::Garbage => "v=0\r\nthis is no SDP \u{1f600}\r\n".to_owned(),
            Answering::MissingLine => sdp::edit(&answer, |_, section| {
                lines -= 1;
                (lines > 0).then(|| section.to_owned())
            }),
            Answering::Swapped => {
                let mut first = true;
                let rest = sdp::edit(&answer, |_, section| {
                    if std::mem::take(&mut first) {
                        held_back = section.to_owned();
                        return None;
                    }
                    Some(section.to_owned())
                });
                rest + &held_back
            }
            Answering::Rejecting => {
                sdp::with_rejected(&answer, |line| line.kind == "video" && line.direction == "recvonly")
            }
            Answering::Properly | Answering::Twice | Answering::Never => answer,
        };
        let data = json!({"type": "answer", "sdp": answer}).to_string();
        let message = json!({"event": "answer", "data": data}).to_string();
        self.send_text(&message);
        if self.habits.answering == Answering::Twice {
            self.send_text(&message);
        }
        if self.habits.trickles {
            for candidate in candidates {
                let data = json!({"candidate": candidate, "sdpMid": self.lines[0].mid, "sdpMLineIndex": 0}).to_string();
                self.send_text(&json!({"event": "candidate", "data": data}).to_string());
            }
        }
    }

    /// Maps mids to own sources according to `tracks`. An old page uses the first m-line of each kind.
    fn own_lines(&self) -> BTreeMap<String, Source> {
        if !self.habits.is_old {
            let own = self.page.tracks.iter().filter(|track| track.own);
            return own.map(|track| (track.mid.clone(), track.source)).collect();
        }
        let first =
            |source: Source| self.lines.iter().find(|line| line.direction == "recvonly" && line.kind == source.kind());
        let sources = [Microphone, Camera];
        sources.into_iter().filter_map(|source| Some((first(source)?.mid.clone(), source))).collect()
    }

    fn wants(&self, source: Source) -> bool {
        self.publications.get(&source).is_some_and(|publication| publication.wanted)
    }
}
