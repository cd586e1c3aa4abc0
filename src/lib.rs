//! AQ Server: a video-conference SFU with chat, in one process with one event loop.
//!
//! # Module map
//!
//! The server is one state machine without I/O, [`server::Server`]. A thin loop around it, [`io::reactor`], owns the
//! sockets and the clock. A conference of twenty participants on a bad network therefore runs in a test in seconds
//! (`tests/sim`), and every fault can be injected, seeded and repeated.
//!
//! | level | modules | what they are |
//! | --- | --- | --- |
//! | 7 | `main` | configuration, sockets, the start of the loop |
//! | 6 | [`io::reactor`] | the mio event loop: phases of one turn that share one `now` |
//! | 5 | [`io`], [`io::tls`], [`io::udp`], [`io::gather`] | TCP, TLS, UDP in batches, the gathering of datagrams, network interfaces, the log, the `--www` folder, the machine's resources |
//! | 4 | [`server`] | inputs, outputs and dispatch: where the `web` and `media` planes meet. `participants` is the table of participants, `conns` that of connections, `turn` the order of the work |
//! | 4 | `server::messages` | the messages of participants: chat, gestures, moderation, notices |
//! | 4 | `server::presence` | admits participants; they wait, join, lose their connection, return and leave |
//! | 4 | `server::forwarding` | forwards packets to subscribers, and decides which ones each subscriber gets |
//! | 3 | [`timers`] | deadlines, one entry per waiter |
//! | 2 | [`room`] | participants, tracks, chat, and the seats of a subscriber: pure |
//! | 2 | [`web::conn`], [`media::peer`] | one TCP connection; one `Rtc` |
//! | 2 | [`metrics`] | the table of metrics, read from the counters in Prometheus' format |
//! | 1 | [`room::speakers`] | speaker detection and the choice of the microphones that are forwarded: pure |
//! | 1 | [`stats`] | the counters of the server |
//! | 1 | [`web`] | HTTP, WebSocket, signaling, tokens: pure |
//! | 1 | [`web::http`], [`web::websocket`], [`web::signal`] | requests and responses; frames and messages; their content |
//! | 1 | [`media`] | one WebRTC peer per participant, from datagrams to forwarded RTP. Its folders follow |
//! | 1 | [`media::negotiation`], [`media::negotiation::answer`] | offers and answers as sets of m-lines; the reduction of SDP answers: pure |
//! | 1 | [`media::publish`] | the streams that arrive from a peer, and their layers, keyframe requests and history: pure |
//! | 1 | [`media::subscribe`] | the SSRCs that are sent to a peer: pure |
//! | 1 | [`media::subscribe::allocation`], [`media::subscribe::renumbering`] | which layers a subscriber gets; its sequence numbers and timestamps: pure |
//! | 1 | [`media::bandwidth`], [`media::bandwidth::estimator`] | the pacer and the probes of the path to one subscriber; its bitrate estimate: pure |
//! | 1 | [`media::transport`] | ICE demultiplexing, addresses, outgoing datagrams |
//! | 1 | [`media::transport::dtls`], [`media::transport::srtp`] | DTLS endpoints with one configuration; encryption of packets |
//! | 1 | [`media::rtp`], [`media::rtp::codec`] | wire formats of RTP, RTCP and the codecs: pure |
//! | 1 | [`limits`] | protocol errors by network, log lines that clients cause, the load of the loop: pure |
//! | 0 | [`limits::bucket`], [`config`], [`clock`], [`drop_reason`], [`histogram`], [`id`], [`network`], [`text`], [`track`] | types that every level uses |
//!
//! # The path of a packet
//!
//! [`io::udp`] receives a batch of datagrams. For each of them [`media::transport::demux`] finds the peer by source
//! address (or by the ufrag of a STUN request), [`media::publish::gate`] checks the peer's limits, [`media::peer`] has
//! its `Rtc` decrypt the datagram, and the RTP packet is kept with a shared payload. After the batch, `poll_output`
//! puts each packet into the queues of the track's subscribers. Then, one subscriber after the other,
//! [`media::subscribe::renumbering`] maps sequence number and timestamp, and [`media::subscribe::outgoing`] writes
//! header and payload into the one buffer of [`media::transport::datagrams`] and encrypts them in place
//! ([`media::transport::srtp`]). The buffer is sent in pieces, while it is still in the processor's cache; consecutive
//! datagrams of one destination and size leave as one message. Finally the batch moves to the tracks'
//! [`media::publish::history`], one copy for all subscribers, to answer NACKs.
//!
//! Forwarded packets do not pass through str0m's sending side. It copies, queues, caches and records each packet for
//! each subscriber, which takes 13,000 instructions where encryption takes 4,000.
//!
//! # What each subscriber gets
//!
//! A camera is published in up to three layers: simulcast encodings, or spatial layers in one SSRC. Each has temporal
//! layers. [`media::rtp::codec`] reads the layer of a packet, and [`media::publish::layers`] measures the bitrate of
//! each layer. Every packet sent carries a transport-wide sequence number; from the arrival times that the subscriber
//! reports, [`media::bandwidth`] estimates the bitrate of the path. [`media::subscribe::allocation`] is a pure function
//! from that estimate and the tile sizes on the page to a layer for each m-line, evaluated when one of them changes.
//! Packets of other layers are not queued for the subscriber at all. [`media::subscribe::outgoing`] switches layers at
//! a keyframe, within one SSRC whose sequence numbers and picture ids continue ([`media::subscribe::picture_ids`]);
//! [`media::subscribe::renumbering`] drops the layers of an SSRC that are above the allocated ones. Where there are
//! more publishers than m-lines, [`room::seats`] decides which of them are sent.
//!
//! A new rule about which layers a subscriber may get belongs in `permit` in [`media::subscribe::allocation::claim`],
//! whose result limits both the allocation and the layers that the publisher is asked for.
//! `server::forwarding::quality` builds the input and applies the result. A packet that is not forwarded has a
//! [`drop_reason`].
//!
//! When the loop is overloaded, [`limits::load`] chooses what to shed from the share of time that the loop was busy,
//! and [`media::subscribe::allocation`] grants less.
//!
//! # The path of a message
//!
//! Bytes go to [`web::conn`], and [`web::signal`] parses each text frame. The server changes the room or the peer. A
//! message to other participants is serialised and framed once and queued to each connection. The loop writes before it
//! sleeps. A connection that reads too slowly is closed at its queue limit; the server never waits for it.
//!
//! An HTTP request is answered by its entry in the table of `server::routes`, which is found before the body is read.
//!
//! # Invariants
//!
//! Those marked with a star are checked against the source (`tests/source.rs`), the others in simulation.
//!
//! 1. Only `io` and `main` do I/O or read a clock. Everywhere else `now` is a parameter, and wall time is an offset
//!    passed in.*
//! 2. Imports go down the levels. `web` and `media` do not import each other.*
//! 3. Only [`media::peer`] names str0m's `Rtc`.* All its output is drained before the loop sleeps.
//! 4. Effects are queued, not called back: there are no callbacks, no `Rc` and no locks.*
//! 5. Everything that a client can make grow has a limit, a policy when the limit is reached, and a counter.
//! 6. No packet causes a loop over all peers, and payloads are copied only into the send buffer. Work in a turn is
//!    proportional to the number of events, not to the number of connections.
//! 7. Nothing depends on the order of a hash map: only vectors and B-trees are iterated.*
//! 8. A track is named by the publisher and the publisher's mid. A subscriber's mid is private to its peer and does not
//!    exist before the offer that creates it.
//! 9. The outgoing sequence number of an SSRC only grows: no (SSRC, sequence number) is encrypted for two packets. An
//!    SSRC that [`media::subscribe::sending`] uses has no stream in str0m.
//!
//! # What is deliberately absent
//!
//! Threads, locks and async: one process uses one core. Full ICE: the server sends only to addresses that have passed a
//! connectivity check. Clients' candidates: their addresses are learned from those checks. State shared between
//! processes: a room lives in one process.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod clock;
pub mod config;
pub mod drop_reason;
pub mod histogram;
pub mod id;
pub mod io;
pub mod limits;
pub mod media;
pub mod metrics;
pub mod network;
pub mod room;
pub mod server;
pub mod stats;
pub mod text;
pub mod timers;
pub mod track;
pub mod web;
