//! One turn of the generator: it runs due tasks and receives.
//!
//! Deadlines are in ordered sets, TCP is polled, and the few UDP sockets are read in turn.

use std::cmp::Reverse;
use std::io::IoSlice;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::Token;
use serde_json::json;
use str0m::Input;
use str0m::net::{Protocol, Receive, Transmit};

use super::super::shape::{AUDIO, CHAT, FRAME};
use super::super::socket::Datagram;
use super::Generator;

/// Maximum number of tasks between two reads of a socket. More lets its buffer fill up.
const TASKS_AT_ONCE: usize = 8;

/// Tasks that are late by more than this are skipped.
const TOO_LATE: Duration = Duration::from_millis(200);

/// A repeated sending task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Sends a video frame, or an audio packet, of the client with this index.
    Video(usize),
    Audio(usize),
    /// Sends a chat message in the room with this index.
    Chat(usize),
}

impl Generator {
    /// Schedules the first task of each sender.
    pub(super) fn plan(&mut self, start: Instant) {
        self.tasks.clear();
        // Spread the start times so that publishers do not send at the same moments.
        let spread = |interval: Duration, index: usize| start + interval * (index as u32 * 7 % 32) / 32;
        for (index, _) in self.clients.iter().enumerate().filter(|(_, client)| client.role.publishes) {
            self.tasks.push(Reverse((spread(FRAME, index), Task::Video(index))));
            if self.shape.audio {
                self.tasks.push(Reverse((spread(AUDIO, index + 3), Task::Audio(index))));
            }
        }
        if self.shape.chat {
            for room in 0..self.shape.rooms {
                self.tasks.push(Reverse((spread(CHAT, room), Task::Chat(room))));
            }
        }
    }

    /// Runs one turn: receives, handles timeouts and sends.
    pub(super) fn turn(&mut self, sending: bool) {
        let begin = Instant::now();
        let mut worked = false;
        for socket in 0..self.sockets.len() {
            worked |= sending && self.send_due();
            worked |= self.receive(socket);
        }
        worked |= self.read(sending);
        worked |= self.drive_due(begin);
        worked |= sending && self.send_due();
        if worked {
            self.counts.worked += begin.elapsed();
        }
    }

    fn receive(&mut self, socket: usize) -> bool {
        let now = Instant::now();
        let (mut transmits, mut touched) = (Vec::new(), Vec::new());
        let worked = self.sockets[socket].receive(|datagram| {
            let Some(&index) = self.by_addr.get(&datagram.destination) else { return };
            let client = &mut self.clients[index];
            if self.counts.is_media(&datagram, client) && !client.role.sampled {
                return;
            }
            let Datagram { source, destination, contents, .. } = datagram;
            let receive = Receive::new(Protocol::Udp, source, destination, contents).expect("WebRTC");
            client.rtc.handle_input(Input::Receive(now, receive)).expect("the client's Rtc works");
            client.drain(&mut transmits);
            touched.push(index);
        });
        self.send_all(&transmits);
        for index in touched {
            self.note(index);
        }
        worked
    }

    /// Reads from TCP.
    fn read(&mut self, sending: bool) -> bool {
        let mut events = self.events.take().expect("it is put back below");
        self.poll.poll(&mut events, Some(Duration::ZERO)).expect("polling works");
        for event in &events {
            let Token(index) = event.token();
            self.clients[index].read(|line| self.counts.on_chat(line));
            self.drive(Instant::now(), index);
            if sending {
                self.send_due();
            }
        }
        let worked = !events.is_empty();
        self.events = Some(events);
        worked
    }

    fn drive_due(&mut self, now: Instant) -> bool {
        let due: Vec<usize> = self.timers.range(..(now, usize::MAX)).map(|(_, index)| *index).collect();
        for index in &due {
            self.drive(now, *index);
        }
        !due.is_empty()
    }

    fn drive(&mut self, now: Instant, index: usize) {
        let mut transmits = Vec::new();
        let client = &mut self.clients[index];
        client.rtc.handle_input(Input::Timeout(now)).expect("time passes");
        client.drain(&mut transmits);
        self.send_all(&transmits);
        self.note(index);
    }

    /// Updates the timers and the set of joining clients from a client's state.
    fn note(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.timeout != client.scheduled {
            self.timers.remove(&(client.scheduled, index));
            client.scheduled = client.timeout;
            self.timers.insert((client.scheduled, index));
        }
        if !self.joining.is_empty() && client.is_ready() {
            self.joining.remove(&index);
        }
    }

    fn send_due(&mut self) -> bool {
        let (now, mut done) = (Instant::now(), 0);
        while let Some(&Reverse((at, task))) = self.tasks.peek()
            && at <= now
            && done < TASKS_AT_ONCE
        {
            done += 1;
            self.tasks.pop();
            self.counts.late = self.counts.late.max(now - at);
            let interval = match task {
                Task::Video(index) => self.send_media(now, index, true),
                Task::Audio(index) => self.send_media(now, index, false),
                Task::Chat(room) => self.send_chat(room),
            };
            // A generator that can't keep up skips tasks instead of sending all of them later; `late` shows it.
            let next = if now - at > TOO_LATE { now } else { at };
            self.tasks.push(Reverse((next + interval, task)));
        }
        done > 0
    }

    fn send_media(&mut self, now: Instant, index: usize, video: bool) -> Duration {
        let client = &mut self.clients[index];
        let timestamp = self.counts.next_timestamp();
        let (packets, mut transmits) = (self.shape.frame().0, Vec::new());
        let (mut interval, pause) = (AUDIO, self.shape.pause());
        if video {
            let these = client.of_frame..if pause.is_zero() { packets } else { client.of_frame + 1 };
            client.of_frame = these.end % packets;
            interval = if client.of_frame == 0 { FRAME - pause * (packets as u32 - 1) } else { pause };
            client.write_video(now, timestamp, these, packets, self.keyframes, &mut transmits);
        } else {
            client.write_audio(now, timestamp, &mut transmits);
        }
        self.counts.stamp();
        self.send_all(&transmits);
        self.note(index);
        interval
    }

    fn send_chat(&mut self, room: usize) -> Duration {
        let members = &self.rooms[room];
        let line = self.counts.next_line(members.len() as u64 - 1);
        let speaker = members[line % members.len()];
        self.clients[speaker].say(&json!({ "event": "chat", "data": line.to_string() }));
        CHAT
    }

    /// Sends datagrams. Consecutive ones of one size, source and destination are sent in one call, as one frame.
    fn send_all(&self, transmits: &[Transmit]) {
        let same = |a: &Transmit, b: &Transmit| {
            (a.source, a.destination, a.contents.len()) == (b.source, b.destination, b.contents.len())
        };
        for run in transmits.chunk_by(same) {
            let IpAddr::V4(source) = run[0].source.ip() else { continue };
            let Some(&index) = self.by_addr.get(&run[0].source) else { continue };
            let slices: Vec<IoSlice<'_>> = run.iter().map(|transmit| IoSlice::new(&transmit.contents)).collect();
            self.sockets[index / self.people_per_socket].send(source, run[0].destination, &slices);
        }
    }
}
