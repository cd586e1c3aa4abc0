//! What must hold after each step of a plan, and at its end.

use super::*;

impl Plan {
    /// Repairs every path and waits. Browsers that the server closed rejoin meanwhile, as the page does.
    pub(super) fn settle(&mut self) {
        self.tell("all faults end".to_owned());
        for tag in 0..self.sim.browsers.len() {
            let links = &mut self.sim.links[tag];
            links.refuses = false;
            links.fails_writing = false;
            links.up_is_split = false;
            links.down_is_split = false;
            for link in [&mut links.up, &mut links.down] {
                link.path = Path::GOOD;
                link.is_partitioned = false;
            }
            self.sim.release_up(tag);
            self.sim.release_down(tag);
        }
        self.look_for_panic();
        fault::arm(None);
        for browser in &mut self.sim.browsers {
            browser.habits.answer_delay = millis(15);
            if let Some((due, _)) = &mut browser.pending_offer {
                *due = self.sim.now;
            }
        }
        if self.last_n.is_some() {
            for browser in &mut self.sim.browsers {
                browser.publications.get_mut(&Microphone).into_iter().for_each(|sound| sound.level = Some(90));
            }
        }
        // A browser whose address changed during the handshake is closed after a timeout and rejoins.
        let rebound = [Rebound, Outage, Moved].iter().any(|fault| self.fired().of(*fault) > 0);
        let end = self.sim.now + if rebound { QUIET + secs(15) } else { QUIET };
        while self.sim.now < end {
            let remaining = end - self.sim.now;
            for name in PEOPLE {
                if self.sim.has(name) && self.sim.browser(name).closed.is_some() {
                    assert!(
                        remaining > secs(5),
                        "{name} is still closed at the end: {:?}",
                        self.sim.browser(name).closed
                    );
                    self.check_end(name);
                    self.tell(format!("{name} rejoins"));
                    self.sim.resume(name);
                }
            }
            self.sim.run(secs(1).min(remaining));
        }
        // Participants whose connection broke and who did not return keep their place for a while.
        let live = self.sim.browsers.iter().filter(|browser| browser.is_live()).count();
        let end = self.sim.now + secs(32);
        while self.sim.server.sizes().participants > live && self.sim.now < end {
            self.sim.run(secs(1));
        }
        // A browser whose estimate still rises may switch to a higher layer.
        let asked = |plan: &Self| {
            let mut requests = plan.sim.server.stats().keyframe_requests;
            requests[Reason::Switch as usize] *= u64::from(!plan.layered);
            requests
        };
        let before = asked(self);
        self.sim.run(secs(2));
        assert_eq!(asked(self), before, "the server requested keyframes although no subscriber needs one");
    }

    /// Checks that the server had a reason to close this browser's connection.
    pub(super) fn check_end(&mut self, name: &str) {
        let tag = self.sim.tag(name);
        let browser = self.sim.browser(name);
        let closed = browser.closed.clone().expect("closed");
        let codes = browser.page.error_codes();
        self.broken.insert(tag);
        let hit = codes.contains(&"internal") && self.faults.iter().any(|fault| fault.site().is_some());
        // An old page takes no fresh transport when the server has moved.
        let is_left = browser.habits.is_old && self.fired().of(Moved) > 0;
        let network = self.sim.links[tag].is_troubled || browser.habits.answer_delay > secs(1) || is_left;
        assert!(hit || network, "{name} was closed: {closed:?}, with error codes {codes:?}");
        let known = |code: &&&str| OF_THE_NETWORK.contains(*code) || hit && **code == "internal";
        assert!(codes.iter().all(|code| known(&code)), "{name} received unexpected error codes: {codes:?}");
    }

    pub(super) fn check(&mut self) {
        for room in ROOMS {
            match self.last_n {
                Some(last_n) => self.sim.assert_limited(room, last_n),
                None => self.sim.assert_complete(room),
            }
            self.check_chat(room);
        }
        // A packet that overtakes the end of the handshake cannot be decrypted. One that is overtaken at the start of a
        // stream is too old for its receiver, and one that is overtaken at the end of a track belongs to no stream.
        let in_order = self.fired().of(Reordered) == 0;
        if in_order && !self.is_lossy && !self.faults.iter().any(|fault| fault.site().is_some()) {
            self.sim.assert_no_gaps();
        }
        let lost: u64 = self.sim.links.iter().map(|links| links.up.lost_rtp).sum();
        // The server ignores media from a new address until a connectivity check has arrived from it, and anything sent
        // to its former addresses. It sends nothing without consent.
        let counts = in_order && [Rebound, Moved, Outage].iter().all(|fault| self.fired().of(*fault) == 0);
        for sealed in self.sim.tap.sealed.values().filter(|_| counts) {
            assert!(sealed.missing() <= lost, "{} numbers skipped, {lost} packets lost", sealed.missing());
        }
        self.check_streams();
        self.check_keyframe_requests();
        for browser in &self.sim.browsers {
            let codes = browser.page.error_codes();
            assert!(codes.len() <= 1, "{} received more than one error: {codes:?}", browser.name);
        }
    }

    /// Checks that every video starts with a keyframe, if its first packet arrived, and that retransmissions keep to
    /// their share.
    pub(super) fn check_streams(&self) {
        for (tag, browser) in self.sim.browsers.iter().enumerate() {
            let sealed = |ssrc: u32| self.sim.tap.sealed.get(&(tag as u32, ssrc));
            for (ssrc, stream) in &browser.streams {
                let Some(first) = stream.first_stamp.filter(|_| sealed(*ssrc).is_some_and(|s| s.first == stream.first))
                else {
                    continue;
                };
                let is_start = first.source.is_audio() || (first.keyframe && first.index == 0);
                assert!(is_start, "{} received {first:?} first on {ssrc}", browser.name);
            }
            for line in &browser.lines {
                if let [ssrc, repair] = line.ssrcs[..] {
                    // Probes use the retransmission SSRC too: with layers, and where the estimate has been low.
                    if self.layered || [Clogged, Outage].iter().any(|fault| self.faults.contains(fault)) {
                        continue;
                    }
                    let bytes = |ssrc| sealed(ssrc).map_or(0, |sealed| sealed.bytes);
                    let most = bytes(ssrc) / REPAIR_PART + REPAIR_SAVED;
                    assert!(bytes(repair) <= most, "{} bytes retransmitted, limit {most}", bytes(repair));
                }
            }
        }
    }

    /// Checks the spacing of keyframe requests for each layer, on paths that do not change it.
    pub(super) fn check_keyframe_requests(&self) {
        for browser in self.sim.browsers.iter().filter(|browser| !self.sim.links[browser.tag as usize].is_troubled) {
            for (source, publication) in &browser.publications {
                for layer in &publication.layers {
                    let least = layer.least_spacing;
                    assert!(
                        least >= SPACING - ON_THE_WAY,
                        "{} got a keyframe request for {source:?} after {least:?}",
                        browser.name
                    );
                }
            }
        }
    }

    /// Checks that every participant received every chat message sent since it joined, and that all received the same.
    pub(super) fn check_chat(&self, room: &str) {
        let browsers = || self.sim.browsers.iter().filter(|browser| browser.room == room);
        let mut lines: BTreeMap<&str, &ChatLine> = BTreeMap::new();
        for line in browsers().flat_map(|browser| &browser.page.chat).filter(|line| line.name != MALLORY) {
            assert_eq!(
                *lines.entry(&line.message).or_insert(line),
                line,
                "two participants received different copies of a chat message"
            );
        }
        // A message that no participant received also counts as missing, unless a fault kept it from the server.
        let panics = self.faults.iter().any(|fault| fault.site().is_some());
        for (number, (sent_at, tag)) in self.lines.iter().enumerate() {
            let sender = &self.sim.browsers[*tag];
            let was_in_room =
                sender.page.welcomed_at.is_some_and(|welcomed_at| welcomed_at < *sent_at) && sender.room == room;
            if panics || !was_in_room || self.broken.contains(tag) {
                continue;
            }
            let others = browsers().filter(|browser| browser.is_live() && browser.page.id != sender.page.id);
            for browser in
                others.filter(|browser| browser.page.welcomed_at.is_some_and(|welcomed_at| welcomed_at < *sent_at))
            {
                let text = format!("{number} from {}", sender.name);
                let received = browser.page.chat.iter().any(|line| line.message == text);
                assert!(received, "{} did not receive {text:?}", browser.name);
            }
        }
        for browser in browsers().filter(|browser| browser.is_live()) {
            let welcomed_at = browser.page.welcomed_at.expect("a live browser was welcomed");
            for line in lines.values().filter(|line| line.from != browser.page.id) {
                let number: usize = line
                    .message
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .expect("a chat message starts with its number");
                let missed = self.lines[number].0 > welcomed_at && !browser.page.chat.contains(line);
                assert!(!missed, "{} did not receive {line:?}", browser.name);
            }
        }
    }

    /// Notes that an injected fault may now explain what the server does to this browser, and what others see of it.
    pub(super) fn excuse(&mut self, tag: usize) {
        self.sim.links[tag].is_troubled = true;
        self.broken.insert(tag);
        self.sim.tell_changes(tag, 1, secs(60));
        let room = self.sim.browsers[tag].room.clone();
        for browser in self.sim.browsers.iter_mut().filter(|browser| browser.room == room) {
            browser.changes += 1;
        }
    }

    pub(super) fn excuse_all(&mut self) {
        for tag in 0..self.sim.browsers.len() {
            if self.sim.browsers[tag].is_live() {
                self.sim.tell_changes(tag, 1, secs(60));
            }
        }
    }

    pub(super) fn look_for_panic(&mut self) {
        if let Some(fault) = self.armed.take_if(|fault| fault::armed() != fault.site()) {
            self.sim.fired.count(fault);
        }
    }

    pub(super) fn is_live(&self, name: &str) -> bool {
        self.sim.has(name) && self.sim.browser(name).is_live()
    }
}
