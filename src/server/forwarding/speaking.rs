//! Speaking: the audio levels of microphones decide which of them are forwarded, and which participants are reported as
//! speaking.

use str0m::format::Codec;

use crate::media::negotiation::profile;
use crate::room::Shed;
use crate::server::Server;
use crate::server::participants::Work;
use crate::track::Source;
use crate::web::signal::ServerMessage;

impl Server {
    /// Passes the audio level of a packet of the batch to the speaker detection of its room. Returns false if the
    /// packet is not forwarded: in a large room, only the loudest microphones are.
    pub(super) fn admit_audio(&mut self, index: usize) -> bool {
        let now = self.now;
        let (publisher, packet) = &mut self.turn.batch[index];
        if packet.codec != Codec::Opus {
            return true;
        }
        let Some(participant) = self.participants.get(*publisher) else {
            return true;
        };
        let track = participant.published.track(packet.mid);
        let room = self.rooms.get_mut(&participant.room);
        let (Some(Source::Microphone), Some(room)) = (track.map(|track| track.source), room) else {
            return true;
        };
        let max_audible = self.config.limits.max_audible(room.participants().len());
        let epoch = match profile::audio_level(&packet.elements) {
            Some(level) => room.speakers.handle_level(now, *publisher, level, max_audible),
            None => {
                let bytes = packet.payload.len() - packet.redundant.unwrap_or_default();
                room.speakers.handle_size(now, *publisher, bytes, max_audible)
            }
        };
        packet.incoming.epoch = epoch.unwrap_or_default();
        let has_changed = room.speakers.poll_change(now);
        let has_newly_audible = room.speakers.poll_newly_audible(now);
        if has_changed || has_newly_audible {
            let name = participant.room.clone();
            if has_newly_audible {
                // Seats are assigned at once, so that this packet also reaches subscribers with which the publisher had
                // no seat.
                self.seat_room(&name);
            }
            if has_changed {
                self.send_speakers(&name);
            }
        }
        epoch.is_some()
    }

    /// Notifies the participants of a room who speaks.
    pub(in crate::server) fn send_speakers(&mut self, name: &str) {
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let ids = room.speakers.reported().iter().filter_map(|id| self.participants.get(*id));
        let message = ServerMessage::Speaking { ids: ids.map(|participant| &*participant.id).collect() };
        self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
        if room.shed == Shed::Videos {
            for id in room.participants().to_vec() {
                self.queue(Work::Allocate, id);
            }
        }
    }
}
