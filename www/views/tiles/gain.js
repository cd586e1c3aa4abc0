// Plays a track louder than an element can, or at a volume where the system gives elements none of their own.

/** @type {AudioContext | null} */
let context = null;

export class Gain {
  /** @param {MediaStreamTrack} track @param {HTMLMediaElement} element plays the track as well, muted: otherwise Chromium gives no samples */
  constructor(track, element) {
    this.track = track;
    this.element = element;
    context ??= new AudioContext();
    context.resume().catch(() => {});
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.node = context.createGain();
    this.source.connect(this.node).connect(context.destination);
  }

  /** @param {number} value 1 changes nothing */
  set(value) {
    this.node.gain.value = value;
    // The speaker of the element is the one that was chosen.
    const { sinkId } = this.element;
    const audio = /** @type {any} */ (context);
    if (sinkId && audio.setSinkId && audio.sinkId !== sinkId) audio.setSinkId(sinkId).catch(() => {});
  }

  close() {
    this.source.disconnect();
    this.node.disconnect();
  }
}
