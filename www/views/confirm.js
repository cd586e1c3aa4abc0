// A question before something that concerns others and cannot be undone.

import { t } from '../words/index.js';
import { h } from './dom.js';

/** @param {{ title: string, text: string, yes: string }} words @returns {Promise<boolean>} */
export function ask({ title, text, yes }) {
  return new Promise((done) => {
    const dialog = h('dialog', { id: 'confirm', class: 'small', 'aria-labelledby': 'confirm-title', closedby: 'any' },
      h('div', { class: 'dialog-body' },
        h('h2', { id: 'confirm-title' }, title),
        h('p', null, text),
        h('div', { class: 'choices' },
          h('button', { type: 'button', class: 'button', autofocus: true, on: { click: () => dialog.close() } }, t('action.cancel')),
          h('button', { type: 'button', class: 'button bad', id: 'confirm-yes', on: { click: () => dialog.close('yes') } }, yes))));
    const before = document.activeElement;
    dialog.addEventListener('close', () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      done(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
