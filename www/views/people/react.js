// The menu of reactions. On phones it has the hand, too.

import * as state from '../../state.js';
import { t } from '../../words/index.js';
import { h } from '../dom.js';
import { item, openPopover } from '../popover.js';

/** @type {[string, import('../../words/index.js').Key][]} */
const REACTIONS = [
  ['👍', 'react.thumb'], ['❤️', 'react.heart'], ['👏', 'react.applause'], ['😂', 'react.laugh'], ['😮', 'react.surprise'], ['🎉', 'react.party'],
];

/** @param {HTMLElement} anchor @param {import('../../commands.js').Command} hand @param {(reaction: string) => void} react */
export function openReactions(anchor, hand, react) {
  openPopover(anchor, { id: 'react-menu', label: () => t('command.react') }, (close) => {
    const raise = item(hand, close);
    raise.classList.add('narrow');
    const one = (/** @type {string} */ emoji, /** @type {import('../../words/index.js').Key} */ key) => h('button', {
      type: 'button', class: 'item emoji', role: 'menuitem', 'aria-label': () => t(key), title: () => t(key),
      disabled: () => state.phase.value !== 'joined', on: { click: () => { close(); react(emoji); } },
    }, emoji);
    return [raise, h('div', { class: 'emojis', role: 'group', 'aria-label': () => t('command.react') }, ...REACTIONS.map(([emoji, key]) => one(emoji, key)))];
  });
}
