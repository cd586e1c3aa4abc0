// The menu of one participant, opened from its tile or from the list of people. It is a dialog, because it also
// contains a volume control.

import { flipCommand } from '../commands.js';
import { tell } from '../notices.js';
import * as state from '../state.js';
import { t } from '../words/index.js';
import { h } from './dom.js';
import { item, openPopover } from './popover.js';
import { volume } from './tiles/volume.js';

/** @typedef {import('../commands.js').App} App */
/** @typedef {import('../commands.js').Command} Command */
/** @typedef {{ key: string, id: string, own: boolean, source: 'camera' | 'screen', name: string, element: HTMLElement | null }} Person `element` is the tile, if it is its menu */

/** @param {import('./tile.js').Tile} tile @param {App} app */
export function openTileMenu({ model: { key, id, own, source }, element, button }, app) {
  openPersonMenu(button, { key, id, own, source, name: /** @type {string} */ (element.dataset.name), element }, app);
}

/** @param {HTMLElement} anchor @param {Person} person @param {App} app */
export function openPersonMenu(anchor, person, app) {
  const { own, name } = person;
  const forAll = moderation(person, app).filter(({ isShown }) => isShown?.() !== false);
  openPopover(anchor, { id: 'tile-menu', role: 'dialog', label: () => (own ? t('tile.own-options') : t('tile.options', { name })) }, (close) => [
    h('h2', null, name),
    own || !state.rights.peek().subscribe ? null : volume(person.key, name),
    ...forMe(person, app).map((each) => item(each, close, 'dialog')),
    ...(forAll.length ? [h('hr', null), h('p', { class: 'caption' }, () => t('menu.everybody'))] : []),
    ...forAll.map((each) => item(each, close, 'dialog')),
  ]);
}

/** What changes nothing for others. @param {Person} person @param {App} app @returns {Command[]} */
function forMe({ key, own, element }, app) {
  return [
    {
      id: 'pin', icon: () => 'pin', words: () => ({ key: state.pinned.value === key ? 'tile.unpin' : 'tile.pin' }),
      isShown: () => !own && state.rights.value.subscribe,
      run: () => { state.pinned.value = state.pinned.peek() === key ? null : key; },
    },
    {
      id: 'watch', icon: () => 'hide', words: () => ({ key: state.unwatched.value.has(key) ? 'watch.again' : 'watch.stop' }),
      isShown: () => !own && state.rights.value.subscribe,
      run: () => {
        const next = new Set(state.unwatched.peek());
        if (!next.delete(key)) next.add(key);
        state.unwatched.value = next;
      },
    },
    {
      id: 'full', icon: () => 'expand', words: () => ({ key: 'tile.full' }), isShown: () => Boolean(element?.requestFullscreen),
      run: () => { (document.fullscreenElement ? document.exitFullscreen() : element?.requestFullscreen())?.catch(() => {}); },
    },
    {
      id: 'small', icon: () => 'minimize', words: () => ({ key: state.selfView.value === 'chip' ? 'self.show' : 'self.small' }),
      isShown: () => element?.dataset.role === 'self', run: () => { state.selfView.value = state.selfView.peek() === 'chip' ? 'shown' : 'chip'; },
    },
    {
      id: 'hide', icon: () => 'hide', words: () => ({ key: 'self.hide' }), isShown: () => element?.dataset.role === 'self',
      run: () => {
        state.selfView.value = 'hidden';
        tell({ key: 'self.hidden' });
      },
    },
    {
      id: 'pip', icon: () => 'pip', words: () => ({ key: 'float.picture' }),
      isShown: () => document.pictureInPictureEnabled && Boolean(element?.classList.contains('has-video')),
      run: () => { element?.querySelector('video')?.requestPictureInPicture().catch(() => {}); },
    },
    {
      id: 'figures', icon: () => 'stats', words: () => ({ key: 'figures.title' }),
      run: () => {
        state.statisticsFirst.value = key;
        state.panel.value = 'statistics';
      },
    },
    ...(own ? [flipCommand(app)] : []),
    { id: 'rename', icon: () => 'edit', words: () => ({ key: 'command.rename' }), isShown: () => own && app.canRename(), run: app.rename },
  ];
}

/** What a moderator may do. @param {Person} person @param {App} app @returns {Command[]} */
function moderation({ id, own, source, name }, app) {
  const room = () => state.room.value;
  const may = () => state.rights.value.moderate && source === 'camera';
  const isLarge = () => room().spotlight === id;
  const act = (/** @type {import('../session/session.js').Action} */ action) => () => app.session()?.moderate(action, id);
  const asked = (/** @type {() => { title: string, text: string, yes: string }} */ words, /** @type {import('../session/session.js').Action} */ action) => async () => {
    const { ask } = await import('./confirm.js');
    if (await ask(words())) app.session()?.moderate(action, id);
  };
  return [
    {
      id: 'large', icon: () => 'spotlight', words: () => ({ key: isLarge() ? 'tile.unspotlight' : 'tile.spotlight' }), isShown: may,
      run: () => app.session()?.moderate('spotlight', isLarge() ? undefined : id),
    },
    { id: 'mute', icon: () => 'mic-off', words: () => ({ key: 'tile.mute' }), isShown: () => may() && !own, run: act('mute') },
    {
      id: 'lower', icon: () => 'hand', words: () => ({ key: 'command.lower-hand' }),
      isShown: () => may() && !own && room().hands.includes(id), run: act('lower-hand'),
    },
    {
      id: 'promote', icon: () => 'star', words: () => ({ key: 'tile.promote' }), isShown: () => may() && !own && room().people.get(id)?.moderator === false,
      run: asked(() => ({ title: t('promote.title', { name }), text: t('promote.text'), yes: t('promote.yes') }), 'promote'),
    },
    {
      id: 'remove', icon: () => 'remove', words: () => ({ key: 'tile.remove' }), isBad: true, isShown: () => may() && !own,
      run: asked(() => ({ title: t('remove.title', { name }), text: t('remove.text'), yes: t('remove.yes') }), 'remove'),
    },
  ];
}
