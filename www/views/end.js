// After the call: what happened, and the way back.

import * as state from '../state.js';
import { say, t } from '../words/index.js';
import { h } from './dom.js';
import { icon } from './icons.js';

/** @param {{ rejoin: () => void, toLobby: () => void }} app */
export function endView(app) {
  const room = () => state.end.value?.room ?? '';
  const title = () => (state.end.value?.words && 'key' in state.end.value.words && state.end.value.words.key === 'ended.left' ? t('ended.left', { room: room() }) : t('ended.title'));
  const isLeft = () => title() === t('ended.left', { room: room() });
  return h('main', { id: 'ended', hidden: () => state.phase.value !== 'ended' },
    h('div', { class: 'card' },
      h('h1', { tabindex: -1 }, title),
      h('p', { id: 'ended-words', role: 'status', hidden: isLeft }, () => say(state.end.value?.words ?? null)),
      h('div', { class: 'choices' },
        h('button', { type: 'button', id: 'btn-rejoin', class: 'button main', hidden: () => !state.end.value?.canRejoin, on: { click: app.rejoin } }, icon('retry'), () => t('ended.rejoin')),
        h('button', { type: 'button', id: 'btn-lobby', class: 'button', on: { click: app.toLobby } }, () => t('ended.other')))));
}
