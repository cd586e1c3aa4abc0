// Opens this device's camera, microphone and screen, and says in words why one cannot be opened.

import { microphoneOptions, switches } from './options.js';
import { wayOutHere } from './way-out.js';

/** @typedef {import('../words/index.js').Words} Words */
/** @typedef {{ microphone?: boolean, camera?: boolean }} Want */
/** @typedef {{ microphone?: string, camera?: string, facing?: string }} Chosen device ids; `facing` is the side of a phone's camera */
/** @typedef {{ audio: MediaStreamTrack | null, video: MediaStreamTrack | null, problem: Problem | null }} Opened */
/** @typedef {{ cause: 'refused' | 'missing' | 'taken' | 'insecure' | 'other', words: Words, way?: import('./way-out.js').WayOut }} Problem `way` leads out of a refusal */

/** @type {Record<string, Problem['cause']>} */
const CAUSES = {
  NotAllowedError: 'refused', SecurityError: 'refused', NotFoundError: 'missing', NotReadableError: 'taken', AbortError: 'taken',
};
/** Prefixes of the keys of the messages. */
const SENTENCES = { refused: 'device.refused-', missing: 'device.missing-', taken: 'device.taken-', other: 'device.other-', insecure: '' };

// The size of the largest simulcast layer. More would cost encoding time; less is blurred in a large tile.
const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

/** Sharp text matters more than smooth motion, unless the person who shares says otherwise. @typedef {'detail' | 'motion'} Hint */
/** @type {Record<Hint, MediaTrackConstraints>} */
export const SCREEN = { detail: { frameRate: { ideal: 15, max: 30 } }, motion: { frameRate: { ideal: 30, max: 30 } } };

// Shared sound is music or speech that is mixed already: in stereo and unprocessed.
const SCREEN_AUDIO = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 2 };

// What the browser's picker offers: not the call itself, which would show itself in itself.
const PICKER = { selfBrowserSurface: 'exclude', surfaceSwitching: 'include', systemAudio: 'include' };

export const isInsecure = () => !navigator.mediaDevices?.getUserMedia;

export const canShareScreen = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

/**
 * Opens the wanted devices, or those of them that can be opened.
 * @param {Want} want @param {Chosen} [chosen] @returns {Promise<Opened>}
 */
export async function openDevices({ microphone = false, camera = false }, chosen = {}) {
  const nothing = { audio: null, video: null, problem: null };
  if (!microphone && !camera) return nothing;
  if (isInsecure()) return { ...nothing, problem: { cause: 'insecure', words: { key: 'device.insecure' } } };
  const attempts = [[microphone, camera]];
  if (microphone && camera) attempts.push([true, false], [false, true]);
  /** @type {Error[]} */
  const errors = [];
  for (const [audio, video] of attempts) {
    // After a refusal, only try devices whose permission is granted: others would show the same prompt again.
    if (errors.some(isRefusal) && !(await isAllowed(audio ? 'microphone' : 'camera'))) continue;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: audio && { ...microphoneOptions(), ...only(chosen.microphone) },
        video: video && { ...VIDEO, ...only(chosen.camera), ...(chosen.facing && { facingMode: { exact: chosen.facing } }), ...(switches.peek().blur && { backgroundBlur: true }) },
      });
      const problem = errors.length ? problemOf(errors[errors.length - 1], audio ? 'camera' : 'microphone', false) : null;
      return { audio: stream.getAudioTracks()[0] ?? null, video: stream.getVideoTracks()[0] ?? null, problem };
    } catch (error) {
      // A chosen device is gone: any other one is better than none.
      const isGone = /** @type {Error} */ (error).name === 'OverconstrainedError' && (chosen.microphone || chosen.camera || chosen.facing);
      if (isGone) return openDevices({ microphone, camera });
      errors.push(/** @type {Error} */ (error));
    }
  }
  return { ...nothing, problem: problemOf(errors[0], microphone && camera ? 'both' : camera ? 'camera' : 'microphone', true) };
}

/** Chromium ignores the id of a microphone that is only a wish. @param {string} [id] */
const only = (id) => (id ? { deviceId: { exact: id } } : {});

/** @param {Error} error */
function isRefusal({ name }) {
  return name === 'NotAllowedError' || name === 'SecurityError';
}

/** Whether the browser opens the device without a prompt; false if the browser does not say. @param {string} name */
export async function isAllowed(name) {
  try {
    return (await navigator.permissions.query({ name: /** @type {any} */ (name) })).state === 'granted';
  } catch {
    return false;
  }
}

/** If the user closes the picker, there is no problem. @returns {Promise<Opened>} */
export async function openScreen() {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: SCREEN.detail, audio: SCREEN_AUDIO, ...PICKER });
    const video = stream.getVideoTracks()[0] ?? null;
    if (video) video.contentHint = 'detail';
    return { audio: stream.getAudioTracks()[0] ?? null, video, problem: null };
  } catch (error) {
    const { name } = /** @type {Error} */ (error);
    return { audio: null, video: null, problem: name === 'NotAllowedError' ? null : problemOf(/** @type {Error} */ (error), 'screen', false) };
  }
}

/**
 * @param {Error} error @param {'camera' | 'microphone' | 'both' | 'screen'} what
 * @param {boolean} isAll whether none of the wanted devices could be opened @returns {Problem}
 */
function problemOf(error, what, isAll) {
  const cause = CAUSES[error.name] ?? 'other';
  const way = wayOutHere(error.message);
  const params = { reason: `${error.name}: ${error.message}`, one: { key: way.one }, two: { key: way.two } };
  /** @type {Words} */
  const words = { key: /** @type {any} */ (`${SENTENCES[cause]}${what}`), params };
  return { cause, words: isAll ? { key: 'device.rest', params: { words } } : words, ...(cause === 'refused' && { way }) };
}
