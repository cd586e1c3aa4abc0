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

/** Set anew at each look for packets; `isSilent` while none arrive. */
export const look = signal({ isSilent: false });

/** What delays joining, in words. */
export const waiting = signal(/** @type {import('./words/index.js').Words | null} */ (null));

/** Why the last stay ended. */
export const end = signal(/** @type {End | null} */ (null));

/** What the person chose to see. */
export const panel = signal(/** @type {PanelName | null} */ (null));
export const mode = signal(/** @type {'grid' | 'spotlight'} */ ('grid'));
export const pinned = signal(/** @type {string | null} */ (null)); // the key of a picture
export const looked = signal(/** @type {string | null} */ (null)); // the key of the picture whose statistics come first
/** How loud pictures are here, by key, in percent; and those that are not watched. Both for this call. */
export const volumes = signal(/** @type {ReadonlyMap<string, number>} */ (new Map()));
export const unwatched = signal(/** @type {ReadonlySet<string>} */ (new Set()));
/** The call is in a small window, too. */
export const isFloating = signal(false);
export const page = signal(0);
export const pages = signal(1);
export const selfView = signal(/** @type {import('./layout.js').SelfView} */ ('shown')); // beside one other person
export const corner = signal(/** @type {import('./layout.js').Corner} */ ('bottom-end'));

/** The browser plays no sound before a click. */
export const isSoundBlocked = signal(false);

export const isInCall = computed(() => phase.value === 'joined' || phase.value === 'reconnecting');
export const rights = computed(() => room.value.me?.rights ?? { publish: true, subscribe: true, moderate: false });

/** The name of a participant, or null for one who has none. @param {string | undefined} id */
export const nameOf = (id) => room.peek().people.get(id ?? '')?.name || null;
