// One RTCPeerConnection: answers the server's offers and sends the own tracks.
//
// Only the server makes offers, so two offers never collide. Every operation on the connection goes through one queue:
// an offer is answered completely before the next offer, a candidate or a change of an own track is handled.
// A reconnect creates a new Call.

import { Encodings } from './encodings.js';
import { screenSounds, withStereo } from './stereo.js';

/** @typedef {import('../room.js').Line} Line */
/** @typedef {Line & { track: MediaStreamTrack | null }} Received an m-line of another participant, with its receiver's track */
/**
 * @typedef {{
 *   lines: (lines: Received[]) => void, attached: (source: string) => void, connected: () => void, failed: () => void,
 *   problem: (error: Error) => void,
 * }} Listener
 */

export class Call {
  /** @type {Line[]} */
  lines = [];
  /** @type {Map<string, string>} */
  own = new Map(); // "source kind" -> mid of the m-line that sends it
  encodings = new Encodings();
  answered = false;
  closed = false;
  /** @type {Promise<any>} */
  queue = Promise.resolve();

  /**
   * @param {ReadonlyMap<string, MediaStreamTrack>} local the own tracks by "source kind"; owned by the caller and read
   *   at each offer
   * @param {(message: import('../room.js').Message) => boolean} send
   * @param {Listener} on
   */
  constructor(local, send, on) {
    this.local = local;
    this.send = send;
    this.on = on;
    const pc = this.pc = new RTCPeerConnection();
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) send({ event: 'candidate', data: JSON.stringify(candidate) });
    };
    pc.onconnectionstatechange = () => {
      if (this.closed) return;
      if (pc.connectionState === 'connected') on.connected();
      if (pc.connectionState === 'failed') on.failed();
    };
    // In some browsers the receiver's track exists only now, so the m-lines are shown again.
    pc.ontrack = () => this.showLines();
  }

  /** @param {Line[]} lines */
  handleTracks(lines) {
    this.lines = lines;
    // Shown now, not only after the offer: from now on an m-line may carry another participant's track.
    this.enqueue(() => this.showLines());
  }

  /** @param {string} data */
  handleOffer(data) {
    const lines = this.lines; // those of this offer: more `tracks` may arrive while it is queued
    this.enqueue(() => this.answer(lines, JSON.parse(data)));
  }

  /** @param {string} data */
  handleCandidate(data) {
    this.enqueue(() => this.pc.addIceCandidate(JSON.parse(data)));
  }

  /**
   * Encodes only those layers of an own m-line that some subscriber needs.
   * @param {{ mid: string, rids: string[] }} message
   */
  handleLayers({ mid, rids }) {
    this.encodings.handleLayers(mid, rids);
    this.enqueue(() => this.encode(this.transceiver(mid)));
  }

  /**
   * An own track was added, replaced or removed. An m-line that already sends takes it without a new offer; otherwise
   * `publish` requests an m-line.
   * @param {string} key
   */
  changed(key) {
    this.enqueue(async () => {
      if (!this.answered) return; // the first answer attaches all tracks
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

  /**
   * Gives up the m-line itself, so that the tile of an ended screen share disappears for the other participants.
   * @param {string} key
   */
  unpublish(key) {
    this.enqueue(async () => {
      const [source, kind] = key.split(' ');
      if (!this.own.has(key)) return;
      await this.transceiver(this.own.get(key))?.sender.replaceTrack(null);
      this.own.delete(key); // not an own m-line until the next offer, although its SDP direction still is to send
      this.send({ event: 'unpublish', kind, source });
    });
  }

  close() {
    this.closed = true;
    this.pc.close();
  }

  /** @param {Line[]} lines @param {RTCSessionDescriptionInit} offer */
  async answer(lines, offer) {
    const { pc } = this;
    await pc.setRemoteDescription({ ...offer, sdp: withStereo(offer.sdp ?? '', screenSounds(lines, true)) });
    this.own = new Map(lines.filter((line) => line.own).map((line) => [`${line.source} ${line.kind}`, line.mid]));
    const attached = await this.attachOwn();
    const { type, sdp = '' } = await pc.createAnswer();
    await pc.setLocalDescription({ type, sdp: withStereo(sdp, screenSounds(lines, false)) });
    this.send({ event: 'answer', data: JSON.stringify(pc.localDescription) });
    for (const mid of this.own.values()) await this.encode(this.transceiver(mid));
    this.showLines();
    for (const source of attached) this.on.attached(source);
    if (this.answered) return;
    this.answered = true;
    // Requests m-lines for the tracks without one, such as a screen shared since before a reconnect.
    for (const key of this.local.keys()) if (!this.own.has(key)) this.changed(key);
  }

  // Attaches the own tracks. This has to follow setRemoteDescription: after an earlier addTrack, Chromium ignores the
  // simulcast layers of the offer.
  async attachOwn() {
    const attached = [];
    /** @type {Map<string | null, string>} */
    const keys = new Map([...this.own].map(([key, mid]) => [mid, key]));
    for (const transceiver of this.pc.getTransceivers()) {
      const key = keys.get(transceiver.mid);
      const sends = ['sendonly', 'sendrecv'].includes(transceiver.direction);
      if (!key && !sends) continue; // an m-line of another participant
      const track = (key ? this.local.get(key) : null) ?? null;
      if (transceiver.sender.track !== track) await transceiver.sender.replaceTrack(track);
      // A camera that is off keeps its m-line: otherwise each toggle would cost every participant an offer.
      const off = key && !key.startsWith('screen') && transceiver.currentDirection === 'sendonly';
      transceiver.direction = track || off ? 'sendonly' : 'inactive';
      if (key && track) attached.push(key.split(' ')[0]);
    }
    return new Set(attached);
  }

  /** Applies the encodings of an own video track. @param {RTCRtpTransceiver | undefined} transceiver */
  async encode(transceiver) {
    const key = [...this.own].find(([, mid]) => mid === transceiver?.mid)?.[0];
    if (!key?.endsWith(' video') || !transceiver?.sender.track) return;
    await this.encodings.apply(transceiver, key.split(' ')[0]);
  }

  /** Applies the encodings again, after a change of the quality that the person wants. */
  reencode() {
    this.enqueue(async () => {
      for (const mid of this.own.values()) await this.encode(this.transceiver(mid));
    });
  }

  /** Passes on the m-lines of other participants, each with its receiver's track or null. */
  showLines() {
    if (this.closed) return;
    this.on.lines(this.lines.filter((line) => !line.own).map((line) => (
      { ...line, track: this.transceiver(line.mid)?.receiver.track ?? null })));
  }

  /** @param {string | null | undefined} mid */
  transceiver(mid) {
    return mid == null ? undefined : this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid);
  }

  /** @param {() => any} step */
  enqueue(step) {
    this.queue = this.queue.then(() => this.closed || step()).catch((error) => {
      if (!this.closed) this.on.problem(error);
    });
  }
}
