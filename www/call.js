// One RTCPeerConnection: it answers the server's offers and sends the own tracks.
//
// The server always offers, so there is never glare. Everything that touches the connection goes
// through one queue: an offer is answered in full before the next one, a candidate or a change of an
// own track is looked at. A reconnect makes a new Call.

import { Encodings } from './encodings.js';

export class Call {
  // local: the own tracks, "source kind" -> MediaStreamTrack; read at each offer, owned by the caller.
  // send(message); on: lines(list), attached(source), connected(), failed(), problem(error)
  constructor(local, send, on) {
    this.local = local;
    this.send = send;
    this.on = on;
    this.lines = [];
    this.own = new Map(); // "source kind" -> mid on which it may be sent
    this.encodings = new Encodings();
    this.answered = false;
    this.closed = false;
    this.queue = Promise.resolve();
    const pc = this.pc = new RTCPeerConnection();
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) send({ event: 'candidate', data: JSON.stringify(candidate) });
    };
    pc.onconnectionstatechange = () => {
      if (this.closed) return;
      if (pc.connectionState === 'connected') on.connected();
      if (pc.connectionState === 'failed') on.failed();
    };
    // The track of a line exists only from here on in some browsers, so the tiles look again.
    pc.ontrack = () => this.showLines();
  }

  handleTracks(lines) {
    this.lines = lines;
    // Already now, not only after the offer: the mid may belong to somebody else from here on.
    this.enqueue(() => this.showLines());
  }

  handleOffer(data) {
    const lines = this.lines; // those which describe this offer: the next `tracks` may come while it waits
    this.enqueue(() => this.answer(lines, JSON.parse(data)));
  }

  handleCandidate(data) {
    this.enqueue(() => this.pc.addIceCandidate(JSON.parse(data)));
  }

  // What the others watch of an own line: the rest is not worth encoding.
  handleLayers({ mid, rids }) {
    this.encodings.handleLayers(mid, rids);
    this.enqueue(() => this.encode(this.transceiver(mid)));
  }

  // An own track came, was replaced or went: takes it up without a new offer where there is a line
  // that already sends, else asks for one.
  changed(key) {
    this.enqueue(async () => {
      if (!this.answered) return; // the first offer takes up what there is then
      const [source, kind] = key.split(' ');
      const track = this.local.get(key) ?? null;
      const transceiver = this.transceiver(this.own.get(key));
      if (transceiver?.currentDirection === 'sendonly') {
        await transceiver.sender.replaceTrack(track);
        await this.encode(transceiver);
        if (track) this.on.attached(source);
      } else if (track) {
        this.send({ event: 'publish', kind, source });
      }
    });
  }

  // Gives the line itself up, so that the others lose the tile (a screen share that ends).
  unpublish(key) {
    this.enqueue(async () => {
      const [source, kind] = key.split(' ');
      if (!this.own.has(key)) return;
      await this.transceiver(this.own.get(key))?.sender.replaceTrack(null);
      this.own.delete(key); // until it is offered again the line is not ours, though it still sends by SDP
      this.send({ event: 'unpublish', kind, source });
    });
  }

  close() {
    this.closed = true;
    this.pc.close();
  }

  async answer(lines, offer) {
    const { pc } = this;
    await pc.setRemoteDescription(offer);
    this.own = new Map(lines.filter((line) => line.own).map((line) => [`${line.source} ${line.kind}`, line.mid]));
    const attached = await this.attachOwn();
    await pc.setLocalDescription(await pc.createAnswer());
    this.send({ event: 'answer', data: JSON.stringify(pc.localDescription) });
    for (const mid of this.own.values()) await this.encode(this.transceiver(mid));
    this.showLines();
    for (const source of attached) this.on.attached(source);
    if (this.answered) return;
    this.answered = true;
    // What has no line yet (a screen that was shared before a reconnect).
    for (const key of this.local.keys()) if (!this.own.has(key)) this.changed(key);
  }

  // The tracks are attached only after setRemoteDescription: with addTrack before it Chromium would
  // not take the server's simulcast layers.
  async attachOwn() {
    const attached = [];
    const keys = new Map([...this.own].map(([key, mid]) => [mid, key]));
    for (const transceiver of this.pc.getTransceivers()) {
      const key = keys.get(transceiver.mid);
      const sends = ['sendonly', 'sendrecv'].includes(transceiver.direction);
      if (!key && !sends) continue; // one of the others' lines
      const track = (key && this.local.get(key)) ?? null;
      if (transceiver.sender.track !== track) await transceiver.sender.replaceTrack(track);
      // A camera that is only off keeps its line: giving it up would cost everybody an offer each time.
      const off = key && !key.startsWith('screen') && transceiver.currentDirection === 'sendonly';
      transceiver.direction = track || off ? 'sendonly' : 'inactive';
      if (track) attached.push(key.split(' ')[0]);
    }
    return new Set(attached);
  }

  // Sets the encodings of an own picture.
  async encode(transceiver) {
    const key = [...this.own].find(([, mid]) => mid === transceiver?.mid)?.[0];
    if (!key?.endsWith(' video') || !transceiver.sender.track) return;
    await this.encodings.apply(transceiver, key.split(' ')[0]);
  }

  // Tells what each line of the others carries, with the receiver's track once there is one.
  showLines() {
    if (this.closed) return;
    this.on.lines(this.lines.filter((line) => !line.own).map((line) => (
      { ...line, track: this.transceiver(line.mid)?.receiver.track ?? null })));
  }

  transceiver(mid) {
    return mid == null ? undefined : this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid);
  }

  enqueue(step) {
    this.queue = this.queue.then(() => this.closed || step()).catch((error) => {
      if (!this.closed) this.on.problem(error);
    });
  }
}
