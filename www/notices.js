// Notices: problems, and questions to the user. Only the most urgent one is shown.

import { signal } from './store.js';

/** @typedef {import('./words/index.js').Words} Words */
/**
 * @typedef {{
 *   id: NoticeId, kind: 'warn' | 'accent' | 'plain', icon?: string, words: Words, until?: number,
 *   actions?: { words: Words, run: () => void, icon?: string }[], closes?: boolean,
 * }} Notice
 *   `until` is when the announced event happens: the notice counts the seconds down; `closes` adds a button to dismiss it.
 * @typedef {typeof RANKS[number]} NoticeId
 */

/** The most urgent first. A notice replaces an earlier one of the same id. */
const RANKS = /** @type {const} */ ([
  'signaling', // the connection to the server is lost
  'media', // audio and video do not get through
  'network', // offline, or nothing arrives
  'sound', // the browser blocks sound until a click
  'device', // a camera or microphone cannot be used
  'plugged', // a device was plugged in
  'asked', // the browser may ask for a permission
  'knock', // a participant asks to come in
  'host', // a message of the host
  'twin', // another tab is in the call
  'talking', // the user speaks while muted
  'presenting', // the own screen is shared
  'problem', // something was refused
  'info', // something happened
  'alone', // nobody else is there
]);

/** How long a notice stays that needs no action, in milliseconds. */
export const BRIEFLY_MS = 7000;

export const notices = signal(/** @type {readonly Notice[]} */ ([]));

/** @type {Map<string, ReturnType<typeof setTimeout>>} */
const timers = new Map();

/** @param {Notice} notice @param {number} [lasts] milliseconds; without it until `dismiss` */
export function notify(notice, lasts) {
  clearTimeout(timers.get(notice.id));
  const others = notices.peek().filter(({ id }) => id !== notice.id);
  notices.value = [...others, notice].sort((a, b) => RANKS.indexOf(a.id) - RANKS.indexOf(b.id));
  if (lasts) timers.set(notice.id, setTimeout(() => dismiss(notice.id), lasts));
}

/** @param {NoticeId} id */
export function dismiss(id) {
  clearTimeout(timers.get(id));
  if (notices.peek().some((each) => each.id === id)) notices.value = notices.peek().filter((each) => each.id !== id);
}

export function dismissAll() {
  for (const { id } of notices.peek()) dismiss(id);
}

/** Tells briefly what happened. @param {Words} words @param {'plain' | 'warn'} [kind] */
export function tell(words, kind = 'plain') {
  notify({ id: kind === 'warn' ? 'problem' : 'info', kind, icon: kind === 'warn' ? 'warn' : 'info', words, closes: true }, BRIEFLY_MS);
}
