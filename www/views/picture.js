// The media element of a tile: plays a participant's audio and video, and reports whether there is a picture.

import { speaker } from '../devices/options.js';
import { effect } from '../store.js';
import { Gain } from './tiles/gain.js';

// Tracks that have shown a participant. If an m-line then carries another participant's track, frames that arrive
// within IN_FLIGHT_MS may still show the previous one.
const SHOWN = new WeakSet();
const IN_FLIGHT_MS = 100;

// Number of checks without a new frame after which a picture counts as frozen.
const FROZEN_LOOKS = 3;

// An element is resumed at most RESUMES times within RESUMES_MS. After that the user gets a button.
const RESUMES = 5;
const RESUMES_MS = 5000;

export class Picture {
  /** @type {MediaStreamTrack | null} */
  audio = null;
  /** @type {MediaStreamTrack | null} */
  video = null;
  /** @type {MediaStream | null} */
  stream = null;
  /** @type {MediaStreamTrack | null} */
  awaited = null; // whose first frame removes the placeholder
  isShown = false;
  isFrozen = false;
  frames = 0;
  still = 0; // checks without a new frame
  volume = 100; // percent
  /** @type {Gain | null} */
  gain = null; // plays the audio instead of the element
  /** @type {number[]} */
  resumes = [];

  /**
   * @param {boolean} own plays no sound
   * @param {{ shown: (isShown: boolean) => void, frozen: (isFrozen: boolean) => void, blocked: () => void }} on
   *   `blocked`: the browser plays no sound before a click
   */
  constructor(own, on) {
    this.own = own;
    this.on = on;
    const element = this.element = document.createElement('video');
    element.autoplay = true;
    element.playsInline = true;
    element.muted = own;
    // A headset's key, the end of picture-in-picture or the system may pause it, and a tile has no play button.
    element.onpause = () => this.resume();
    if (!own) effect(() => this.playOn(speaker.value));
  }

  /** Releases all tracks except these. Each tile does so before any tile takes a new track. @param {MediaStreamTrack | null} audio @param {MediaStreamTrack | null} video */
  keepOnly(audio, video) {
    this.setTracks(this.audio === audio ? audio : null, this.video === video ? video : null);
  }

  /** @param {MediaStreamTrack | null} audio @param {MediaStreamTrack | null} video */
  setTracks(audio, video) {
    if (this.audio === audio && this.video === video) return;
    if (this.video && this.video !== video) this.video.onmute = this.video.onunmute = null;
    this.audio = audio;
    this.video = video;
    if (video && !this.own) video.onmute = video.onunmute = () => this.play();
    this.play();
    this.mix();
  }

  /** @param {string} speaker an id; if it is unplugged, the sound stays where it is */
  playOn(speaker) {
    /** @type {any} */ (this.element).setSinkId?.(speaker).catch(() => {});
    this.gain?.playOn(speaker);
  }

  /** @param {number} percent from 0 to 200 */
  setVolume(percent) {
    if (this.own || this.volume === percent) return;
    this.volume = percent;
    this.mix();
  }

  /** Web Audio plays the sound only where the element cannot: above 100 %, and on iOS, where its volume is fixed. */
  mix() {
    const { element, audio, volume } = this;
    if (this.own) return;
    element.volume = Math.min(1, volume / 100);
    const needsGain = audio && Math.abs(element.volume - volume / 100) > 0.01;
    if (this.gain && (!needsGain || this.gain.track !== audio)) {
      this.gain.close();
      this.gain = null;
      element.muted = false;
    }
    if (!needsGain) return;
    this.gain ??= new Gain(audio);
    this.gain.playOn(speaker.peek());
    this.gain.set(volume / 100);
    element.muted = true;
  }

  /**
   * Audio and video go into one stream, so that one element plays both. Video is added only when its packets arrive
   * (`unmute`): Chromium holds back the audio of an element that waits for its first frame.
   */
  play() {
    const picture = this.video && (this.own || !this.video.muted) ? this.video : null;
    const tracks = /** @type {MediaStreamTrack[]} */ ([this.audio, picture].filter(Boolean));
    const had = this.stream?.getTracks() ?? [];
    if (tracks.length === had.length && tracks.every((track) => had.includes(track))) return;
    if (!picture || !had.includes(picture)) this.showPicture(picture);
    if (!tracks.length) {
      this.stream = this.element.srcObject = null;
      return;
    }
    if (this.stream) {
      for (const track of had) if (!tracks.includes(track)) this.stream.removeTrack(track);
      for (const track of tracks) if (!had.includes(track)) this.stream.addTrack(track);
    } else {
      this.stream = this.element.srcObject = new MediaStream(tracks);
    }
    this.start();
  }

  /**
   * Removes the placeholder with the first frame, not before: until then an element shows black, or the last frame of
   * the participant that its track showed before.
   * @param {MediaStreamTrack | null} track
   */
  showPicture(track) {
    this.setShown(false);
    this.awaited = track;
    this.setFrozen(false);
    this.still = 0;
    if (!track) return;
    const from = SHOWN.has(track) ? performance.now() + IN_FLIGHT_MS : 0;
    SHOWN.add(track);
    const { element } = this;
    /** @type {(now: number, meta?: { receiveTime?: number }) => void} */
    const shown = (now, { receiveTime = now } = {}) => {
      if (this.awaited !== track) return;
      if (receiveTime < from) return void element.requestVideoFrameCallback(shown);
      this.setShown(true);
    };
    if ('requestVideoFrameCallback' in element) element.requestVideoFrameCallback(shown);
    else /** @type {HTMLVideoElement} */ (element).addEventListener('timeupdate', () => shown(Infinity), { once: true });
  }

  /** @param {boolean} isShown */
  setShown(isShown) {
    this.isShown = isShown;
    this.on.shown(isShown);
  }

  /** Called regularly: marks a video without new frames as frozen. @param {boolean} isMoving whether this picture should change all the time */
  look(isMoving) {
    const frames = this.element.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
    this.still = frames === this.frames ? this.still + 1 : 0;
    this.frames = frames;
    this.setFrozen(this.isShown && isMoving && this.still >= FROZEN_LOOKS);
  }

  /** @param {boolean} isFrozen */
  setFrozen(isFrozen) {
    if (this.isFrozen === isFrozen) return;
    this.isFrozen = isFrozen;
    this.on.frozen(isFrozen);
  }

  /** Resumes what was paused from outside the page. */
  resume() {
    if (!this.stream || !this.element.paused || !this.element.isConnected || document.hidden) return;
    const now = performance.now();
    this.resumes = this.resumes.filter((at) => now - at < RESUMES_MS);
    if (this.resumes.length >= RESUMES) return this.on.blocked();
    this.resumes.push(now);
    this.start();
  }

  start() {
    const { element } = this;
    element.play().catch((error) => {
      if (error.name !== 'NotAllowedError' || element.muted) return;
      // The browser plays no sound before a click, but it plays the video alone.
      element.muted = true;
      element.play().catch(() => {});
      this.on.blocked();
    });
  }

  /** Turns the sound on after a click. */
  hear() {
    if (this.own) return;
    this.element.muted = Boolean(this.gain);
    this.element.play().catch(() => {});
  }
}
