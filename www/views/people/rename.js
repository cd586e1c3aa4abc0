// The dialog for another name.

import * as state from '../../state.js';
import { t } from '../../words/index.js';
import { h } from '../dom.js';

/** @param {(name: string) => void} rename */
export function openRename(rename) {
  const { me, limits } = state.room.peek();
  if (!me) return;
  const input = h('input', { id: 'new-name', class: 'input', maxlength: limits.name_chars, autocomplete: 'nickname', spellcheck: 'false', enterkeyhint: 'done', value: me.name });
  const form = h('form', {
    class: 'dialog-body', method: 'dialog', autocomplete: 'off', on: {
      submit: () => { if (input.value.trim()) rename(input.value.trim()); },
    },
  },
  h('h2', { id: 'rename-title' }, t('rename.title')),
  h('div', { class: 'field' }, h('label', { for: 'new-name' }, t('lobby.name')), input),
  h('div', { class: 'choices' },
    h('button', { type: 'button', class: 'button', on: { click: () => dialog.close() } }, t('action.cancel')),
    h('button', { type: 'submit', class: 'button main', id: 'btn-rename' }, t('rename.yes'))));
  const dialog = h('dialog', { id: 'rename', class: 'small', 'aria-labelledby': 'rename-title', closedby: 'any' }, form);
  const before = document.activeElement;
  dialog.addEventListener('close', () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  input.select();
}
