// The own microphone, camera and screen: which of them are on, and their tracks.
//
// The tracks outlive a reconnect: each new Call sends what is in `tracks`.

import { isAllowed, openDevices, openScreen } from './devices.js';

export const MICROPHONE = 'microphone audio';
export const CAMERA = 'camera video';
export const SCREEN = 'screen video';
export const SCREEN_AUDIO = 'screen audio';

export class Local {
  tracks = new Map(); // "source kind" -> MediaStreamTrack
  lost = new Set(); // sources whose device was unplugged while it was on
  busy = new Set(); // sources that the browser is opening; it may be prompting the user
  closed = false;

  // on: changed(key), muted(source, muted), unpublish(key), show(), problem(words)
  constructor(on) {
    this.on = on;
  }

  get microphoneOn() {
    return this.tracks.get(MICROPHONE)?.enabled ?? false;
  }

  get cameraOn() {
    return this.tracks.has(CAMERA);
  }

  get screenOn() {
    return this.tracks.has(SCREEN);
  }

  get isOpening() {
    return this.busy.has('microphone') || this.busy.has('camera');
  }

  // Opens the wanted devices. The call sends their tracks once they are open.
  async open(want) {
    const sources = ['microphone', 'camera'].filter((source) => want[source] && !this.busy.has(source));
    for (const source of sources) this.busy.add(source);
    const { audio, video, problem } = await openDevices(want);
    for (const source of sources) this.busy.delete(source);
    this.take(MICROPHONE, audio);
    this.take(CAMERA, video);
    if (this.closed) return;
    if (problem) this.on.problem(problem);
    if (audio) this.on.changed(MICROPHONE);
    if (video) this.on.changed(CAMERA);
  }

  // The set of devices has changed: reopens those that were unplugged, if that needs no prompt.
  async findLost() {
    for (const source of this.lost) {
      if (!(await isAllowed(source)) || this.closed || this.tracks.has(source === 'camera' ? CAMERA : MICROPHONE)) continue;
      await this.acquire(source, { [source]: true });
    }
  }

  // Off only disables the track: waiting for the device to reopen would cut off the first word.
  async toggleMicrophone() {
    const track = this.tracks.get(MICROPHONE);
    if (!track) return this.acquire('microphone', { microphone: true });
    track.enabled = !track.enabled;
    this.on.muted('microphone', !track.enabled);
    this.on.show();
  }

  // A moderator muted the microphone.
  silence() {
    const track = this.tracks.get(MICROPHONE);
    if (track) track.enabled = false;
    this.on.show();
  }

  // Off closes the device, so that its light goes out.
  async toggleCamera() {
    if (!this.cameraOn) return this.acquire('camera', { camera: true });
    this.release(CAMERA);
    this.on.muted('camera', true);
    this.on.changed(CAMERA);
  }

  async toggleScreen() {
    if (this.screenOn) return this.stopScreen();
    if (this.busy.has('screen')) return;
    this.busy.add('screen');
    const { audio, video, problem } = await openScreen();
    this.busy.delete('screen');
    if (problem && !this.closed) this.on.problem(problem);
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

  close() {
    this.closed = true;
    for (const key of [...this.tracks.keys()]) this.release(key);
  }

  async acquire(source, want) {
    if (this.busy.has(source)) return;
    await this.open(want);
    const key = source === 'camera' ? CAMERA : MICROPHONE;
    if (!this.tracks.has(key)) return;
    this.on.problem(''); // an earlier problem with the device is over
  }

  take(key, track) {
    if (!track) return;
    if (this.closed) return track.stop(); // the user left while the browser was opening the device
    // The device was unplugged, or the browser's own "stop sharing" was pressed.
    track.onended = () => this.onEnded(key);
    const [source] = key.split(' ');
    this.lost.delete(source);
    if (source !== 'screen') track.onmute = track.onunmute = () => this.onInterrupted(source, track);
    this.tracks.set(key, track);
    this.on.show();
  }

  // The system has taken the device for another use, such as a phone call, or returned it.
  onInterrupted(source, track) {
    this.on.muted(source, track.muted || !track.enabled);
    this.on.problem(track.muted ? `The system has paused the ${source}. It goes on by itself when the system allows it.` : '');
  }

  onEnded(key) {
    if (key === SCREEN) return this.stopScreen();
    if (!this.release(key)) return;
    if (key === SCREEN_AUDIO) return this.on.unpublish(key);
    const [source] = key.split(' ');
    this.lost.add(source);
    this.on.muted(source, true);
    this.on.changed(key);
    this.on.problem(`The ${source} was disconnected. Plug it in, then switch it on again.`);
  }

  release(key) {
    const track = this.tracks.get(key);
    if (!track) return false;
    track.onended = track.onmute = track.onunmute = null;
    track.stop();
    this.tracks.delete(key);
    this.on.show();
    return true;
  }
}
