//! The vocabulary of the tests: what participants do, and what they receive.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::answering::{Answering, Habits};
use crate::browser::Browser;
use crate::media::{Camera, Microphone, Publication, Source};
use crate::network::Path;
use crate::reception::Watched;
use crate::sim::{Sim, UNNOTICED};

/// The default room.
const ROOM: &str = "main";

/// How long a participant may be away and still return, less the time that its messages take.
pub const RETURN: Duration = Duration::from_secs(29);

/// The largest age of a picture or sound packet that counts as seen or heard.
const FRESH: Duration = Duration::from_millis(700);

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl Sim {
    /// Joins with camera and microphone.
    pub fn join(&mut self, name: &str) -> usize {
        self.join_room(name, ROOM)
    }

    pub fn join_room(&mut self, name: &str, room: &str) -> usize {
        let habits = self.habits();
        self.arrive(name, room, habits)
    }

    /// Joins without publishing anything.
    pub fn watch(&mut self, name: &str) -> usize {
        self.join_as(name, |habits| habits.sources.clear())
    }

    /// Joins with a camera that offers simulcast.
    pub fn join_with_layers(&mut self, name: &str) -> usize {
        self.join_as(name, |habits| habits.simulcast = true)
    }

    /// Joins with changed habits.
    pub fn join_as(&mut self, name: &str, change: impl FnOnce(&mut Habits)) -> usize {
        let mut habits = self.habits();
        change(&mut habits);
        self.arrive(name, ROOM, habits)
    }

    /// Joins and answers offers in the given way.
    pub fn join_answering(&mut self, name: &str, answering: Answering) -> usize {
        self.join_as(name, |habits| habits.answering = answering)
    }

    /// Sends `leave` and closes the tab.
    pub fn leave(&mut self, name: &str) {
        self.say_text(name, r#"{"event":"leave"}"#);
        self.browser_mut(name).has_left = true;
        self.hang_up_properly(name);
    }

    /// Closes the connection with a close frame, without sending `leave`.
    pub fn hang_up_properly(&mut self, name: &str) {
        let tag = self.tag(name);
        self.browsers[tag].close();
        self.collect(tag);
        self.hang_up(tag, false);
        self.tell_changes(tag, 1, UNNOTICED);
    }

    /// Resets the connection, without sending `leave`.
    pub fn crash(&mut self, name: &str) {
        let tag = self.tag(name);
        self.browsers[tag].end();
        self.hang_up(tag, true);
        self.tell_changes(tag, 1, UNNOTICED);
    }

    /// Cuts all connections silently, in both directions.
    pub fn vanish(&mut self, name: &str) {
        let tag = self.tag(name);
        self.links[tag].is_cut = true;
        self.browsers[tag].end();
        self.tell_changes(tag, 1, secs(30));
    }

    /// Joins again with the resume secret of an earlier connection, whether or not that is still open.
    pub fn resume(&mut self, name: &str) -> usize {
        let old = self.tag(name);
        let secret = self.browsers[old].page.resume.clone();
        let room = self.browsers[old].room.clone();
        let mut habits = self.habits();
        habits.sources = self.browsers[old]
            .publications
            .values()
            .filter(|publication| publication.wanted)
            .map(|publication| publication.source)
            .collect();
        habits.query = format!("&resume={secret}{}", self.invitation(&room));
        self.tell_changes(old, 1, UNNOTICED);
        let page = &self.browsers[old].page;
        let is_final = page.errors.iter().any(|(_, error)| error["retry"] == false && error["code"] != "replaced");
        let is_late = self.invariants.gone_since(old).is_some_and(|at| self.now > at + RETURN);
        let has_sent_message = self.browsers[old].connected_at.is_some() || self.browsers[old].renewals > 0;
        let returns = has_sent_message && !self.browsers[old].has_left && !is_final && !is_late;
        let id = Some(page.id.clone()).filter(|_| returns);
        let tag = self.arrive(name, &room, habits);
        self.browsers[tag].page.expected_id = id;
        tag
    }

    pub fn publish(&mut self, name: &str, source: Source) {
        let (tag, now) = (self.tag(name), self.now);
        self.browsers[tag].publish(now, source);
        self.collect(tag);
    }

    pub fn unpublish(&mut self, name: &str, source: Source) {
        let tag = self.tag(name);
        self.browsers[tag].unpublish(source);
        self.collect(tag);
    }

    /// Switches a participant's source to new SSRCs.
    pub fn change_ssrcs(&mut self, name: &str, source: Source) {
        self.browser_mut(name).change_ssrcs(source);
    }

    pub fn send_oversized(&mut self, name: &str, bytes: usize) {
        let (tag, now) = (self.tag(name), self.now);
        self.browsers[tag].send_oversized(now, bytes);
        self.collect(tag);
    }

    pub fn chat(&mut self, name: &str, text: &str) {
        self.say(name, &json!({"event": "chat", "data": text}));
    }

    /// Sends any message.
    pub fn say(&mut self, name: &str, message: &Value) {
        self.say_text(name, &message.to_string());
    }

    pub fn say_text(&mut self, name: &str, text: &str) {
        let tag = self.tag(name);
        self.browsers[tag].send_text(text);
        self.collect(tag);
    }

    /// Sets the path in both directions.
    pub fn set_path(&mut self, name: &str, path: Path) {
        let tag = self.tag(name);
        self.links[tag].up.path = path;
        self.links[tag].down.path = path;
    }

    /// Limits the path to `name` to this capacity; excess packets wait in a queue or are dropped.
    pub fn narrow(&mut self, name: &str, bits_per_second: u64) {
        let tag = self.tag(name);
        self.links[tag].down.path = self.links[tag].down.path.with_capacity(bits_per_second);
    }

    /// Removes the limit.
    pub fn widen(&mut self, name: &str) {
        let tag = self.tag(name);
        self.links[tag].down.path.capacity = None;
    }

    /// The 95th percentile of the queueing delay on the narrowed path to `name`.
    pub fn queueing(&self, name: &str, since: Instant) -> Duration {
        self.links[self.tag(name)].down.bottleneck.waited_p95(since..self.now)
    }

    /// The same for the packets of one source.
    pub fn queueing_of(&self, name: &str, source: Source, since: Instant) -> Duration {
        let watched = self.browser(name).watched.iter().filter(|((_, of), _)| *of == source);
        let ssrcs: Vec<u32> = watched.map(|(_, watched)| watched.ssrc).collect();
        let is_of = |ssrc: Option<u32>| ssrc.is_some_and(|ssrc| ssrcs.contains(&ssrc));
        self.links[self.tag(name)].down.bottleneck.waited_p95_of(since..self.now, is_of)
    }

    /// Bits per second delivered to `name` on its narrowed path.
    pub fn goodput(&self, name: &str, since: Instant) -> u64 {
        self.links[self.tag(name)].down.bottleneck.goodput_bps(since..self.now)
    }

    /// Bits per second sent to `name` on its narrowed path.
    pub fn offered(&self, name: &str, since: Instant) -> u64 {
        self.links[self.tag(name)].down.bottleneck.offered_bps(since..self.now)
    }

    /// Waits until the server has accepted the source, then starts its sequence numbers at `seq_no`.
    pub fn begin_at(&mut self, name: &str, source: Source, seq_no: u64) {
        while self.publication(name, source).mid.is_none() {
            self.run(millis(5));
        }
        let publication = self.publication_mut(name, source);
        assert_eq!(publication.sent_packets(), 0, "the source has already sent packets");
        publication.layers[0].seq_no = seq_no;
    }

    /// Advances the sequence number as if that many packets had been sent and lost. Must stay below half of the number
    /// space, so that a receiver can tell the direction (RFC 3711 section 3.3.1).
    pub fn skip_ahead(&mut self, name: &str, source: Source, packets: u16) {
        self.publication_mut(name, source).layers[0].seq_no += u64::from(packets);
    }

    /// Rebinds the browser's NAT to another port.
    pub fn rebind(&mut self, name: &str, port: u16) {
        let tag = self.tag(name);
        let ip = self.browsers[tag].habits.addrs[0].ip();
        self.links[tag].public.push(SocketAddr::new(ip, port));
    }

    /// Stops the browser from reading: the server's writes are no longer accepted.
    pub fn stall(&mut self, name: &str) {
        let tag = self.tag(name);
        self.links[tag].is_stalled = true;
    }

    /// Whether the viewer was recently shown the publisher's camera.
    pub fn sees(&self, viewer: &str, publisher: &str) -> bool {
        self.gets(viewer, publisher, Camera)
    }

    pub fn hears(&self, listener: &str, publisher: &str) -> bool {
        self.gets(listener, publisher, Microphone)
    }

    pub fn gets(&self, receiver: &str, publisher: &str, source: Source) -> bool {
        let last = self.watched(receiver, publisher, source).and_then(|watched| watched.last_shown_at);
        last.is_some_and(|last| self.now - last < FRESH)
    }

    /// The layer of the publisher's camera that the viewer was shown last.
    pub fn layer_seen(&self, viewer: &str, publisher: &str) -> Option<u8> {
        self.watched(viewer, publisher, Camera)?.layers.last().map(|(_, layer)| *layer)
    }

    /// Everything that `receiver` has received of one source.
    pub fn watched(&self, receiver: &str, publisher: &str, source: Source) -> Option<&Watched> {
        self.browser(receiver).watched.get(&(self.tag(publisher) as u32, source))
    }

    /// Share of the packets sent since `since` that arrived, including retransmissions.
    pub fn delivered(&self, receiver: &str, publisher: &str, source: Source, since: (u64, u64)) -> f64 {
        let (sent, came) = self.counts(receiver, publisher, source);
        (came - since.1) as f64 / (sent - since.0) as f64
    }

    /// Packets sent and received.
    pub fn counts(&self, receiver: &str, publisher: &str, source: Source) -> (u64, u64) {
        let sent = self.publication(publisher, source).sent_packets();
        (sent, self.watched(receiver, publisher, source).map_or(0, |watched| watched.packets))
    }

    pub fn browser(&self, name: &str) -> &Browser {
        &self.browsers[self.tag(name)]
    }

    pub fn browser_mut(&mut self, name: &str) -> &mut Browser {
        let tag = self.tag(name);
        &mut self.browsers[tag]
    }

    pub fn publication(&self, name: &str, source: Source) -> &Publication {
        self.browser(name).publications.get(&source).expect("it was published")
    }

    pub fn publication_mut(&mut self, name: &str, source: Source) -> &mut Publication {
        self.browser_mut(name).publications.get_mut(&source).expect("it was published")
    }

    /// The keyframe requests that a publisher got since `since`, as times after it.
    pub fn keyframe_requests(&self, publisher: &str, source: Source, since: Instant) -> Vec<Duration> {
        let requests = self.publication(publisher, source).keyframe_requests.iter();
        requests.filter(|at| **at >= since).map(|at| *at - since).collect()
    }

    /// The names of the browsers whose page is open in the room.
    pub fn live(&self, room: &str) -> Vec<String> {
        let is_live_here = |tag: &usize| self.browsers[*tag].is_live() && self.browsers[*tag].room == room;
        let names = self.names.iter().filter(|(_, tag)| is_live_here(tag));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Asserts that every participant in the room receives everything that the others publish, and that its page lists
    /// exactly the others.
    pub fn assert_complete(&self, room: &str) {
        let names = self.live(room);
        let is_live_here = |name: &&String| self.browser(name).room == room && !self.dismissed.contains(*name);
        for name in self.names.keys().filter(is_live_here) {
            let browser = self.browser(name);
            assert_eq!(browser.closed, None, "the server closed {name} with the errors {:?}", browser.page.errors);
        }
        for viewer in &names {
            let page = &self.browser(viewer).page;
            let mut expected: Vec<_> =
                names.iter().filter(|name| *name != viewer).map(|name| self.browser(name)).collect();
            expected.sort_by(|a, b| a.page.id.cmp(&b.page.id));
            let known: Vec<_> = page.participants.iter().collect();
            let there: Vec<_> = expected.iter().map(|browser| (&browser.page.id, &browser.page.name)).collect();
            assert_eq!(known, there, "participants on {viewer}'s page");
            let mut announced: Vec<_> = page.received().map(|track| (track.id.clone(), track.source)).collect();
            announced.sort();
            let publications = expected
                .iter()
                .flat_map(|browser| browser.publications.values().map(move |publication| (browser, publication)));
            let wanted = publications.filter(|(_, publication)| publication.wanted);
            let published: Vec<_> =
                wanted.map(|(browser, publication)| (browser.page.id.clone(), publication.source)).collect();
            assert_eq!(announced, published, "tracks announced to {viewer}");
            for other in expected {
                for source in other
                    .publications
                    .values()
                    .filter(|publication| publication.wanted)
                    .map(|publication| publication.source)
                {
                    let rejects = self.browser(viewer).habits.rejects == Some(source.kind());
                    assert!(
                        self.gets(viewer, &other.name, source) != rejects,
                        "{viewer} rejects this kind: {rejects}; publisher and source: {} {source:?}",
                        other.name
                    );
                }
            }
        }
    }

    /// Asserts that every participant receives all video of `last_n` others, or of all others if there are fewer, and
    /// that `tracks` lists exactly these. Audio is only sent of participants who speak.
    pub fn assert_limited(&self, room: &str, last_n: usize) {
        let names = self.live(room);
        for viewer in &names {
            let others = names.iter().filter(|name| *name != viewer).map(|name| self.browser(name));
            let published = |browser: &Browser| -> Vec<Source> {
                let wanted = browser.publications.values().filter(|publication| publication.wanted);
                wanted.map(|publication| publication.source).collect()
            };
            let publishing: Vec<&Browser> = others.filter(|browser| !published(browser).is_empty()).collect();
            let mut count = 0;
            for other in &publishing {
                let announced_sources = self.browser(viewer).page.received().filter(|track| track.id == other.page.id);
                let mut announced_sources: Vec<Source> = announced_sources.map(|track| track.source).collect();
                announced_sources.sort();
                let is_seated = !announced_sources.is_empty();
                count += usize::from(is_seated);
                assert!(
                    !is_seated || announced_sources == published(other),
                    "{viewer} has only the tracks {announced_sources:?} of {}",
                    other.name
                );
                for source in published(other).into_iter().filter(|source| !source.is_audio()) {
                    let gets = self.gets(viewer, &other.name, source);
                    let rejects = self.browser(viewer).habits.rejects == Some(source.kind());
                    assert_eq!(gets, is_seated && !rejects, "whether {viewer} receives {}'s {source:?}", other.name);
                }
            }
            let received = self.browser(viewer).page.received();
            assert!(received.into_iter().all(|track| publishing.iter().any(|other| other.page.id == track.id)));
            assert_eq!(count, last_n.min(publishing.len()), "number of participants sent to {viewer}");
        }
    }

    /// Asserts, for a network without loss, that no sequence number is missing as sent or as received, and that every
    /// video starts with a keyframe.
    pub fn assert_no_gaps(&self) {
        for browser in &self.browsers {
            for (ssrc, stream) in &browser.streams {
                assert_eq!(stream.missing(), 0, "packets missing at {} on {ssrc}", browser.name);
                let first = stream.first_stamp.expect("every stream has a packet");
                let is_start = first.source.is_audio() || (first.keyframe && first.index == 0);
                assert!(is_start, "{} got {first:?} first on {ssrc}", browser.name);
            }
        }
        for ((tag, ssrc), sealed) in &self.tap.sealed {
            assert_eq!(
                sealed.missing(),
                0,
                "sequence numbers skipped to {} on {ssrc}",
                self.browsers[*tag as usize].name
            );
        }
    }

    /// When `name` was notified that the participant with this id had left.
    pub fn learnt_of_leaving(&self, name: &str, id: &str) -> Option<Instant> {
        let left = &self.browser(name).page.left;
        left.iter().find(|(_, left, _)| left == id).map(|(at, ..)| *at)
    }

    /// Whether a participant of that name ever joined.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub fn tag(&self, name: &str) -> usize {
        *self.names.get(name).unwrap_or_else(|| panic!("no browser is named {name}"))
    }
}
