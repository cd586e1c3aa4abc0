// The menu of a tile: what concerns one participant. A dialog, because more than menu items will be in it.

import * as state from '../state.js';
import { t } from '../words/index.js';
import { h } from './dom.js';
import { item, openPopover } from './popover.js';

/** @param {import('./tile.js').Tile} tile @param {import('../commands.js').App} app */
export function openTileMenu(tile, app) {
  const { model: { key, id, own, source }, element, button } = tile;
  const name = /** @type {string} */ (element.dataset.name);
  const { rights } = state;
  /** @type {import('../commands.js').Command[]} */
  const commands = [
    {
      id: 'pin', icon: () => 'pin', words: () => ({ key: state.pinned.value === key ? 'tile.unpin' : 'tile.pin' }),
      isShown: () => !own && rights.value.subscribe,
      run: () => { state.pinned.value = state.pinned.peek() === key ? null : key; },
    },
    {
      id: 'full', icon: () => 'expand', words: () => ({ key: 'tile.full' }), isShown: () => Boolean(element.requestFullscreen),
      run: () => { (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen()).catch(() => {}); },
    },
    {
      id: 'mute', icon: () => 'mic-off', words: () => ({ key: 'tile.mute' }), isShown: () => canModerate,
      run: () => app.session()?.moderate('mute', id),
    },
    { id: 'remove', icon: () => 'remove', words: () => ({ key: 'tile.remove' }), isBad: true, isShown: () => canModerate, run: () => remove() },
  ];
  const canModerate = rights.peek().moderate && !own && source === 'camera';
  const remove = async () => {
    const { ask } = await import('./confirm.js');
    if (await ask({ title: t('remove.title', { name }), text: t('remove.text'), yes: t('remove.yes') })) app.session()?.moderate('remove', id);
  };
  openPopover(button, { id: 'tile-menu', role: 'dialog', label: () => t('tile.options', { name }) }, (close) => [
    h('h2', null, name),
    ...commands.slice(0, 2).map((each) => item(each, close)),
    ...(canModerate ? [h('hr', null), h('p', { class: 'caption' }, () => t('menu.everybody'))] : []),
    ...commands.slice(2).map((each) => item(each, close)),
  ]);
}
