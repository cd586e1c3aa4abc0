//! The media of a browser: what it sends, and checks of what it receives.

use super::*;

impl Browser {
    /// The SSRC of a published source; of its smallest layer under simulcast.
    pub fn sending_ssrc(&mut self, source: Source) -> Option<u32> {
        let publication = self.publications.get(&source)?;
        let (mid, rid) = (publication.mid?, publication.layers[0].rid);
        let rtc = self.rtc.as_mut()?;
        rtc.direct_api().stream_tx_by_mid(mid, rid).map(|stream| *stream.ssrc())
    }

    /// Switches to new SSRCs that no SDP announces.
    pub fn change_ssrcs(&mut self, source: Source) {
        let (Some(rtc), Some(publication)) = (&mut self.rtc, self.publications.get_mut(&source)) else { return };
        let mut direct = rtc.direct_api();
        let first = *direct.new_ssrc() >> 1;
        publication.change_ssrcs(first, &mut direct);
    }

    /// Publications that have an m-line on a connected transport.
    pub fn sending(&self) -> impl Iterator<Item = &Publication> {
        let flows = self.connected_at.is_some();
        self.publications.values().filter(move |publication| flows && publication.mid.is_some())
    }

    /// Sends one camera packet that is larger than any browser produces.
    pub fn send_oversized(&mut self, now: Instant, bytes: usize) {
        let (Some(rtc), Some(publication)) = (&mut self.rtc, self.publications.get_mut(&Source::Camera)) else {
            panic!("{} has no camera to send from", self.name);
        };
        let mid = publication.mid.expect("the camera has an m-line");
        let pt = agreed_pt(rtc, mid, Codec::Vp8).expect("VP8 is negotiated");
        let mut direct = rtc.direct_api();
        let layer = &mut publication.layers[0];
        let stream = direct.stream_tx_by_mid(mid, layer.rid).expect("a sending m-line has a stream");
        stream.write_rtp(RtpWrite::new(pt, layer.seq_no.into(), 0, now, vec![0; bytes]));
        layer.seq_no += 1;
        rtc.handle_input(Input::Timeout(now)).expect("a timeout is accepted");
        self.drain(now);
    }

    /// Requests keyframes of all received streams without need. Returns whether there were any.
    pub fn storm(&mut self, now: Instant) -> bool {
        let Some(rtc) = &mut self.rtc else { return false };
        let mut is_asked = false;
        for watched in self.watched.values() {
            if let Some(stream) = rtc.direct_api().stream_rx(&watched.ssrc.into()) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
                is_asked = true;
            }
        }
        rtc.handle_input(Input::Timeout(now)).expect("a timeout is accepted");
        self.drain(now);
        is_asked
    }

    pub(super) fn send_media(&mut self, now: Instant, captured: impl Fn(Instant) -> SystemTime) {
        let (Some(rtc), Some(_)) = (&mut self.rtc, self.connected_at) else {
            return;
        };
        for publication in self.publications.values_mut().filter(|publication| publication.next_at <= now) {
            let encoding = publication.encoding.map_or(Codec::Vp8, |encoding| encoding.codec);
            let codec = if publication.source.is_audio() { Codec::Opus } else { encoding };
            let agreed = publication.mid.and_then(|mid| Some((mid, agreed_pt(rtc, mid, codec)?)));
            let Some((mid, pt)) = agreed else {
                publication.next_at = now + publication.interval();
                continue;
            };
            let params = rtc.codec_config().iter().find(|params| params.pt() == pt);
            publication.red = params.and_then(PayloadParams::red);
            publication.send_due(now, self.tag, (mid, pt), &captured, &mut rtc.direct_api());
        }
    }

    /// Sends the layers that the server wants, or all if it has not said.
    pub(super) fn switch_layers(&mut self) {
        for publication in self.publications.values_mut() {
            if let Some(rids) = publication.mid.and_then(|mid| self.page.wanted_layers.get(&*mid)) {
                publication.want_layers(rids);
            }
        }
    }

    pub(super) fn request_keyframes(&mut self, now: Instant) {
        for watched in self.watched.values_mut() {
            if watched.wants_keyframe(now)
                && let Some(rtc) = &mut self.rtc
                && let Some(stream) = rtc.direct_api().stream_rx(&watched.ssrc.into())
            {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
        }
    }

    pub(super) fn on_packet(&mut self, now: Instant, packet: RtpPacket) {
        let ssrc = *packet.header.ssrc;
        let mid = *self.declared.get(&ssrc).expect("the SDP declares the SSRC: browsers decode no others");
        assert!(
            packet.header.ext_vals.mid.is_none_or(|said| said == mid),
            "the mid extension differs from the receiver's mid"
        );
        let line = self.lines.iter().find(|line| *line.mid == *mid).expect("the mid is in the last offer");
        let is_audio = line.kind == "audio";
        if packet.payload.is_empty() && !is_audio && self.encoded.is_none() {
            return self.streams.entry(ssrc).or_default().handle_empty(*packet.seq_no);
        }
        if let Some(encoded) = self.encoded.as_mut().filter(|_| !is_audio) {
            return encoded.push(packet);
        }
        let is_redundant = is_audio && *packet.header.payload_type == RED;
        assert!(
            !is_redundant || self.habits.sound == Sound::Redundant,
            "received a payload type that the answer does not have"
        );
        self.redundant += u64::from(is_redundant);
        let (stamp, ids) = Stamp::check(&packet.payload[usize::from(is_redundant)..], is_audio);
        assert_eq!(stamp.source.is_audio(), is_audio);
        self.check_header(&packet, &stamp);
        let interval = if is_audio { self.rate.audio } else { self.rate.video };
        let stream = self.streams.entry(ssrc).or_default();
        let before = stream.carries();
        stream.handle_packet(&packet, stamp, ids, interval, self.habits.drift);
        if let Some(before) = before.filter(|before| Some(*before) != stream.carries()) {
            self.watched.get_mut(&before).expect("the stream carried it").cut(now);
        }
        let watched =
            self.watched.entry((stamp.publisher, stamp.source)).or_insert_with(|| Watched::new(now, is_audio));
        watched.handle_packet(now, &packet, &stamp, ids);
        let mid = mid.to_string();
        self.arrivals.push(Arrival { at: now, mid, stamp });
        if let Some(packets) = &mut self.packets {
            packets.push((stamp, packet));
        }
    }

    /// Checks that the relevant header extensions arrived unchanged.
    pub(super) fn check_header(&self, packet: &RtpPacket, stamp: &Stamp) {
        let received = &packet.header.ext_vals;
        let sent = stamp.extensions(SystemTime::UNIX_EPOCH);
        assert_eq!(received.audio_level, sent.audio_level, "audio level of {stamp:?}");
        assert_eq!(received.voice_activity, sent.voice_activity, "voice activity of {stamp:?}");
        assert_eq!(received.video_orientation, sent.video_orientation, "orientation of {stamp:?}");
    }
}

pub(super) fn publication(now: Instant, source: Source, rate: Rate, tag: u32, habits: &Habits) -> Publication {
    let mut publication = Publication::new(now, source, rate, tag * 3 + source as u32);
    publication.encoding = habits.encoding.filter(|_| source == Source::Camera);
    publication.level = (!habits.has_levels).then_some(NO_LEVEL);
    publication
}

pub(super) fn agreed_pt(rtc: &Rtc, mid: Mid, codec: Codec) -> Option<Pt> {
    let media = rtc.media(mid)?;
    let agreed = |pt: &Pt| media.remote_pts().contains(pt);
    rtc.codec_config()
        .iter()
        .find(|params| params.spec().codec == codec && agreed(&params.pt()))
        .map(|params| params.pt())
}
