// Before the call: oneself at the start side, what to fill in at the end side, one button.

import * as state from '../state.js';
import { restriction } from '../session/invitation.js';
import { proposeRoom } from '../words/rooms.js';
import { say, t } from '../words/index.js';
import { h } from './dom.js';
import { icon } from './icons.js';
import { mark } from './mark.js';
import { noticeRow } from './notice.js';
import { preview } from './preview.js';

/**
 * @typedef {{
 *   name: import('../store.js').Signal<string>, room: import('../store.js').Signal<string>,
 *   want: import('../store.js').Signal<{ microphone: boolean, camera: boolean }>,
 *   invitation: import('../store.js').Signal<import('../session/invitation.js').Invitation>,
 *   presence: import('../store.js').Signal<import('../session/presence.js').Presence | null>,
 * }} Form
 */

/** @param {Form} form @param {import('./preview.js').App & { join: () => void, cancel: () => void, settings: () => void }} app */
export function lobbyView(form, app) {
  const isHere = () => state.phase.value === 'lobby' || state.phase.value === 'joining';
  const isJoining = () => state.phase.value === 'joining';
  const isWaiting = () => isJoining() && state.room.value.position > 0;
  const invited = () => form.invitation.value;
  const told = () => invited().words ?? restriction(invited().rights);
  const canPublish = () => invited().rights.publish;
  const problem = () => (canPublish() ? app.local.value?.problem.value?.cause : undefined);
  const joinWords = () => {
    if (isJoining()) return t(isWaiting() ? 'lobby.stop-waiting' : 'action.cancel');
    return problem() === 'insecure' ? t('lobby.join-watch') : problem() === 'refused' ? t('lobby.join-listen') : t('lobby.join');
  };
  /** @param {string} id @param {import('../store.js').Signal<string>} value @param {() => boolean} isFixed @param {Record<string, any>} more */
  const field = (id, value, isFixed, more) => h('input', {
    id, name: id, class: 'input', maxlength: 64, spellcheck: 'false', value: () => value.value, readOnly: isFixed, disabled: isJoining,
    on: { input: (event) => { value.value = /** @type {HTMLInputElement} */ (event.target).value; } }, ...more,
  });
  const fixedRoom = () => Boolean(invited().room);
  return h('main', { id: 'join', class: 'lobby', hidden: () => !isHere() },
    h('div', { class: 'lobby-notices' }, noticeRow('lobby-notices', isHere)),
    h('section', { class: 'you', 'aria-label': () => t('lobby.you'), hidden: () => !canPublish() }, preview(form, app)),
    h('form', {
      id: 'join-form', class: 'enter', autocomplete: 'off',
      on: { submit: (event) => { event.preventDefault(); if (isJoining()) app.cancel(); else app.join(); } },
    },
    h('div', { class: 'title' }, mark(), h('h1', { tabindex: -1 }, () => t('lobby.title')),
      h('button', { type: 'button', id: 'btn-lobby-settings', class: 'quiet', 'aria-label': () => t('settings.title'), title: () => t('settings.title'), on: { click: app.settings } }, icon('settings'))),
    h('div', { class: 'fields' },
      h('div', { class: 'field' }, h('label', { for: 'name' }, () => t('lobby.name')),
        field('name', form.name, () => Boolean(invited().name), { autocomplete: 'nickname', enterkeyhint: 'next', placeholder: () => t('lobby.name-hint') })),
      h('div', { class: 'field' }, h('label', { for: 'room' }, () => t('lobby.room')),
        h('div', { class: 'with-button' },
          field('room', form.room, fixedRoom, { autocapitalize: 'none', enterkeyhint: 'go' }),
          h('button', {
            type: 'button', id: 'btn-propose', class: 'button', hidden: fixedRoom, disabled: isJoining, title: () => t('lobby.propose'),
            'aria-label': () => t('lobby.propose'), on: { click: () => { form.room.value = proposeRoom(); } },
          }, icon('dice'))))),
    h('p', { id: 'invited', hidden: () => !told() }, () => say(told())),
    h('p', { id: 'presence', role: 'status' }, () => say(there(form.presence.value))),
    h('button', { type: 'submit', id: 'btn-join', class: () => `button join${isJoining() ? '' : ' main'}` }, joinWords),
    h('p', { id: 'join-status', class: () => `after${isWaiting() ? ' waits' : ''}`, role: 'status', hidden: () => !isJoining() && problem() !== 'refused' },
      () => (isJoining() ? say(state.waiting.value ?? { key: 'lobby.connecting' }) : t('lobby.later')))));
}

/** @param {import('../session/presence.js').Presence | null} presence @returns {import('../words/index.js').Words | null} */
function there(presence) {
  if (!presence) return null;
  const { people, waits } = presence;
  /** @type {import('../words/index.js').Words} */
  const words = people ? { key: 'lobby.people', params: { count: people } } : { key: 'lobby.nobody' };
  return waits ? { key: 'lobby.will-wait', params: { words } } : words;
}
