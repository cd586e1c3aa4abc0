// The notice row: the most urgent of what is wrong or asked of the user. It takes its own space.

import { computed, effect, signal } from '../store.js';
import { notices, dismiss } from '../notices.js';
import { number, say, t } from '../words/index.js';
import { h } from './dom.js';
import { icon } from './icons.js';

/** @param {string} id @param {() => boolean} isSeen whether the row stands where the user is now */
export function noticeRow(id, isSeen) {
  const isOpen = signal(false); // all of them
  const now = signal(Date.now());
  const shown = computed(() => (!isSeen() ? [] : isOpen.value ? notices.value : notices.value.slice(0, 1)));
  const element = h('section', { id, class: 'notices', 'aria-label': () => t('notice.list') });
  const more = h('button', {
    type: 'button', class: 'link', hidden: () => notices.value.length < 2, 'aria-expanded': () => String(isOpen.value),
    on: { click: () => { isOpen.value = !isOpen.peek(); } },
  }, () => (isOpen.value ? t('notice.fewer') : t('notice.more', { count: notices.value.length - 1 })));
  effect(() => { if (notices.value.length < 2) isOpen.value = false; });
  effect(() => {
    if (!shown.value.some(({ until }) => until)) return;
    now.value = Date.now();
    const timer = setInterval(() => { now.value = Date.now(); }, 1000);
    return () => clearInterval(timer);
  });

  effect(() => {
    element.replaceChildren(...shown.value.map((notice, at) => {
      const { until } = notice;
      const seconds = () => (until ? Math.max(0, Math.ceil((until - now.value) / 1000)) : 0);
      return h('div', { class: `notice ${notice.kind}`, 'data-notice': notice.id },
        notice.icon ? icon(notice.icon) : null,
        h('div', { class: 'told' },
          h('p', { class: 'words', role: 'status' }, () => say(notice.words)),
          // The seconds are not announced.
          until ? h('p', { class: 'seconds', 'aria-hidden': 'true', hidden: () => !seconds() }, () => t('notice.seconds', { seconds: number(seconds()) })) : null,
          at === 0 ? more : null),
        ...(notice.actions ?? []).map(({ words, run, icon: shows }) => (
          h('button', { type: 'button', class: 'button', on: { click: run } }, shows ? icon(shows) : null, () => say(words)))),
        notice.closes ? h('button', { type: 'button', class: 'quiet dismiss', 'aria-label': () => t('action.dismiss'), on: { click: () => dismiss(notice.id) } }, icon('close')) : null);
    }));
  });
  return element;
}
