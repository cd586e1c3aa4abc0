//! AQ Server: a video-conference SFU with chat, in one process with one event loop.
//!
//! # The map
//!
//! The whole server is one state machine without I/O, [`server::Server`]; a thin loop around it,
//! [`io::reactor`], owns the sockets and the clock. So a conference of twenty on a bad network runs in a test in
//! seconds (`tests/sim`), and every fault can be injected, seeded and repeated.
//!
//! | level | modules | what they are |
//! | --- | --- | --- |
//! | 7 | `main` | flags to configuration, sockets, the loop |
//! | 6 | [`io::reactor`] | the mio loop, as commented phases with one `now` a turn |
//! | 5 | [`io`] | TCP, TLS, UDP in batches, interfaces, the log, the `--www` folder, what the machine has |
//! | 4 | [`server`] | inputs, outputs, dispatch: where the planes meet |
//! | 3 | [`timers`] | deadlines, one entry for each who waits |
//! | 2 | [`room`], [`room::seats`] | who is there, what they publish, chat; whom a subscriber gets: pure |
//! | 2 | [`web::conn`], [`media::peer`] | one TCP connection; one `Rtc` |
//! | 1 | [`room::speakers`] | who speaks, who is heard: pure |
//! | 1 | [`faults`] | from where too many faults come |
//! | 1 | [`notices`] | log lines that clients cause |
//! | 1 | [`web`], [`media`] | HTTP, WebSocket, signaling, tokens; ICE demultiplexing, negotiation, RTP rewriting: pure |
//! | 0 | [`bucket`], [`config`], [`clock`], [`datagrams`], [`id`], [`load`], [`place`], [`stats`], [`text`], [`track`] | words that all share |
//!
//! # A packet
//!
//! [`io::udp`] takes a batch. For each datagram [`media::demux`] finds the peer by address (or by the ufrag of a
//! STUN request), [`media::peer`] lets its `Rtc` decrypt, and what that says is kept with a shared payload. When the
//! batch is done, `poll_output` gives each packet to the track's subscribers' queues; then, subscriber after
//! subscriber, [`media::forward`] maps the numbers, and [`media::outgoing`] writes header and payload into the one
//! buffer of [`datagrams`] and seals them there ([`media::srtp`]). The buffer goes to the socket piece by piece,
//! while it is still in the processor's cache; what has one destination and one size leaves as one message. At last
//! the batch goes to its tracks' [`media::history`], once for all subscribers, to answer NACKs.
//!
//! Nothing that is forwarded passes through str0m: it would copy, queue, cache and record each packet for each
//! subscriber, 13,000 instructions of it where sealing takes 4,000.
//!
//! # What each subscriber gets
//!
//! A camera comes in up to three layers, of simulcast or spatial ones in one SSRC, and these in temporal layers;
//! [`media::codec`] tells which a packet is of, and [`media::layers`] what each takes. Every packet that is sent is
//! numbered for its receiver to say when it came, from which [`media::bandwidth`] estimates what the path carries.
//! [`media::allocation`] makes of that, and of what the page shows, a layer for each line: a pure function, asked when
//! one of these has changed. A packet of another layer is not queued for a subscriber at all. [`media::outgoing`]
//! changes layers at a keyframe, within one SSRC whose numbers and picture ids go on ([`media::numbering`]);
//! [`media::forward`] leaves out what of one SSRC is too much. Where more people publish than there are lines,
//! [`room::seats`] decides who is on them.
//!
//! Where the loop has too much to do, [`load`] says what is given up: the loop tells how busy it was, and allocations
//! have less to grant.
//!
//! # A message
//!
//! Bytes go to [`web::conn`]; a text frame is parsed by [`web::signal`]; the server acts on the room or the peer;
//! what others are to hear is serialised and framed once and queued to each connection. The loop writes before
//! it sleeps. A reader that is too slow is closed at its limit, never waited for.
//!
//! # Invariants
//!
//! Those marked with a star are held by a test of the source (`tests/source.rs`), the others by the simulation.
//!
//! 1. Only `io` and `main` do I/O or read a clock. `now` is a parameter everywhere else, wall time an offset
//!    handed in.*
//! 2. Imports go down the levels. `web` and `media` know nothing of each other.*
//! 3. Only [`media::peer`] names str0m's `Rtc`.* It is never left undrained when the loop sleeps.
//! 4. Effects are queued, not called back: there is no callback, no `Rc`, no lock.*
//! 5. Everything that a client can make grow has a limit, a policy when it is reached, and a counter.
//! 6. For a packet nobody looks at all peers, and the payload is not copied. Work in a turn is proportional to
//!    what happened, not to who is connected.
//! 7. Nothing depends on the order of a hash map: what is walked is a vector or a B-tree.*
//! 8. A track is named by publisher and the publisher's mid. A subscriber's mid is private to its peer and does
//!    not exist before the offer that creates it.
//! 9. The outgoing sequence number of an SSRC only grows: no (SSRC, number) is sealed with two packets. What
//!    [`media::sending`] seals, str0m has no stream for: no SSRC is used by both.
//!
//! # What is deliberately absent
//!
//! Threads, locks and async: one process is one core. Full ICE: the server sends to nobody who has not proven
//! to receive there. Candidates of clients: they are learned from their checks. State shared between processes:
//! a room lives in one.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod bucket;
pub mod clock;
pub mod config;
pub mod datagrams;
pub mod faults;
pub mod id;
pub mod io;
pub mod load;
pub mod media;
pub mod notices;
pub mod place;
pub mod room;
pub mod server;
pub mod stats;
pub mod text;
pub mod timers;
pub mod track;
pub mod web;
