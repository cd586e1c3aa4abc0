// How loud a participant or a shared screen is here, from 0 to 200 %.

import * as state from '../../state.js';
import { number, t } from '../../words/index.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';

const MAX_PERCENT = 200;

/** @param {string} key of the picture @param {string} name */
export function volume(key, name) {
  const value = () => state.volumes.value.get(key) ?? 100;
  const words = () => t('volume.percent', { percent: number(value()) });
  const input = h('input', {
    type: 'range', id: 'volume', min: 0, max: MAX_PERCENT, step: 5, value: String(value()), 'aria-label': () => t('volume.of', { name }), 'aria-valuetext': words,
    on: { input: () => { state.volumes.value = new Map(state.volumes.peek()).set(key, Number(input.value)); } },
  });
  return h('div', { class: 'volume' }, icon('volume'), input, h('output', { 'aria-hidden': 'true' }, words));
}
