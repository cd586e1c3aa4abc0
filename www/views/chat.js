// The chat panel. Messages are plain text: they reach the page only as text nodes, never as markup.

import { read } from '../chatlog.js';
import { linkParts } from '../links.js';
import { tell } from '../notices.js';
import * as state from '../state.js';
import { effect, signal, untracked } from '../store.js';
import { clock, say, t } from '../words/index.js';
import { append, h } from './dom.js';
import { icon } from './icons.js';

/** @typedef {import('../chatlog.js').Entry} Entry */

// A log that is scrolled up by less, in pixels, follows new messages.
const NEAR_END = 80;

/** What was typed and not sent yet; kept while the panel is closed. */
const draft = signal('');

/** @param {import('../commands.js').App} app */
export function panel(app) {
  const log = h('div', { id: 'chat-log', class: 'log', role: 'log', tabindex: 0, 'aria-label': () => t('chat.messages') });
  const input = h('textarea', {
    id: 'chat-input', class: 'input', rows: 1, 'data-focus': '', 'aria-label': () => t('chat.message'), placeholder: () => t('chat.message'),
    enterkeyhint: 'send', value: draft.peek(), on: {
      input: () => { draft.value = input.value; },
      keydown: (event) => {
        // Enter may select a word in an input method instead of sending; Safari marks that only by the key code 229.
        if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
        event.preventDefault();
        submit();
      },
    },
  });
  const scroll = () => { log.scrollTop = log.scrollHeight; };

  const submit = () => {
    const text = input.value.trim();
    if (!text) return;
    const problem = app.session()?.sendChat(text);
    if (problem) return tell(problem, 'warn');
    draft.value = input.value = '';
    scroll();
  };

  const newFrom = untracked(() => {
    const { entries, unread } = state.chat.value;
    return unread ? entries[entries.length - unread]?.key : undefined;
  });
  /** @type {Map<number, { entry: Entry, element: HTMLElement }>} */
  const shown = new Map();
  effect(() => {
    const { entries, unread } = state.chat.value;
    if (unread) queueMicrotask(() => { state.chat.value = read(state.chat.peek()); });
    const isAtEnd = !shown.size || log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    const keys = new Set(entries.map(({ key }) => key));
    for (const [key, { element }] of shown) {
      if (keys.has(key)) continue;
      element.remove();
      shown.delete(key);
    }
    for (const entry of entries) {
      const before = shown.get(entry.key);
      if (before?.entry === entry) continue;
      const element = line(entry);
      if (before) before.element.replaceWith(element);
      else {
        if (entry.key === newFrom) log.append(h('p', { class: 'new' }, h('span', null, () => t('chat.new'))));
        log.append(element);
      }
      shown.set(entry.key, { entry, element });
    }
    log.classList.toggle('empty', !entries.length);
    if (isAtEnd) requestAnimationFrame(scroll);
  });

  return h('aside', { id: 'chat', class: 'panel', 'aria-labelledby': 'chat-title' },
    h('header', null, h('h2', { id: 'chat-title' }, () => t('command.chat')),
      h('button', { type: 'button', class: 'quiet', id: 'btn-chat-close', 'aria-label': () => t('chat.close'), on: { click: () => { state.panel.value = null; } } }, icon('close'))),
    h('p', { class: 'nothing', hidden: () => state.chat.value.entries.length > 0 }, () => t('chat.empty')),
    log,
    h('form', { id: 'chat-form', class: 'compose', autocomplete: 'off', on: { submit: (event) => { event.preventDefault(); submit(); } } },
      input,
      h('button', { type: 'submit', class: 'button main', id: 'btn-send', 'aria-label': () => t('chat.send'), title: () => t('chat.send') }, icon('send'))));
}

/** @param {Entry} entry */
function line({ name, text, time, own, more, refused }) {
  const who = own ? () => t('person.you') : () => name || t('person.somebody');
  return h('article', { class: `line${own ? ' own' : ''}${more ? ' more' : ''}${refused ? ' refused' : ''}` },
    h('header', null, h('span', { class: 'who' }, who), h('time', { title: time }, () => clock(time))),
    h('p', { class: 'text' }, ...linked(text)),
    refused ? h('p', { class: 'mark' }, () => say({ key: 'chat.not-sent' })) : null);
}

/** The text as nodes, with http and https addresses as links. @param {string} text @returns {(Node | string)[]} */
export function linked(text) {
  return linkParts(text).map(({ text: words, href }) => {
    if (!href) return words;
    const link = h('a', { class: 'link', href, target: '_blank', rel: 'noopener noreferrer' });
    append(link, [words]);
    return link;
  });
}
