// Announcements: what screen readers speak although the focus is elsewhere. Views put it into the live regions.

import { switches } from './devices/options.js';
import { signal } from './store.js';

/** @typedef {import('./words/index.js').Words} Words */

/** Joins and leaves within this time, in milliseconds, are announced together. */
const GATHER_MS = 2000;
/** In larger rooms, joins and leaves are not announced. */
const MAX_PEOPLE = 20;

export const said = signal(/** @type {{ words: Words, assertive: boolean } | null} */ (null));

const KEYS = /** @type {const} */ ({ joined: ['said.joined', 'said.joined-more'], left: ['said.left', 'said.left-more'] });

/** @type {Record<'joined' | 'left', (string | Words)[]>} */
const gathered = { joined: [], left: [] };
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** @param {Words} words @param {boolean} [assertive] */
export function announce(words, assertive = false) {
  said.value = { words, assertive };
}

/** @param {'joined' | 'left'} what @param {string | Words} name @param {number} people */
export function gather(what, name, people) {
  if (people > MAX_PEOPLE || !switches.peek().sayJoins) return;
  gathered[what].push(name);
  clearTimeout(timer);
  timer = setTimeout(() => {
    for (const each of /** @type {const} */ (['joined', 'left'])) {
      const names = gathered[each].splice(0);
      if (!names.length) continue;
      const [one, more] = KEYS[each];
      announce({ key: names.length > 1 ? more : one, params: { name: names[0], count: names.length - 1 } });
    }
  }, GATHER_MS);
}
