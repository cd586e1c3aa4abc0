//! What happens at a time: events from the queue, and what the server and the browsers send.

use super::*;

impl Sim {
    /// Transmits the bytes and datagrams that the browser has queued.
    pub(crate) fn collect(&mut self, tag: usize) {
        let (now, browser, links) = (self.now, &mut self.browsers[tag], &mut self.links[tag]);
        let bytes = browser.take_bytes().filter(|_| !links.is_cut);
        let datagrams = browser.take_datagrams();
        let mut sent = Vec::new();
        for datagram in datagrams.into_iter().filter(|_| !links.is_cut) {
            let source = links.public.last().copied().unwrap_or(datagram.source);
            let (destination, contents) = (datagram.destination, datagram.contents);
            if contents.first().is_some_and(|first| *first <= 3) {
                self.tap.handle_check(tag, &contents);
                self.checks.insert(tag, (destination, contents.clone()));
            }
            links.recent.push_back((source, destination, contents.clone()));
            if links.recent.len() > RECENT {
                links.recent.pop_front();
            }
            for at in links.up.carry_datagram(now, &contents).into_iter().flatten() {
                let contents = contents.clone();
                sent.push((at, Kind::UpDatagram { source, destination, contents }));
            }
        }
        if let Some(bytes) = bytes {
            self.push_up(tag, Kind::UpBytes { tag, bytes });
        }
        for (at, kind) in sent {
            self.push(at, kind);
        }
        let changes = std::mem::take(&mut self.browsers[tag].changes_made);
        self.tell_changes(tag, changes, UNNOTICED);
        let arrivals = self.browsers[tag].take_arrivals();
        self.unnamed.extend(arrivals.into_iter().map(|arrival| (tag, arrival)));
        self.check_arrivals();
    }

    /// Delivers what the browser wrote while its connection was stalled.
    pub(crate) fn release_up(&mut self, tag: usize) {
        for kind in self.links[tag].up_held.take().into_iter().flatten() {
            self.push_up(tag, kind);
        }
    }

    /// Lets a stalled browser read again.
    pub(crate) fn release_down(&mut self, tag: usize) {
        let links = &mut self.links[tag];
        links.is_stalled = false;
        let (bytes, taken) = (std::mem::take(&mut links.unread), std::mem::take(&mut links.unsent));
        let rest = bytes.len() - taken;
        if rest > 0 && links.is_open {
            self.give(Input::Written { conn: ConnId(tag as u64), bytes: rest });
            self.drain_server();
        }
        if !bytes.is_empty() {
            let at = self.links[tag].down.carry_segment(self.now);
            self.push(at, Kind::DownBytes { tag, bytes });
        }
        if std::mem::take(&mut self.links[tag].unread_end) {
            self.on_server_close(tag);
        }
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let queued = self.queue.peek().map(|Reverse(event)| event.at);
        let server = self.server.next_timeout().filter(|_| !self.exited);
        let browsers = self.browsers.iter().filter_map(Browser::next_timeout);
        queued.into_iter().chain(server).chain(browsers).min()
    }

    /// Processes everything that is due now.
    pub(super) fn step(&mut self) {
        let mut server_due = self.server.next_timeout().is_some_and(|at| at <= self.now);
        if server_due {
            self.give(Input::Timeout);
        }
        while self.queue.peek().is_some_and(|Reverse(event)| event.at <= self.now) {
            let Reverse(event) = self.queue.pop().expect("peeked above");
            server_due |= self.deliver(event.kind);
        }
        if server_due && !self.exited {
            self.drain_server();
        }
        for tag in 0..self.browsers.len() {
            if self.browsers[tag].next_timeout().is_some_and(|at| at <= self.now) {
                let captured = self.captured();
                self.browsers[tag].handle_timeout(self.now, captured);
                self.collect(tag);
            }
        }
    }

    /// Passes an input to the server.
    pub(crate) fn give(&mut self, input: Input<'_>) {
        self.trace.handle_input(self.now - self.start, &input);
        let is_due = self.server.next_timeout().is_some_and(|at| at <= self.now);
        self.invariants.handle_input(&input, is_due);
        self.server.handle_input(self.now, input);
    }

    /// Delivers one event to its destination. Returns whether that is the server.
    pub(super) fn deliver(&mut self, kind: Kind) -> bool {
        let now = self.now;
        let conn = |tag: usize| ConnId(tag as u64);
        match kind {
            Kind::Accepted { tag } => {
                let habits = &self.browsers[tag].habits;
                let remote = SocketAddr::new(habits.proxy.unwrap_or(habits.addrs[0].ip()), 50_000);
                self.links[tag].is_open = true;
                self.give(Input::Accepted { conn: conn(tag), remote, secure: false });
            }
            Kind::UpBytes { tag, bytes } if self.links[tag].is_open && self.links[tag].up_is_split => {
                self.fired.count(Fault::SplitUp);
                for byte in bytes {
                    if self.links[tag].is_open {
                        self.give(Input::Data { conn: conn(tag), bytes: &[byte] });
                        self.drain_server();
                    }
                }
            }
            Kind::UpBytes { tag, bytes } if self.links[tag].is_open => {
                self.give(Input::Data { conn: conn(tag), bytes: &bytes });
            }
            Kind::UpEof { tag } if self.links[tag].is_open => {
                self.give(Input::Eof { conn: conn(tag) });
            }
            Kind::UpGone { tag } if self.links[tag].is_open => {
                self.links[tag].is_open = false;
                self.give(Input::Gone { conn: conn(tag) });
            }
            Kind::UpBytes { .. } | Kind::UpEof { .. } | Kind::UpGone { .. } => return false,
            // The server has left this address.
            Kind::UpDatagram { destination, .. } if self.left_addrs.contains(&destination) => {}
            Kind::UpDatagram { source, destination, contents } => {
                self.tap.handle_ingress(self.now, source, destination, &contents);
                self.give(Input::Datagram { source, destination, contents: &contents });
            }
            Kind::DownBytes { tag, bytes } => {
                let size = if self.links[tag].down_is_split { 1 } else { bytes.len() };
                let left = self.browsers[tag].page.left.len();
                for bytes in bytes.chunks(size) {
                    self.browsers[tag].handle_bytes(now, bytes);
                }
                self.check_left(tag, left);
                self.collect(tag);
                return false;
            }
            Kind::DownEnd { tag } => {
                self.browsers[tag].handle_end();
                return false;
            }
            Kind::DownDatagram { tag, source, destination, contents } => {
                self.browsers[tag].handle_datagram(now, source, destination, &contents);
                self.collect(tag);
                return false;
            }
        }
        true
    }

    pub(crate) fn drain_server(&mut self) {
        let now = self.now;
        loop {
            let mut datagrams = Vec::new();
            match self.server.poll_output() {
                Some(Output::Data { conn, bytes }) => {
                    self.invariants.outputs += 1;
                    self.trace.handle_data(now - self.start, conn, &bytes);
                    match self.strangers.get_mut(&conn) {
                        Some(stranger) => {
                            stranger.handle_data(&bytes);
                            self.give(Input::Written { conn, bytes: bytes.len() });
                        }
                        None => self.on_server_data(conn, &bytes),
                    }
                }
                Some(Output::Close { conn }) => {
                    self.invariants.outputs += 1;
                    self.trace.handle_close(now - self.start, conn);
                    if self.links.get(conn.0 as usize).is_some_and(|links| links.has_failed) {
                        continue;
                    }
                    let links = self.links.get_mut(conn.0 as usize).map(|links| &mut links.is_open);
                    let is_open = links.or_else(|| Some(&mut self.strangers.get_mut(&conn)?.is_open));
                    assert!(
                        std::mem::take(is_open.expect("a known connection")),
                        "the server closed a connection twice"
                    );
                    if !self.strangers.contains_key(&conn) {
                        self.on_server_close(conn.0 as usize);
                    }
                }
                Some(Output::Datagrams(some)) => {
                    datagrams.extend(some.iter().map(|(route, contents)| (route, contents.to_vec())));
                }
                Some(Output::Exit) => self.exited = true,
                None => break,
            }
            for (route, contents) in datagrams {
                self.invariants.outputs += 1;
                self.trace.handle_datagram(now - self.start, route, &contents);
                self.on_server_datagram(route, &contents);
            }
        }
        self.check_turn();
    }

    pub(super) fn on_server_close(&mut self, tag: usize) {
        let links = &mut self.links[tag];
        if links.is_stalled {
            links.unread_end = true;
        } else if !links.is_cut {
            let at = links.down.carry_segment(self.now);
            self.push(at, Kind::DownEnd { tag });
        }
    }

    pub(super) fn on_server_data(&mut self, conn: ConnId, bytes: &[u8]) {
        let tag = conn.0 as usize;
        let links = &mut self.links[tag];
        if links.has_failed {
            return;
        }
        assert!(links.is_open, "the server wrote to a closed connection");
        assert!(!bytes.is_empty(), "the server wrote no bytes");
        if std::mem::take(&mut links.fails_writing) {
            (links.is_open, links.has_failed) = (false, true);
            self.fired.count(Fault::WriteFailed);
            self.give(Input::Gone { conn });
            return self.on_server_close(tag);
        }
        if links.is_cut || links.is_stalled {
            let taken = bytes.len().min(SEND_BUFFER - links.unsent);
            links.unsent += taken;
            links.unread.extend_from_slice(bytes);
            if links.is_stalled {
                self.fired.count(Fault::StalledDown);
            }
            if taken > 0 {
                self.give(Input::Written { conn, bytes: taken });
            }
            return;
        }
        let at = links.down.carry_segment(self.now);
        // The kernel may accept a write in parts.
        let part = if links.down_is_split { bytes.len().div_ceil(7) } else { bytes.len() };
        if links.down_is_split {
            self.fired.count(Fault::SplitDown);
        }
        self.push(at, Kind::DownBytes { tag, bytes: bytes.to_vec() });
        for part in bytes.chunks(part) {
            self.give(Input::Written { conn, bytes: part.len() });
        }
    }

    pub(super) fn on_server_datagram(&mut self, route: Route, contents: &[u8]) {
        let (source, destination) = (route.local, route.remote);
        let knows = |tag: &usize| {
            self.browsers[*tag].habits.addrs.contains(&destination) || self.links[*tag].public.contains(&destination)
        };
        // The address may have belonged to a browser that has ended.
        let mut owners = (0..self.browsers.len()).filter(knows);
        let owner = owners.clone().find(|tag| self.browsers[*tag].is_live()).or_else(|| owners.next());
        let tag = owner.expect("the destination is a browser's address");
        self.tap.handle_egress(self.now, tag as u32, source, destination, contents);
        let links = &mut self.links[tag];
        if links.refuses {
            links.down.lost_rtp += u64::from(rtp_header(contents).is_some());
            self.fired.count(Fault::SendRefused);
            return;
        }
        let own = match links.public.last() {
            Some(public) if *public == destination => self.browsers[tag].addr(),
            // The NAT has dropped this mapping.
            Some(_) => {
                links.down.lost_rtp += u64::from(rtp_header(contents).is_some());
                return;
            }
            None => destination,
        };
        let arrivals = links.down.carry_datagram(self.now, contents);
        let is_cut = links.is_cut;
        for at in arrivals.into_iter().flatten().filter(|_| !is_cut) {
            let contents = contents.to_vec();
            self.push(at, Kind::DownDatagram { tag, source, destination: own, contents });
        }
    }

    /// Events of one TCP connection reach the server in order.
    pub(super) fn push_up(&mut self, tag: usize, kind: Kind) {
        let links = &mut self.links[tag];
        if let Some(held) = &mut links.up_held {
            self.fired.count(Fault::StalledUp);
            return held.push(kind);
        }
        let at = links.up.carry_segment(self.now);
        self.push(at, kind);
    }

    pub(crate) fn push(&mut self, at: Instant, kind: Kind) {
        self.sequence += 1;
        let at = batch_at(self.start, at);
        self.queue.push(Reverse(Event { at, sequence: self.sequence, kind }));
    }

    /// Checks that each packet was sent by a publisher in the same room and arrived on the m-line that `tracks`
    /// assigned to it.
    pub(super) fn check_arrivals(&mut self) {
        let unnamed = std::mem::take(&mut self.unnamed);
        let is_unnamed = |(tag, arrival): &(usize, Arrival)| !self.is_named(*tag, arrival);
        self.unnamed = unnamed.into_iter().filter(is_unnamed).collect();
    }

    /// Whether `tracks` has assigned the m-line to the packet's publisher. False while that message may still be on its
    /// way.
    pub(super) fn is_named(&self, tag: usize, arrival: &Arrival) -> bool {
        let (receiver, stamp) = (&self.browsers[tag], &arrival.stamp);
        let publisher = &self.browsers[stamp.publisher as usize];
        assert_ne!(receiver.tag, publisher.tag, "media was sent back to its publisher");
        assert_eq!(receiver.room, publisher.room, "media crossed rooms");
        let publication = publisher.publications.get(&stamp.source).expect("the publisher has this source");
        assert!(stamp.frame < publication.frame, "received a frame before it was sent");
        let grace = match &self.links[tag] {
            links if links.is_troubled => IN_TROUBLE,
            links if links.down.lost_rtp > 0 => IN_REPAIR,
            _ => IN_FLIGHT,
        };
        let mut until = None;
        let announced = receiver.page.announced.iter().filter(|(since, _)| *since <= arrival.at + grace);
        let named = announced.rev().any(|(since, tracks)| {
            let is_current = until.is_none_or(|until| arrival.at <= until + grace);
            until = Some(*since);
            let names = |track: &Track| {
                track.mid == arrival.mid && track.id == publisher.page.id && track.source == stamp.source
            };
            is_current && tracks.iter().any(names)
        });
        let is_late = receiver.is_live() && self.now > arrival.at + grace;
        assert!(named || !is_late, "{} got {stamp:?} of {} on line {}", receiver.name, publisher.name, arrival.mid);
        named || !receiver.is_live()
    }
}
