// What the page shows: the signals that the session sets and the views follow.

import { EMPTY_LOG } from './chatlog.js';
import { EMPTY } from './room.js';
import { computed, signal } from './store.js';

/** @typedef {'lobby' | 'joining' | 'joined' | 'reconnecting' | 'ended'} Phase */
/** @typedef {'chat' | 'people' | 'statistics'} PanelName */
/** @typedef {{ words: import('./words/index.js').Words, canRejoin: boolean, room: string }} End */

export const phase = signal(/** @type {Phase} */ ('lobby'));
export const room = signal(EMPTY);
export const lines = signal(/** @type {import('./session/call.js').Received[]} */ ([]));
export const chat = signal(EMPTY_LOG);

/** The result of the latest check for arriving packets; `isSilent` while none arrive. */
export const look = signal({ isSilent: false });

/** Why joining takes time. */
export const waiting = signal(/** @type {import('./words/index.js').Words | null} */ (null));

/** Why the last stay ended. */
export const end = signal(/** @type {End | null} */ (null));

/** What the user chose to see. */
export const panel = signal(/** @type {PanelName | null} */ (null));
export const mode = signal(/** @type {'grid' | 'spotlight'} */ ('grid'));
export const pinned = signal(/** @type {string | null} */ (null)); // the key of a picture
export const statisticsFirst = signal(/** @type {string | null} */ (null)); // the key of the picture whose statistics are shown first
/** Volumes in percent, and the pictures that are not to be shown, by key. Both last for this call. */
export const volumes = signal(/** @type {ReadonlyMap<string, number>} */ (new Map()));
export const unwatched = signal(/** @type {ReadonlySet<string>} */ (new Set()));
/** Whether the call is also in a small window. */
export const isFloating = signal(false);
export const page = signal(0);
export const pages = signal(1);
export const selfView = signal(/** @type {import('./layout.js').SelfView} */ ('shown')); // beside one other person
export const corner = signal(/** @type {import('./layout.js').Corner} */ ('bottom-end'));

/** Whether the browser plays no sound before a click. */
export const isSoundBlocked = signal(false);

export const isInCall = computed(() => phase.value === 'joined' || phase.value === 'reconnecting');
export const rights = computed(() => room.value.me?.rights ?? { publish: true, subscribe: true, moderate: false });

/** The name of a participant, or null for one who has none. @param {string | undefined} id */
export const nameOf = (id) => room.peek().people.get(id ?? '')?.name || null;
