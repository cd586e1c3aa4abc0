// The own microphone, camera and screen: which of them are on, and their tracks.
//
// The tracks outlive a reconnect: each new Call sends what is in `tracks`. The lobby opens them, the call takes them over.

import { remember, remembered } from '../settings.js';
import { signal } from '../store.js';
import { cameras, find, listDevices, microphones, nextOf } from './list.js';
import { isAllowed, openDevices, openScreen, SCREEN as SHARED } from './open.js';

/** @typedef {import('./open.js').Problem} Problem */
/** @typedef {import('./open.js').Chosen} Chosen */
/** @typedef {'microphone' | 'camera'} DeviceName */
/**
 * @typedef {{
 *   changed: (key: string) => void, muted: (source: string, muted: boolean) => void, unpublish: (key: string) => void,
 * }} Listener what the call does when a track, a mute state or an m-line changes
 * @typedef {{
 *   microphone: boolean, camera: MediaStreamTrack | null, screen: MediaStreamTrack | null,
 *   audio: MediaStreamTrack | null, opening: boolean, facing: string | undefined,
 * }} State `opening`: the browser opens a device, or asks for the permission; `facing`: the side of a phone's camera
 */

export const MICROPHONE = 'microphone audio';
export const CAMERA = 'camera video';
export const SCREEN = 'screen video';
export const SCREEN_AUDIO = 'screen audio';

/** @type {import('./list.js').Device | null} */
const NONE = null;

/** @param {DeviceName} source */
const keyOf = (source) => (source === 'camera' ? CAMERA : MICROPHONE);
/** @param {DeviceName} source */
const listOf = (source) => (source === 'camera' ? cameras : microphones).peek();

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
  /** Settles when a replacement for an unplugged device is open, or none was found. */
  replacing = Promise.resolve();
  /** The chosen devices, each with its label. @type {Record<DeviceName, import('./list.js').Device | null>} */
  chosen = { microphone: remembered('microphone-device', NONE), camera: remembered('camera-device', NONE) };
  state = signal(/** @type {State} */ ({ microphone: false, camera: null, screen: null, audio: null, opening: false, facing: undefined }));
  /** What is wrong with a device, until it is over. */
  problem = signal(/** @type {Problem | null} */ (null));
  /** @type {Listener} */
  on = NOBODY;

  get microphoneOn() {
    return this.tracks.get(MICROPHONE)?.enabled ?? false;
  }

  /**
   * Opens the wanted devices. The call sends their tracks once they are open.
   * @param {import('./open.js').Want} want
   * @param {Chosen[]} [attempts] instead of the chosen devices, one after the other until one opens
   */
  async open(want, attempts = [{}]) {
    const sources = /** @type {DeviceName[]} */ (['microphone', 'camera']).filter((source) => want[source] && !this.busy.has(source));
    for (const source of sources) this.busy.add(source);
    this.show();
    const chosen = { microphone: find(microphones.peek(), this.chosen.microphone), camera: find(cameras.peek(), this.chosen.camera) };
    let opened = await openDevices(want, { ...chosen, ...attempts[0] });
    const first = opened.problem;
    for (const instead of attempts.slice(1)) {
      // A refusal concerns every device, and each attempt would ask again.
      if (opened.audio || opened.video || this.closed || first?.cause === 'refused') break;
      opened = await openDevices(want, { ...chosen, ...instead });
    }
    const { audio, video } = opened;
    for (const source of sources) this.busy.delete(source);
    this.take(MICROPHONE, audio);
    this.take(CAMERA, video);
    this.show();
    if (this.closed) return;
    if (audio || video) listDevices(); // with a permission the browser gives their names
    const problem = audio || video ? opened.problem : first;
    if (problem) this.problem.value = problem;
    if (audio) this.on.changed(MICROPHONE);
    if (video) this.on.changed(CAMERA);
  }

  /** The set of devices has changed: reopens those that were unplugged, if that needs no prompt. */
  async findLost() {
    await this.replacing; // the event also fires when a device is unplugged
    for (const source of this.lost) {
      if (!(await isAllowed(source)) || this.closed || this.tracks.has(keyOf(source))) continue;
      await this.acquire(source);
    }
  }

  /** Takes another device from now on. @param {DeviceName} source @param {string} id */
  async choose(source, id) {
    const device = listOf(source).find((each) => each.id === id) ?? { id, label: '' };
    this.keep(source, device);
    if (this.tracks.get(keyOf(source))?.getSettings().deviceId !== id) await this.reopen(source);
  }

  /** @param {DeviceName} source @param {import('./list.js').Device} device */
  keep(source, { id, label }) {
    this.chosen = { ...this.chosen, [source]: { id, label } };
    remember(`${source}-device`, { id, label });
  }

  /** The camera of the other side of a phone, or the next one. */
  async flip() {
    const before = this.tracks.get(CAMERA);
    if (!before) return;
    const { facingMode, deviceId } = before.getSettings();
    const next = nextOf(cameras.peek(), deviceId);
    if (!facingMode) return next && this.choose('camera', next.id);
    await this.reopen('camera', { camera: undefined, facing: facingMode === 'environment' ? 'user' : 'environment' });
    const track = this.tracks.get(CAMERA);
    const used = track?.getSettings().deviceId;
    if (!track || !used) return;
    if (used === deviceId) return next && this.choose('camera', next.id); // there is none on the other side
    this.keep('camera', { id: used, label: track.label });
  }

  /**
   * Reopens a device after its settings changed. The old track is closed first, because a phone opens one camera at a time.
   * If that fails, the former device or any other one is opened, and the user is told.
   * @param {DeviceName} source @param {Chosen} [instead]
   */
  async reopen(source, instead = {}) {
    const key = keyOf(source);
    const before = this.tracks.get(key);
    if (!before || this.busy.has(source)) return;
    const { enabled } = before;
    const former = before.getSettings().deviceId;
    const wanted = instead.facing ? undefined : this.chosen[source] ?? { id: former, label: before.label };
    this.release(key);
    await this.open({ [source]: true }, [instead, { [source]: former }, { [source]: undefined }]);
    if (this.closed) return;
    const track = this.tracks.get(key);
    if (track) track.enabled = enabled;
    else this.lose(source);
    this.show();
    if (!track || !wanted?.label || track.label === wanted.label) return;
    this.keep(source, { id: track.getSettings().deviceId ?? '', label: track.label });
    this.problem.value = { cause: 'taken', words: { key: 'device.fell-back', params: { wanted: wanted.label, after: track.label } } };
  }

  /** No device of this kind is open any more. @param {DeviceName} source */
  lose(source) {
    this.lost.add(source);
    this.on.muted(source, true);
    this.on.changed(keyOf(source));
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

  /** Sets whether detail or motion matters in the shared screen. @param {import('./open.js').Hint} hint */
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
    if (this.tracks.has(keyOf(source))) this.problem.value = null; // an earlier problem is over
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
    const key = keyOf(source);
    const isFree = await isAllowed(source);
    if (isFree) await listDevices();
    const others = listOf(source).filter(({ label }) => label !== before.label);
    if (this.closed || this.tracks.has(key)) return;
    if (others.length && isFree) await this.open({ [source]: true }, others.map(({ id }) => ({ [source]: id })));
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
      facing: of(CAMERA)?.getSettings?.().facingMode,
    };
  }
}
