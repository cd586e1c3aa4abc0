// A row of bars that light up while one speaks.

import { measure } from '../../devices/level.js';
import { effect, signal } from '../../store.js';
import { t } from '../../words/index.js';
import { h } from '../dom.js';

const BARS = 12;

/** @param {{ local: import('../../commands.js').App['local'] }} app */
export function meter(app) {
  const lit = signal(0);
  const track = () => app.local.value?.state.value.audio ?? null;
  const element = h('div', {
    class: 'meter', role: 'meter', 'aria-label': () => t('device.level'), 'aria-valuemin': 0, 'aria-valuemax': BARS, 'aria-valuenow': () => lit.value,
    hidden: () => !track(),
  }, ...Array.from({ length: BARS }, (_, at) => h('i', { class: () => (at < lit.value ? 'lit' : '') })));
  effect(() => {
    const audio = track();
    if (!audio) return;
    const end = measure(audio, (level) => { lit.value = Math.round(level * BARS); });
    return () => {
      end();
      lit.value = 0;
    };
  });
  return element;
}
