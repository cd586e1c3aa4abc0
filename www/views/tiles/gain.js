// Plays a track louder than an element can, or at a volume where the system gives elements none of their own.

/** @type {AudioContext | null} */
let context = null;

export class Gain {
  /** @param {MediaStreamTrack} track which an element has to play as well, muted: otherwise Chromium gives no samples */
  constructor(track) {
    this.track = track;
    context ??= new AudioContext();
    context.resume().catch(() => {});
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.node = context.createGain();
    this.source.connect(this.node).connect(context.destination);
  }

  /** @param {string} speaker the id of a loudspeaker */
  playOn(speaker) {
    /** @type {any} */ (context)?.setSinkId?.(speaker).catch(() => {});
  }

  /** @param {number} value 1 changes nothing */
  set(value) {
    this.node.gain.value = value;
  }

  close() {
    this.source.disconnect();
    this.node.disconnect();
  }
}
