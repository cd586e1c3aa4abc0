// What the person has set about devices and announcements: signals that are remembered.

import { remember, remembered } from '../settings.js';
import { signal } from '../store.js';

/** Each switch and what it is at first. */
export const SWITCHES = {
  noise: true, echo: true, gain: true, blur: false, mirror: true, sayJoins: true, sayChat: true, sayHands: true,
};
/** @typedef {keyof typeof SWITCHES} Switch */

export const switches = signal({ ...SWITCHES, ...known(remembered('switches', {})) });

/** @param {Switch} name @param {boolean} isOn */
export function turn(name, isOn) {
  switches.value = { ...switches.peek(), [name]: isOn };
  remember('switches', switches.peek());
}

/** Only switches that this page has. @param {Record<string, unknown>} stored @returns {Partial<typeof SWITCHES>} */
export function known(stored) {
  return Object.fromEntries(Object.entries(stored).filter(([name, value]) => Object.hasOwn(SWITCHES, name) && typeof value === 'boolean'));
}

/** Constraints of the microphone. */
export function microphoneOptions() {
  const { noise, echo, gain } = switches.peek();
  return { noiseSuppression: noise, echoCancellation: echo, autoGainControl: gain };
}

/** Whether the own picture is mirrored: that of a phone's back camera is not. @param {{ facing?: string } | null | undefined} own */
export const isMirrored = (own) => switches.value.mirror && own?.facing !== 'environment';

/** The loudspeaker by its id; '' is that of the system. */
export const speaker = signal(remembered('speaker', ''));

/** @param {string} id */
export function chooseSpeaker(id) {
  speaker.value = id;
  remember('speaker', id);
}

/** How much video is received and sent. @typedef {'auto' | 'save' | 'audio'} Quality */
export const QUALITIES = /** @type {const} */ (['auto', 'save', 'audio']);
export const quality = signal(/** @type {Quality} */ (QUALITIES.find((each) => each === remembered('quality', String('auto'))) ?? 'auto'));

/** @param {Quality} wanted */
export function chooseQuality(wanted) {
  quality.value = wanted;
  remember('quality', wanted);
}

export const canChooseSpeaker = () => typeof HTMLMediaElement !== 'undefined' && 'setSinkId' in HTMLMediaElement.prototype;
