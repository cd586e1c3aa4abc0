// The panel of people: who waits to come in, and who is in the call.

import { roster } from '../../roster.js';
import * as state from '../../state.js';
import { effect, signal } from '../../store.js';
import { tileModels } from '../../tiles.js';
import { language, number, t } from '../../words/index.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { openPersonMenu } from '../tile-menu.js';
import { Row } from './row.js';

const search = signal('');

/** @param {import('../../commands.js').App} app */
export function panel(app) {
  const moderates = () => state.rights.value.moderate;
  const count = () => state.room.value.people.size + 1;
  const list = h('ul', { id: 'people-list', 'aria-label': () => t('people.here') });
  const nobody = h('p', { class: 'nothing', hidden: true, role: 'status' }, () => t('people.nobody'));
  /** @type {Map<string, Row>} */
  const rows = new Map();
  effect(() => {
    const { camera, microphone } = app.local.value?.state.value ?? { camera: null, microphone: false };
    const room = state.room.value;
    const models = tileModels({ room, lines: state.lines.value, camera, microphone, away: state.phase.value !== 'joined' });
    const entries = roster(models, room, { search: search.value, language: language.value, guest: t('person.guest') });
    arrange(list, rows, entries, (entry) => new Row(entry, (row) => openPersonMenu(row.button, { ...row.entry, source: 'camera', element: null }, app)));
    nobody.hidden = entries.length > 0;
  });

  const input = h('input', {
    id: 'people-search', class: 'input', type: 'search', 'data-focus': '', 'aria-label': () => t('people.search'), placeholder: () => t('people.search'),
    autocomplete: 'off', spellcheck: 'false', enterkeyhint: 'search', value: () => search.value,
    on: {
      input: () => { search.value = input.value; },
      // The first Escape empties the field, the next one closes the panel.
      keydown: (event) => {
        if (event.key !== 'Escape' || !search.peek()) return;
        event.preventDefault();
        search.value = '';
      },
    },
  });
  return h('aside', { id: 'people', class: 'panel', 'aria-labelledby': 'people-title' },
    h('header', null, h('h2', { id: 'people-title' }, () => t('command.people'), ' ', h('span', { class: 'number' }, () => number(count()))),
      h('button', { type: 'button', class: 'quiet', id: 'btn-people-close', 'aria-label': () => t('people.close'), on: { click: () => { state.panel.value = null; } } }, icon('close'))),
    h('div', { class: 'people' },
      h('div', { class: 'with-button' }, input,
        h('button', { type: 'button', class: 'button', id: 'btn-people-invite', hidden: () => !app.canInvite(), on: { click: app.invite } }, icon('invite'), () => t('people.invite'))),
      knocks(app),
      h('div', { class: 'row-head' }, h('h3', null, () => t('people.here')),
        h('button', { type: 'button', class: 'button', id: 'btn-mute-all', hidden: () => !moderates() || count() < 2, on: { click: () => app.session()?.moderate('mute-all') } },
          icon('mic-off'), () => t('people.mute-all'))),
      list, nobody));
}

/** Those who wait to come in. @param {import('../../commands.js').App} app */
function knocks(app) {
  const list = h('ul', { id: 'knocks' });
  effect(() => {
    language.value;
    list.replaceChildren(...[...state.room.value.knocks].map(([id, name]) => {
      const who = name || t('person.guest');
      const act = (/** @type {boolean} */ admitted) => () => app.session()?.admit(id, admitted);
      return h('li', { class: 'person', 'data-name': who }, Row.avatar(who), h('span', { class: 'who' }, who),
        h('button', { type: 'button', class: 'button main', 'aria-label': t('knock.admit-one', { name: who }), on: { click: act(true) } }, t('knock.admit')),
        h('button', { type: 'button', class: 'quiet', 'aria-label': t('knock.refuse-one', { name: who }), title: t('knock.refuse'), on: { click: act(false) } }, icon('close')));
    }));
  });
  return h('section', { 'aria-labelledby': 'knocks-title', hidden: () => !state.room.value.knocks.size },
    h('h3', { id: 'knocks-title' }, () => t('people.waiting')), list);
}

/**
 * Brings the rows in order. A row that stays keeps its element, and so the focus in it.
 * @param {HTMLElement} list @param {Map<string, Row>} rows
 * @param {readonly import('../../roster.js').Entry[]} entries @param {(entry: import('../../roster.js').Entry) => Row} make
 */
function arrange(list, rows, entries, make) {
  const ids = new Set(entries.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    rows.delete(id);
    row.element.remove();
  }
  const { activeElement } = document;
  entries.forEach((entry, at) => {
    const known = rows.get(entry.id);
    const row = known ?? make(entry);
    rows.set(entry.id, row);
    row.write(entry);
    if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at] ?? null);
  });
  if (activeElement instanceof HTMLElement && activeElement !== document.activeElement && list.contains(activeElement)) activeElement.focus();
}
