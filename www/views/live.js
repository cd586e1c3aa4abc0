// The live regions: what screen readers say.

import { said } from '../announce.js';
import { effect } from '../store.js';
import { say } from '../words/index.js';
import { h } from './dom.js';

export function liveRegions() {
  const polite = h('div', { id: 'said', class: 'unseen', role: 'status' });
  const assertive = h('div', { id: 'called', class: 'unseen', role: 'alert' });
  effect(() => {
    const now = said.value;
    if (!now) return;
    (now.assertive ? assertive : polite).textContent = say(now.words);
  });
  return [polite, assertive];
}
