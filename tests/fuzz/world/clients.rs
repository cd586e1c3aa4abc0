//! The clients of the world: what they send, and what they do with what they receive.

use super::*;

impl World {
    /// Opens a TCP connection.
    pub fn connect(&mut self) -> usize {
        let index = self.clients.len();
        let conn = self.conn(index);
        let addr = SocketAddr::from(([198, 51, (conn.0 / 250) as u8, (conn.0 % 250) as u8 + 1], 40_000));
        self.clients.push(Client {
            addr,
            answers: Answers::Never,
            is_open: true,
            inbox: Vec::new(),
            messages: Vec::new(),
            offer: None,
            rtc: None,
            is_driven: false,
            is_connected: false,
            keys: None,
            mids: Vec::new(),
            packets: 0,
            arrived: BTreeMap::new(),
            numbers: BTreeMap::new(),
            sent: Vec::new(),
            is_upgraded: false,
            timeout: self.now,
        });
        self.server.handle_input(self.now, Input::Accepted { conn, remote: addr, secure: false });
        self.settle();
        index
    }

    /// Opens a WebSocket. `name` may contain further query parameters.
    pub fn join(&mut self, room: &str, name: &str, answers: Answers) -> usize {
        let index = self.connect();
        self.clients[index].answers = answers;
        let head = format!(
            "GET /aq_server/websocket?room={room}&name={name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.data(index, head.as_bytes());
        index
    }

    /// Sends bytes on a client's TCP connection.
    pub fn data(&mut self, index: usize, bytes: &[u8]) {
        if self.clients[index].is_open && !bytes.is_empty() {
            self.server.handle_input(self.now, Input::Data { conn: self.conn(index), bytes });
            self.settle();
        }
    }

    /// Sends a text message.
    pub fn text(&mut self, index: usize, text: &str) {
        self.data(index, &frame(text.as_bytes()));
    }

    /// Sends an answer.
    pub fn answer(&mut self, index: usize, sdp: &str) {
        self.clients[index].offer = None;
        let data = json!({ "type": "answer", "sdp": sdp }).to_string();
        self.text(index, &json!({ "event": "answer", "data": data }).to_string());
    }

    /// Ends a TCP connection, properly or by an error.
    pub fn end(&mut self, index: usize, properly: bool) {
        let conn = self.conn(index);
        let client = &mut self.clients[index];
        client.rtc = None;
        if client.is_open {
            client.is_open = properly;
            self.server.handle_input(self.now, if properly { Input::Eof { conn } } else { Input::Gone { conn } });
            self.settle();
        }
    }

    /// Returns a valid answer to a client's outstanding offer.
    pub fn honest_answer(&mut self, index: usize, answers: Answers) -> Option<String> {
        let now = self.now;
        let client = &mut self.clients[index];
        let offer = client.offer.take()?;
        let addr = client.addr;
        let rtc = client.rtc.get_or_insert_with(|| {
            let config = RtcConfig::new().set_crypto_provider(Arc::new(dtls::crypto_provider()));
            let config = config.set_dtls_cert(CERTIFICATE.with(Clone::clone)).set_rtp_mode(true);
            let mut rtc = config.build(now);
            rtc.add_local_candidate(Candidate::host(addr, "udp").expect("a usable address"));
            Box::new(rtc)
        });
        // A browser takes the active DTLS role (RFC 8842 section 5.3).
        let offer = SdpOffer::from_sdp_string(&offer.replace("a=setup:actpass", "a=setup:passive")).expect("an offer");
        let answer = rtc.sdp_api().accept_offer(offer).expect("an acceptable offer").to_sdp_string();
        client.timeout = now;
        client.is_driven |= answers == Answers::All;
        if answers == Answers::All {
            return Some(answer);
        }
        Some(answer.replace("a=sendonly", "a=inactive").replace("a=recvonly", "a=inactive"))
    }

    /// Parses the bytes received on a WebSocket.
    pub(super) fn read(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if !client.is_upgraded {
            let end = client.inbox.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end.filter(|_| client.inbox.starts_with(b"HTTP/1.1 101 ")) else { return };
            client.inbox.drain(..end + 4);
            client.is_upgraded = true;
        }
        while let Some((opcode, payload)) = take_frame(&mut self.clients[index].inbox) {
            match opcode {
                1 => self.on_message(index, serde_json::from_slice(&payload).expect("JSON")),
                8 | 10 => {}
                9 => {
                    let mut pong = frame(&payload);
                    pong[0] = 0x8a;
                    self.server.handle_input(self.now, Input::Data { conn: self.conn(index), bytes: &pong });
                }
                other => panic!("a frame with opcode {other}"),
            }
        }
    }

    pub(super) fn on_message(&mut self, index: usize, message: Value) {
        let client = &mut self.clients[index];
        if message["event"] == "offer" {
            let description: Value =
                serde_json::from_str(message["data"].as_str().expect("a description")).expect("JSON");
            assert!(index > BOB || client.offer.is_none(), "an offer while another is outstanding");
            let sdp = description["sdp"].as_str().expect("SDP");
            let mids = sdp.lines().filter_map(|line| line.strip_prefix("a=mid:"));
            client.mids = mids.map(str::to_owned).collect();
            client.offer = Some(sdp.to_owned());
            let answers = client.answers;
            if answers != Answers::Never
                && let Some(sdp) = self.honest_answer(index, answers)
            {
                let data = json!({ "type": "answer", "sdp": sdp }).to_string();
                let text = json!({ "event": "answer", "data": data }).to_string();
                let bytes = &frame(text.as_bytes());
                self.server.handle_input(self.now, Input::Data { conn: self.conn(index), bytes });
            }
        }
        self.clients[index].messages.push(message);
    }

    /// Delivers a datagram to a client.
    pub(super) fn deliver(&mut self, index: usize, contents: &[u8]) {
        let (now, source) = (self.now, self.server_addr);
        let client = &mut self.clients[index];
        if let [first, second, a, b, _, _, _, _, c, d, e, f, ..] = *contents
            && first >> 6 == 2
            && !(192..224).contains(&second)
        {
            client.arrived.insert(u32::from_be_bytes([c, d, e, f]), u16::from_be_bytes([a, b]));
        }
        let Some(rtc) = &mut client.rtc else { return };
        let receive = Receive::new(Protocol::Udp, source, client.addr, contents).expect("STUN, DTLS, RTP or RTCP");
        if rtc.handle_input(str0m::Input::Receive(now, receive)).is_err() {
            assert!(index > BOB, "a well-behaved client accepts what the server sends");
            client.rtc = None;
        }
        self.drain(index);
    }

    pub(super) fn drive(&mut self, index: usize) {
        let now = self.now;
        if let Some(rtc) = &mut self.clients[index].rtc {
            rtc.handle_input(str0m::Input::Timeout(now)).expect("time passes");
            self.drain(index);
        }
    }

    /// Passes the output of a client's `Rtc` to the server.
    pub(super) fn drain(&mut self, index: usize) {
        let client = &mut self.clients[index];
        while let Some(rtc) = &mut client.rtc {
            let output = rtc.poll_output();
            if let Some(exported) = dtls::take_exported() {
                client.keys = Srtp::new(&exported);
            }
            match output {
                Ok(str0m::Output::Timeout(at)) => {
                    client.timeout = at.max(self.now + Duration::from_millis(1));
                    return;
                }
                Ok(str0m::Output::Transmit(transmit)) => {
                    client.sent.push(transmit.contents.to_vec());
                    self.heard.insert(client.addr);
                    self.server.handle_input(
                        self.now,
                        Input::Datagram {
                            source: client.addr,
                            destination: self.server_addr,
                            contents: &transmit.contents,
                        },
                    );
                }
                Ok(str0m::Output::Event(Event::Connected)) => client.is_connected = true,
                Ok(str0m::Output::Event(Event::RtpPacket(_))) => client.packets += 1,
                Ok(str0m::Output::Event(_)) => {}
                Err(error) => {
                    assert!(index > BOB, "a well-behaved client failed: {error}");
                    client.rtc = None;
                }
            }
        }
    }
}
