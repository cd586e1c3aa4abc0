// The own microphone, camera and screen: which of them are on, and their tracks.
//
// The tracks outlive a reconnect: each new Call sends what is in `tracks`. The lobby opens them, the call takes them over.

import { remember, remembered } from '../settings.js';
import { signal } from '../store.js';
import { cameras, find, listDevices, microphones } from './list.js';
import { isAllowed, openDevices, openScreen, SCREEN as SHARED } from './open.js';

/** @typedef {import('./open.js').Problem} Problem */
/** @typedef {'microphone' | 'camera'} DeviceName */
/**
 * @typedef {{
 *   changed: (key: string) => void, muted: (source: string, muted: boolean) => void, unpublish: (key: string) => void,
 * }} Listener what the call does when a track, a mute state or an m-line changes
 * @typedef {{
 *   microphone: boolean, camera: MediaStreamTrack | null, screen: MediaStreamTrack | null,
 *   audio: MediaStreamTrack | null, opening: boolean,
 * }} State `opening`: the browser opens a device, or asks for the permission
 */

export const MICROPHONE = 'microphone audio';
export const CAMERA = 'camera video';
export const SCREEN = 'screen video';
export const SCREEN_AUDIO = 'screen audio';

/** @type {import('./list.js').Device | null} */
const NONE = null;

/** @type {Listener} */
const NOBODY = { changed() {}, muted() {}, unpublish() {} };

export class Local {
  /** @type {Map<string, MediaStreamTrack>} */
  tracks = new Map(); // by "source kind"
  /** @type {Set<DeviceName>} */
  lost = new Set(); // sources whose device was unplugged while it was on
  /** @type {Set<string>} */
  busy = new Set(); // sources that the browser is opening; it may be prompting the user
  closed = false;
  /** Ends when another device has replaced one that was unplugged, or none has. */
  replacing = Promise.resolve();
  /** The chosen devices, each with its label. @type {Record<DeviceName, import('./list.js').Device | null>} */
  chosen = { microphone: remembered('microphone-device', NONE), camera: remembered('camera-device', NONE) };
  state = signal(/** @type {State} */ ({ microphone: false, camera: null, screen: null, audio: null, opening: false }));
  /** What is wrong with a device, until it is over. */
  problem = signal(/** @type {Problem | null} */ (null));
  /** @type {Listener} */
  on = NOBODY;

  get microphoneOn() {
    return this.tracks.get(MICROPHONE)?.enabled ?? false;
  }

  /**
   * Opens the wanted devices. The call sends their tracks once they are open.
   * @param {import('./open.js').Want} want @param {import('./open.js').Chosen} [instead] of the chosen ones
   */
  async open(want, instead = {}) {
    const sources = /** @type {DeviceName[]} */ (['microphone', 'camera']).filter((source) => want[source] && !this.busy.has(source));
    for (const source of sources) this.busy.add(source);
    this.show();
    const { audio, video, problem } = await openDevices(want, {
      microphone: find(microphones.peek(), this.chosen.microphone), camera: find(cameras.peek(), this.chosen.camera), ...instead,
    });
    for (const source of sources) this.busy.delete(source);
    this.take(MICROPHONE, audio);
    this.take(CAMERA, video);
    this.show();
    if (this.closed) return;
    if (problem) this.problem.value = problem;
    if (audio) this.on.changed(MICROPHONE);
    if (video) this.on.changed(CAMERA);
  }

  /** The set of devices has changed: reopens those that were unplugged, if that needs no prompt. */
  async findLost() {
    await this.replacing; // the event comes with an unplugged device, too
    for (const source of this.lost) {
      if (!(await isAllowed(source)) || this.closed || this.tracks.has(source === 'camera' ? CAMERA : MICROPHONE)) continue;
      await this.acquire(source);
    }
  }

  /** Takes another device from now on. @param {DeviceName} source @param {string} id */
  async choose(source, id) {
    const device = (source === 'camera' ? cameras : microphones).peek().find((each) => each.id === id) ?? { id, label: '' };
    this.chosen = { ...this.chosen, [source]: device };
    remember(`${source}-device`, device);
    if (this.tracks.get(source === 'camera' ? CAMERA : MICROPHONE)?.getSettings().deviceId !== id) await this.reopen(source);
  }

  /** Opens a device that is open again, after a change of what is wanted of it. @param {DeviceName} source */
  async reopen(source) {
    const key = source === 'camera' ? CAMERA : MICROPHONE;
    const before = this.tracks.get(key);
    if (!before) return;
    const { enabled } = before;
    this.release(key);
    await this.acquire(source);
    const track = this.tracks.get(key);
    if (track) track.enabled = enabled;
    this.show();
  }

  /** Off only disables the track: waiting for the device to reopen would cut off the first word. */
  async toggleMicrophone() {
    const track = this.tracks.get(MICROPHONE);
    if (!track) return this.acquire('microphone');
    track.enabled = !track.enabled;
    this.on.muted('microphone', !track.enabled);
    this.show();
  }

  /** A moderator muted the microphone. */
  silence() {
    const track = this.tracks.get(MICROPHONE);
    if (track) track.enabled = false;
    this.show();
  }

  /** Off closes the device, so that its light goes out. */
  async toggleCamera() {
    if (!this.tracks.has(CAMERA)) return this.acquire('camera');
    this.release(CAMERA);
    this.on.muted('camera', true);
    this.on.changed(CAMERA);
  }

  async toggleScreen() {
    if (this.tracks.has(SCREEN)) return this.stopScreen();
    if (this.busy.has('screen')) return;
    this.busy.add('screen');
    const { audio, video, problem } = await openScreen();
    this.busy.delete('screen');
    if (problem && !this.closed) this.problem.value = problem;
    this.take(SCREEN, video);
    this.take(SCREEN_AUDIO, audio);
    if (video) this.on.changed(SCREEN);
    if (audio) this.on.changed(SCREEN_AUDIO);
  }

  stopScreen() {
    for (const key of [SCREEN, SCREEN_AUDIO]) {
      if (this.release(key)) this.on.unpublish(key);
    }
  }

  /** Says what matters in the shared screen. @param {import('./open.js').Hint} hint */
  hint(hint) {
    const track = this.tracks.get(SCREEN);
    if (!track) return;
    track.contentHint = hint;
    track.applyConstraints(SHARED[hint]).catch(() => {}); // then the rate stays as it is
    this.on.changed(SCREEN);
    this.show();
  }

  close() {
    this.closed = true;
    this.on = NOBODY;
    for (const key of [...this.tracks.keys()]) this.release(key);
  }

  /** @param {DeviceName} source */
  async acquire(source) {
    if (this.busy.has(source)) return;
    await this.open({ [source]: true });
    if (this.tracks.has(source === 'camera' ? CAMERA : MICROPHONE)) this.problem.value = null; // an earlier problem is over
  }

  /** @param {string} key @param {MediaStreamTrack | null} track */
  take(key, track) {
    if (!track) return;
    if (this.closed) return track.stop(); // the user left while the browser was opening the device
    // The device was unplugged, or the browser's own "stop sharing" was pressed.
    track.onended = () => this.onEnded(key);
    const [source] = key.split(' ');
    this.lost.delete(/** @type {DeviceName} */ (source));
    if (source !== 'screen') track.onmute = track.onunmute = () => this.onInterrupted(source, track);
    this.tracks.set(key, track);
    this.show();
  }

  /** The system has taken the device for another use, such as a phone call, or returned it. @param {string} source @param {MediaStreamTrack} track */
  onInterrupted(source, track) {
    this.on.muted(source, track.muted || !track.enabled);
    this.problem.value = track.muted ? { cause: 'other', words: { key: source === 'camera' ? 'device.paused-camera' : 'device.paused-microphone' } } : null;
  }

  /** @param {string} key */
  onEnded(key) {
    if (key === SCREEN) return this.stopScreen();
    const track = this.tracks.get(key);
    if (!track || !this.release(key)) return;
    if (key === SCREEN_AUDIO) return this.on.unpublish(key);
    const source = key === CAMERA ? 'camera' : 'microphone';
    this.on.muted(source, true);
    this.on.changed(key);
    this.problem.value = { cause: 'missing', words: { key: source === 'camera' ? 'device.unplugged-camera' : 'device.unplugged-microphone' } };
    this.replacing = this.replace(source, track);
  }

  /** Goes on with another device than the one that was unplugged, if that needs no prompt. @param {DeviceName} source @param {MediaStreamTrack} before */
  async replace(source, before) {
    const isOn = before.enabled;
    const key = source === 'camera' ? CAMERA : MICROPHONE;
    if (await isAllowed(source)) await listDevices();
    const [next] = (source === 'camera' ? cameras : microphones).peek().filter(({ label }) => label !== before.label);
    if (this.closed || this.tracks.has(key)) return;
    if (next && (await isAllowed(source))) await this.open({ [source]: true }, { [source]: next.id });
    const track = this.tracks.get(key);
    if (!track) return void this.lost.add(source);
    track.enabled = isOn;
    this.on.muted(source, !isOn);
    this.show();
    /** @type {import('../words/index.js').Words} */
    const words = { key: source === 'camera' ? 'device.replaced-camera' : 'device.replaced-microphone', params: { before: before.label, after: track.label } };
    this.problem.value = { cause: 'missing', words };
  }

  /** @param {boolean} isOn */
  async blur(isOn) {
    await this.tracks.get(CAMERA)?.applyConstraints(/** @type {any} */ ({ backgroundBlur: isOn })).catch(() => {});
  }

  /** @param {string} key */
  release(key) {
    const track = this.tracks.get(key);
    if (!track) return false;
    track.onended = track.onmute = track.onunmute = null;
    track.stop();
    this.tracks.delete(key);
    this.show();
    return true;
  }

  show() {
    const of = (/** @type {string} */ key) => this.tracks.get(key) ?? null;
    this.state.value = {
      microphone: this.microphoneOn, camera: of(CAMERA), screen: of(SCREEN), audio: of(MICROPHONE),
      opening: this.busy.has('microphone') || this.busy.has('camera'),
    };
  }
}
