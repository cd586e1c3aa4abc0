// The call: bar, room, notices, tiles and the panel beside them.

import { announce } from '../announce.js';
import { dismiss, notify, tell } from '../notices.js';
import * as state from '../state.js';
import { effect, scope, untracked } from '../store.js';
import { number, say, t } from '../words/index.js';
import { bar, roomHeader } from './bar.js';
import { byId, h } from './dom.js';
import { icon } from './icons.js';
import { noticeRow } from './notice.js';
import { setBox, stage } from './stage.js';

/** After this time, in milliseconds, the first pictures have been requested. */
const SETTLED_MS = 300;

const loadTileMenu = () => import('./tile-menu.js');
export const loadKeys = () => import('./help/keys.js');
export const loadSettings = () => import('./settings/dialog.js');
export const loadFloat = () => import('./float/window.js');
export const loadConfirm = () => import('./confirm.js');
export const loadRename = () => import('./people/rename.js');
export const loadReactions = () => import('./people/react.js');

/** @type {Record<import('../state.js').PanelName, () => Promise<{ panel: (app: App) => HTMLElement }>>} */
const PANELS = {
  chat: () => import('./chat.js'),
  people: () => import('./people/panel.js'),
  statistics: () => import('./statistics/panel.js'),
};

/** @typedef {import('../commands.js').App} App */

/** Panels and menus load with the first call, once it has begun: later the server may be away, or another one. */
function loadAll() {
  Promise.all([loadTileMenu(), loadReactions(), loadRename(), loadConfirm(), loadFloat(), loadKeys(), ...Object.values(PANELS).map((load) => load())]).catch(onUnloaded);
}

/** Calls `act` with a part of the page that loads on first use. @template T @param {Promise<T>} part @param {(part: T) => void} act */
export function withPart(part, act) {
  part.then(act, onUnloaded);
}

/** @param {Error} error */
function onUnloaded(error) {
  console.info(error);
  tell({ key: 'problem.unloaded' }, 'warn');
}

/** @param {App} app @param {Record<string, import('../commands.js').Command>} commands @param {() => boolean} canInvite */
export function callView(app, commands, canInvite) {
  const tiles = stage({
    local: () => app.local.value,
    show: (shown) => app.session()?.view.show(shown),
    nextShare: commands.share.run,
    options: (tile) => withPart(loadTileMenu(), ({ openTileMenu }) => openTileMenu(tile, app)),
  });
  const step = (/** @type {'previous' | 'next'} */ id) => h('button', {
    type: 'button', class: 'quiet', 'aria-label': () => say(commands[id].words()), on: { click: commands[id].run },
    disabled: () => (id === 'next' ? state.page.value >= state.pages.value - 1 : state.page.value <= 0),
  }, icon(id));
  const pager = h('nav', { class: () => `pager${tiles.arrangement.value.pager?.upright ? ' upright' : ''}`, 'aria-label': () => t('call.pages') },
    step('previous'),
    h('p', null, () => `${number(state.page.value + 1)} / ${number(state.pages.value)}`),
    step('next'));
  effect(() => setBox(pager, tiles.arrangement.value.pager));
  tiles.element.append(pager);
  effect(() => {
    if (state.room.value.people.size || state.phase.value !== 'joined') return dismiss('alone');
    const actions = canInvite() ? [{ words: /** @type {const} */ ({ key: 'command.invite' }), icon: 'link', run: app.invite }] : [];
    notify({ id: 'alone', kind: 'plain', words: { key: canInvite() ? 'call.alone' : 'call.alone-tokens' }, actions });
  });

  effect(() => { if (state.phase.value === 'joined') setTimeout(loadAll, SETTLED_MS); });
  const panel = h('div', { id: 'panel', hidden: () => !state.panel.value });
  followPanel(panel, app);
  effect(() => {
    const isBlocked = state.isSoundBlocked.value;
    const hear = () => {
      tiles.hear();
      state.isSoundBlocked.value = false;
    };
    if (!isBlocked) return dismiss('sound');
    notify({ id: 'sound', kind: 'warn', icon: 'volume', words: { key: 'sound.blocked' }, actions: [{ words: { key: 'sound.hear' }, run: hear }] });
  });

  const element = h('div', { id: 'call', hidden: () => !state.isInCall.value },
    bar(commands), roomHeader(commands, canInvite),
    h('main', { class: 'middle' }, h('div', { class: 'stage' }, noticeRow('notices', () => state.isInCall.value), h('div', { class: 'space' }, tiles.element)), panel));
  return { element, resume: tiles.resume };
}

/** Focuses the button of a panel, or the menu that contains it. @param {string} name */
function returnFocus(name) {
  const button = byId(`btn-${name}`);
  (button?.checkVisibility() ? button : byId('btn-more'))?.focus();
}

/** @param {HTMLElement} box @param {App} app */
function followPanel(box, app) {
  effect(() => {
    const name = state.panel.value;
    if (!name) return;
    let end = () => {};
    let isOver = false;
    PANELS[name]().then(({ panel }) => {
      if (isOver) return;
      end = scope(() => box.replaceChildren(panel(app)));
      /** @type {HTMLElement | null} */ (box.querySelector('[data-focus]'))?.focus();
    }, onUnloaded);
    return () => {
      isOver = true;
      const hadFocus = box.contains(document.activeElement);
      end();
      box.replaceChildren();
      if (hadFocus && untracked(() => state.isInCall.value)) returnFocus(name);
    };
  });
  box.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !event.defaultPrevented) state.panel.value = null;
  });
}

/** Announces that an own device was turned on or off. @param {App} app */
export function announceDevices(app) {
  /** @type {{ microphone: boolean, camera: boolean } | null} */
  let before = null;
  effect(() => {
    const own = app.local.value?.state.value;
    const isIn = state.phase.value === 'joined';
    const now = own && isIn ? { microphone: own.microphone, camera: Boolean(own.camera) } : null;
    if (now && before) {
      if (now.microphone !== before.microphone) announce({ key: now.microphone ? 'said.microphone-on' : 'said.microphone-off' });
      if (now.camera !== before.camera) announce({ key: now.camera ? 'said.camera-on' : 'said.camera-off' });
    }
    before = now;
  });
}
