//! Answers of nine WebRTC stacks, and variations allowed by RFC 8866 and RFC 8829, handled by a `Peer`.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use str0m::media::{Direction, MediaKind, Mid};

use super::*;
use crate::clock::Wall;
use crate::config::VideoCodec;
use crate::id::{Names, PeerId, TrackId};
use crate::media::fault::PeerError;
use crate::media::inputs;
use crate::media::negotiation::Agreed;
use crate::media::negotiation::offered::offered;
use crate::media::negotiation::profile::Profile;
use crate::media::peer::Peer;
use crate::media::transport::allowance::Allowance;
use crate::track::Source;

const FINGERPRINT: &str =
    "sha-256 45:AD:5C:82:F8:BE:B5:2A:D1:74:A6:16:D0:50:CD:86:9C:97:9D:BD:06:8C:C9:85:C9:CD:AB:2B:A8:56:03:CD";
const CANDIDATE: &str = "a=candidate:1 1 udp 2130706431 192.0.2.7 49152 typ host";

/// Templates of a stack's answer. It has four m-lines: the client sends a microphone and a camera, and receives the
/// same.
struct Stack {
    name: &'static str,
    /// The session part. `{mids}` are the mids of all m-lines, `{fp}` is the fingerprint.
    session: &'static str,
    /// The protocol of m-lines.
    proto: &'static str,
    /// Attributes of every m-line. `{mid}` and `{dir}` are its mid and direction.
    media: &'static str,
    audio: &'static str,
    video: &'static str,
    /// Attributes of m-lines on which the client sends.
    sent: &'static str,
}

const TRANSPORT: &str = "a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=fingerprint:{fp}|a=setup:active";

const STACKS: [Stack; 9] = [
    Stack {
        name: "Chromium",
        session: "v=0|o=- 6564425948916445306 2 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE {mids}|a=extmap-allow-mixed|a=msid-semantic: WMS",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 0.0.0.0|a=rtcp:9 IN IP4 0.0.0.0|{transport}|a=ice-options:trickle|a=mid:{mid}|a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid|a={dir}|a=rtcp-mux|a=rtcp-rsize",
        audio: "a=rtpmap:111 opus/48000/2|a=rtcp-fb:111 transport-cc|a=fmtp:111 minptime=10;useinbandfec=1",
        video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack|a=rtcp-fb:96 nack pli|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96",
        sent: "a=msid:s t|a=ssrc-group:FID {ssrc} {ssrc}1|a=ssrc:{ssrc} cname:c|a=ssrc:{ssrc}1 cname:c",
    },
    Stack {
        name: "Firefox",
        session: "v=0|o=mozilla...THIS_IS_SDPARTA-99.0 8155823463327564117 0 IN IP4 0.0.0.0|s=-|t=0 0|a=fingerprint:{fp}|a=group:BUNDLE {mids}|a=ice-options:trickle|a=msid-semantic:WMS *",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 0.0.0.0|a={dir}|a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid|a=ice-pwd:0123456789abcdefghijklmn|a=ice-ufrag:abcd|a=mid:{mid}|a=rtcp-mux|a=setup:active|a=rtcp-rsize",
        audio: "a=fmtp:111 maxplaybackrate=48000;stereo=1;useinbandfec=1|a=rtpmap:111 opus/48000/2",
        video: "a=fmtp:96 max-fs=12288;max-fr=60|a=fmtp:97 apt=96|a=rtcp-fb:96 nack|a=rtcp-fb:96 ccm fir|a=rtpmap:96 VP8/90000|a=rtpmap:97 rtx/90000",
        sent: "a=msid:- {abc}|a=ssrc:{ssrc} cname:{abc}",
    },
    Stack {
        name: "Safari",
        session: "v=0|o=- 1 2 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE {mids}|a=msid-semantic: WMS stream",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 0.0.0.0|b=AS:2500|b=TIAS:2500000|{transport}|a=mid:{mid}|a={dir}|a=rtcp-mux",
        audio: "a=rtpmap:111 opus/48000/2",
        video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 goog-remb",
        sent: "a=ssrc:{ssrc} cname:c|a=ssrc:{ssrc} msid:s t|a=ssrc:{ssrc} mslabel:s",
    },
    Stack {
        name: "GStreamer",
        session: "v=0|o=- 1188110273 0 IN IP4 0.0.0.0|s=-|t=0 0|a=ice-options:trickle|a=group:BUNDLE {mids}|a=group:LS {mids}",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 0.0.0.0|{transport}|{transport}|a=rtcp-mux|a=rtcp-rsize|a=mid:{mid}|a={dir}|a={dir}",
        audio: "a=rtpmap:111 OPUS/48000/2|a=fmtp:111 sprop-stereo=1; sprop-maxcapturerate=48000",
        video: "a=rtpmap:96 VP8/90000|a=framerate:30|a=rtcp-fb:96 nack pli|a=fmtp:96",
        sent: "a=ssrc:{ssrc} msid:user@host webrtctransceiver0|a=ssrc:{ssrc} cname:user@host",
    },
    Stack {
        name: "aiortc",
        session: "v=0|o=- 3900000000 3900000000 IN IP4 0.0.0.0|s=-|t=0 0|a=group:BUNDLE {mids}|a=msid-semantic:WMS *",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 192.0.2.7|a={dir}|a=mid:{mid}|a=rtcp:9 IN IP4 0.0.0.0|a=rtcp-mux|{candidate}|{candidate}|a=end-of-candidates|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=fingerprint:{fp}|a=fingerprint:sha-384 00:11|a=fingerprint:sha-512 00:11|a=setup:active",
        audio: "a=rtpmap:111 opus/48000/2",
        video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96",
        sent: "a=msid:s t|a=ssrc:{ssrc} cname:c",
    },
    Stack {
        name: "Pion",
        session: "v=0|o=- 1 1 IN IP4 0.0.0.0|s=-|t=0 0|a=msid-semantic:WMS*|a=fingerprint:{fp}|a=extmap-allow-mixed|a=group:BUNDLE {mids}",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 0.0.0.0|a=setup:active|a=mid:{mid}|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=rtcp-mux|a=rtcp-rsize|{candidate} ufrag abcd|a=end-of-candidates|a={dir}",
        audio: "a=rtpmap:111 opus/48000/2|a=fmtp:111 minptime=10;useinbandfec=1",
        video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack|a=rtcp-fb:96 nack pli",
        sent: "a=ssrc:{ssrc} cname:s|a=ssrc:{ssrc} msid:s t|a=msid:s t",
    },
    Stack {
        name: "libdatachannel",
        session: "v=0|o=rtc 3906371 0 IN IP4 127.0.0.1|s=-|t=0 0|a=group:BUNDLE {mids}|a=msid-semantic:WMS *|a=setup:active|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=ice-options:ice2,trickle|a=fingerprint:{fp}",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 0.0.0.0|a=mid:{mid}|a={dir}|a=rtcp-mux",
        audio: "a=rtpmap:111 opus/48000/2|a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1",
        video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack",
        sent: "a=ssrc:{ssrc} cname:video",
    },
    Stack {
        name: "libmediasoup",
        session: "v=0|o=libmediasoupclient 10000 1 IN IP4 0.0.0.0|s=-|t=0 0|a=ice-options:renomination|a=msid-semantic: WMS *|a=fingerprint:sha-512 00:11|a=fingerprint:{fp}|a=group:BUNDLE {mids}",
        proto: "UDP/TLS/RTP/SAVPF",
        media: "c=IN IP4 127.0.0.1|a=rtpmap:120 foo/0|a=mid:{mid}|a={dir}|{candidate}|a=end-of-candidates|a=ice-ufrag:abcd|a=ice-pwd:0123456789abcdefghijklmn|a=setup:active|a=rtcp-mux|a=rtcp-rsize",
        audio: "a=rtpmap:111 opus/48000|a=fmtp:111",
        video: "a=rtpmap:96 vp8/90000|a=rtcp-fb:* nack|a=rtcp-fb:96 nack |a=extmap-allow-mixed",
        sent: "a=ssrc:{ssrc} cname:c|a=ssrc-group:SIM {ssrc}",
    },
    Stack {
        name: "Janus",
        session: "v=0|o=- 1 1 IN IP4 198.51.100.1|s=VideoRoom 1234|i=a room|u=https://example.org|e=a@example.org|p=+1 617 555-6011|c=IN IP4 198.51.100.1|b=CT:128|t=0 0|r=604800 3600 0 90000|z=0 0|k=clear:x|a=group:BUNDLE {mids}|a=msid-semantic: WMS janus",
        proto: "RTP/SAVPF",
        media: "i=a title|c=IN IP4 198.51.100.1|b=TIAS:128000|k=prompt|a={dir}|a=mid:{mid}|a=rtcp-mux|{transport}|a=ice-options:trickle|{candidate}|a=end-of-candidates",
        audio: "a=rtpmap:111 opus/48000/2",
        video: "a=rtpmap:96 VP8/90000|a=rtcp-fb:96 nack",
        sent: "a=msid:janus janus0|a=ssrc:{ssrc} cname:janus|a=ssrc:{ssrc} label:janus0",
    },
];

/// For each m-line of the offer, whether it is audio and whether the client sends on it.
const M_LINES: [(bool, bool); 4] = [(true, true), (false, true), (true, false), (false, false)];

impl Stack {
    fn answer(&self, mids: &[String]) -> String {
        let mut answer = self.session.to_owned();
        for (index, (mid, (is_audio, is_sent))) in mids.iter().zip(M_LINES).enumerate() {
            let (kind, payload_types) = if is_audio { ("audio", "111 0 8") } else { ("video", "96 97 100") };
            let codecs = if is_audio { self.audio } else { self.video };
            let direction = if is_sent { "sendonly" } else { "recvonly" };
            let media = self.media.replace("{mid}", mid).replace("{dir}", direction);
            answer += &format!("|m={kind} 9 {} {payload_types}|{media}|{codecs}", self.proto);
            if is_sent {
                answer += &format!("|{}", self.sent.replace("{ssrc}", &format!("{}", 1_000 + index)));
            }
        }
        let answer = answer.replace("{transport}", TRANSPORT).replace("{candidate}", CANDIDATE);
        answer.replace("{mids}", &mids.join(" ")).replace("{fp}", FINGERPRINT).replace('|', "\r\n") + "\r\n"
    }
}

/// A peer that has sent an offer with four m-lines, and their mids.
struct Fixture {
    peer: Peer,
    profile: Profile,
    names: Names,
    now: Instant,
    mids: Vec<String>,
}

impl Fixture {
    fn new() -> Self {
        let now = Instant::now();
        let wall = Wall { at: now, unix: Duration::ZERO, utc_offset_secs: 0 };
        let profile = Profile::new(&[VideoCodec::Vp8, VideoCodec::Vp9], &[], wall);
        let mut names = Names::new([1; 32]);
        let mut peer = Peer::new(now, &profile, Allowance::new(now, 1_000, 1_000), false, &mut names);
        peer.negotiation.publish(now, MediaKind::Audio, Source::Microphone);
        peer.negotiation.publish(now, MediaKind::Video, Source::Camera);
        for (mid, kind) in [("a", MediaKind::Audio), ("v", MediaKind::Video)] {
            let publisher = PeerId { slot: 1, generation: 0 };
            peer.negotiation.subscribe(now, TrackId { publisher, mid: Mid::from(mid) }, kind);
        }
        let offer = peer.build_offer(now, &mut names).expect("peer can offer").expect("peer has m-lines to offer");
        let mids: Vec<String> = offered(&offer).iter().map(|m_line| m_line.mid.to_string()).collect();
        assert_eq!(mids.len(), M_LINES.len());
        Self { peer, profile, names, now, mids }
    }

    fn answer(&mut self, answer: &str) -> Result<Vec<Agreed>, PeerError> {
        self.peer.handle_answer(self.now, answer, &self.profile, &mut self.names)
    }

    fn assert_all(&mut self, answer: &str) {
        let agreed = match self.answer(answer) {
            Ok(agreed) => agreed,
            Err(error) => panic!("{error} in {answer}"),
        };
        let published = agreed.iter().filter(|agreed| matches!(agreed, Agreed::Publishing { .. })).count();
        let subscribed = agreed.iter().filter(|agreed| matches!(agreed, Agreed::Subscribed { .. })).count();
        assert_eq!((published, subscribed, agreed.len()), (2, 2, 4), "{agreed:?} in {answer}");
    }
}

#[test]
fn parameter_sets_are_read_from_m_lines_on_which_the_client_sends() {
    let m_line = |mid: &'static str, direction| Offered { mid: Mid::from(mid), is_audio: false, direction };
    let offered =
        [m_line("0", Direction::RecvOnly), m_line("1", Direction::SendOnly), m_line("2", Direction::RecvOnly)];
    let many = "AAAA,".repeat(40);
    for (parameters, expected) in [
        (
            "packetization-mode=1; sprop-parameter-sets=Z0Lg,aM48gA==;x=1",
            vec![vec![0x67, 0x42, 0xe0], vec![0x68, 0xce, 0x3c, 0x80]],
        ),
        ("sprop-parameter-sets=Z0Lg,*,,", vec![vec![0x67, 0x42, 0xe0]]),
        ("sprop-parameter-sets=", vec![]),
        ("packetization-mode=1", vec![]),
        (&format!("sprop-parameter-sets={many}"), vec![vec![0; 3]; SETS]),
        (&format!("sprop-parameter-sets={}", BASE64.encode(&[7; MAX_BYTES])), vec![]),
    ] {
        let section = format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=fmtp:96 {parameters}\r\n");
        let sets = super::parameter_sets(&format!("v=0\r\n{section}{section}"), &offered);
        let expected = if expected.is_empty() { vec![] } else { vec![(Mid::from("0"), expected)] };
        assert_eq!(sets, expected, "{parameters}");
    }
    assert_eq!(super::parameter_sets("nothing", &offered), []);
}

#[test]
fn redundancy_is_read_from_each_m_line() {
    let m_line =
        |mid: &'static str, is_audio| Offered { mid: Mid::from(mid), is_audio, direction: Direction::SendOnly };
    let offered = [m_line("0", true), m_line("1", true), m_line("2", false), m_line("3", true)];
    let audio = |types: &str| {
        format!("m=audio 9 UDP/TLS/RTP/SAVPF {types}\r\na=rtpmap:63 RED/48000/2\r\na=rtpmap:111 opus/48000/2\r\n")
    };
    let answer = ["v=0\r\n", &audio("111"), &audio("111 63"), "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", &audio("63")];
    assert_eq!(super::redundant(&answer.concat(), &offered), [Mid::from("1"), Mid::from("3")]);
    assert_eq!(super::redundant("nothing", &offered), []);
}

#[test]
fn answers_of_nine_stacks_are_accepted() {
    for stack in &STACKS {
        let mut fixture = Fixture::new();
        let answer = stack.answer(&fixture.mids);
        assert!(answer.contains("m="), "{}", stack.name);
        fixture.assert_all(&answer);
    }
}

#[test]
fn a_rejected_m_line_needs_no_mid_and_no_codec() {
    // Pion rejects m-lines of a kind without a codec in this way.
    let mut fixture = Fixture::new();
    let answer = STACKS[0].answer(&fixture.mids);
    let group = |mids: &[String]| format!("a=group:BUNDLE {}", mids.join(" "));
    let answer = answer.replace(&group(&fixture.mids), &group(&fixture.mids[..3]));
    let last = answer.rfind("m=video").expect("answer has video m-lines");
    let answer = format!("{}m=video 0 UDP/TLS/RTP/SAVPF 0\r\n", &answer[..last]);
    let agreed = fixture.answer(&answer).expect("answer that rejects one m-line is valid");
    assert!(agreed.iter().any(|agreed| matches!(agreed, Agreed::Refused { .. })), "{agreed:?}");
    assert_eq!(agreed.iter().filter(|agreed| matches!(agreed, Agreed::Subscribed { .. })).count(), 1);
}

#[test]
fn simulcast_layers_are_read_in_every_form() {
    let offer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:x\r\na=recvonly\r\n";
    for simulcast in
        ["send q;h;f", " send q;h;f", "send q,x;h;f", "send rid=q;h;f", "recv x send q;h;f", "send q;h;f;z"]
    {
        let answer = format!(
            "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n{}\r\na=rtpmap:96 VP8/90000\r\na=sendonly\r\na=rid:q send \
         pt=96;max-width=320\r\na=rid:h send\r\na=rid:f send\r\na=rid:z-1 send\r\na=simulcast:{simulcast}\r\n",
            TRANSPORT.replace("{fp}", FINGERPRINT).replace('|', "\r\n"),
        );
        let reduced = reduce(&answer, &offered(offer)).expect("answer is valid");
        let expected = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n";
        assert!(reduced.contains(expected), "{simulcast:?} {reduced}");
    }
}

#[test]
fn refusals_name_the_unsupported_feature() {
    let unsupported = |change: &dyn Fn(&str) -> String| {
        let mut fixture = Fixture::new();
        let answer = change(&STACKS[0].answer(&fixture.mids));
        match fixture.answer(&answer) {
            Err(error) => {
                assert!(!error.is_fault() || error.code() == "bad-answer", "{error}");
                (error.code(), error.message())
            }
            Ok(_) => panic!("{answer}"),
        }
    };
    let without = |answer: &str, part: &str| -> String {
        answer.split_inclusive('\n').filter(|line| !line.contains(part)).collect()
    };
    for (change, named) in [
        (&|answer: &str| without(answer, "BUNDLE") as _, "BUNDLE"),
        (&|answer: &str| without(answer, "a=ice-"), "a=ice-ufrag"),
        (&|answer: &str| without(answer, "a=fingerprint"), "fingerprint"),
        (&|answer: &str| answer.replace(FINGERPRINT, "sha-512 00:11"), "fingerprint"),
        (&|answer: &str| answer.replace(FINGERPRINT, &FINGERPRINT[..50]), "fingerprint"),
        (&|answer: &str| answer.replace("UDP/TLS/RTP/SAVPF", "RTP/AVPF"), "DTLS"),
        (&|answer: &str| answer.replace("a=msid-semantic", "a=ice-lite\r\na=msid-semantic"), "ICE-lite"),
    ] as [(&dyn Fn(&str) -> String, &str); 7]
    {
        let (code, message) = unsupported(change);
        assert_eq!(code, "unsupported-answer", "{named}");
        assert!(message.contains(named), "{message}");
    }
    let swapped = |answer: &str| answer.replace("m=audio", "m=text");
    assert_eq!(unsupported(&swapped).0, "bad-answer");
}

/// Lines that RFC 8866 allows anywhere and that are not used; some resemble used ones.
const NOISE: [&str; 30] = [
    "b=AS:500",
    "b=TIAS:1000",
    "k=clear:x",
    "i=text",
    "e=a@example.org",
    "p=+1",
    "r=7d 1h 0",
    "z=0 0",
    "u=https://example.org",
    "c=IN IP4 0.0.0.0",
    "y=0",
    "",
    "a=unknown",
    "a=unknown:value",
    "a=ssrc:77 foo",
    "a=ssrc:x cname:y",
    "a=ssrc-group:FID 1",
    "a=rtcp-fb:96 x y",
    "a=rtcp-fb:300 nack",
    "a=extmap:14/sendrecv urn:x",
    "a=extmap:300 urn:x",
    "a=group:LS 0",
    "a=fingerprint:sha-512 AA",
    "a=fingerprint:md5 xyz",
    "a=candidate:garbage",
    "a=rid:~ send",
    "a=rtpmap:200 x/0",
    "a=fmtp:96",
    "a=fmtp:96 x",
    "a=setup:holdconn",
];

proptest! {
    #![proptest_config(inputs(256))]

    /// The same is negotiated for each valid form of an answer.
    #[test]
    fn variations_negotiate_the_same(
        stack in 0..STACKS.len(),
        noise in vec((any::<prop::sample::Index>(), 0..NOISE.len()), 0..12),
        repeated in vec(any::<prop::sample::Index>(), 0..6),
        moved in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
        omitted in vec(any::<bool>(), 4),
        has_cr in any::<bool>(),
        is_lower in any::<bool>(),
    ) {
        let mut fixture = Fixture::new();
        let answer = STACKS[stack].answer(&fixture.mids);
        let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
        let [mid, direction, mux, setup] = omitted[..] else { unreachable!() };
        lines.retain(|line| {
            let is_omitted = mid && line.starts_with("a=mid:")
                || direction && ["a=sendonly", "a=recvonly"].contains(&line.as_str())
                || mux && line == "a=rtcp-mux"
                || setup && line.starts_with("a=setup:");
            !is_omitted
        });
        // Attributes are reordered within their section.
        for (from, to) in moved {
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            let (low, high) = (from.min(to), from.max(to));
            if lines[low..=high].iter().all(|line| line.starts_with("a=")) {
                lines.swap(low, high);
            }
        }
        for at in repeated {
            let at = at.index(lines.len());
            if lines[at].starts_with("a=") {
                lines.insert(at, lines[at].clone());
            }
        }
        for (at, line) in noise {
            lines.insert(1 + at.index(lines.len()), NOISE[line].to_owned());
        }
        let mut answer = lines.join(if has_cr { "\r\n" } else { "\n" });
        if is_lower {
            answer = answer.replace(FINGERPRINT, &FINGERPRINT.to_lowercase());
            answer = answer.replace("a=fingerprint:sha-256", "a=fingerprint:SHA-256");
        }
        fixture.assert_all(&answer);
    }

    /// For any text, the reduced answer is stable, and str0m can parse it.
    #[test]
    fn reduced_text_can_be_parsed(parts in vec((0..NOISE.len(), any::<u8>(), "[ -~]{0,12}"), 0..40)) {
        let mut fixture = Fixture::new();
        let mut answer = STACKS[0].answer(&fixture.mids);
        for (line, at, text) in parts {
            let at = answer.len() * usize::from(at) / 256;
            answer.insert_str(at, &if at.is_multiple_of(2) { format!("\r\n{}\r\n", NOISE[line]) } else { text });
        }
        let offered = fixture.peer.offered();
        if let Ok(reduced) = reduce(&answer, offered) {
            prop_assert_eq!(reduce(&reduced, offered), Ok(reduced.clone()));
            if let Err(PeerError::BadAnswer(why)) = fixture.answer(&answer) {
                prop_assert!(false, "{why}\n{reduced}");
            }
        }
    }
}
