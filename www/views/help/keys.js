// The dialog that lists the keys.

import { say, t } from '../../words/index.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';

/** @typedef {import('../../commands.js').Command} Command */

/** @param {Record<string, Command>} commands */
export function openKeys(commands) {
  if (document.getElementById('keys')) return;
  const rows = Object.values(commands).filter(({ key, isShown }) => key && isShown?.() !== false)
    .map(({ key, words }) => row(say(words()), key?.toUpperCase() ?? ''));
  const dialog = h('dialog', { id: 'keys', 'aria-labelledby': 'keys-title', closedby: 'any' },
    h('div', { class: 'dialog-head' }, h('h2', { id: 'keys-title' }, t('keys.title')),
      h('button', { type: 'button', class: 'quiet', id: 'btn-keys-close', autofocus: true, 'aria-label': t('keys.close'), on: { click: () => dialog.close() } }, icon('close'))),
    h('div', { class: 'dialog-body', tabindex: 0, role: 'group', 'aria-labelledby': 'keys-title' },
      h('dl', { class: 'keys' }, ...rows,
        row(t('keys.talk'), t('keys.talk-key')), row(t('keys.arrows'), '← → ↑ ↓'), row(t('keys.enter'), t('keys.enter-key')), row(t('keys.escape'), t('keys.escape-key'))),
      h('p', { class: 'caption' }, t('keys.typing'))));
  const before = document.activeElement;
  dialog.addEventListener('close', () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {string} words @param {string} key */
const row = (words, key) => h('div', null, h('dt', null, words), h('dd', null, h('kbd', null, key)));
