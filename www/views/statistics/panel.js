// The panel of statistics: the way of the media, the last minute, and the figures of each picture.

import { announce } from '../../announce.js';
import { tell } from '../../notices.js';
import { sampler } from '../../session/sampler.js';
import { reasonOf, reportOf } from '../../session/statistics.js';
import * as state from '../../state.js';
import { effect, signal } from '../../store.js';
import { language, t } from '../../words/index.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { alone, bits, milliseconds, share, size } from './figures.js';
import { graph } from './graph.js';

/** @typedef {import('../../session/statistics.js').Row} Row */
/** @typedef {import('../../session/statistics.js').Figures} Figures */

const isPersonal = signal(false);

/** @param {import('../../commands.js').App} app */
export function panel(app) {
  const { reading, minute, close } = sampler(app.session);
  effect(() => () => {
    close();
    state.statisticsFirst.value = null;
  });
  const rate = (/** @type {'down' | 'up'} */ which) => graph(
    () => t(which === 'down' ? 'figures.down' : 'figures.up'),
    () => bits(minute.value.at(-1)?.[which] ?? 0),
    () => minute.value.map((each) => ({ at: each.at, value: each[which] })));
  const list = h('div', { id: 'figures' });
  /** @type {Map<string, { element: HTMLElement, write: (row: Row) => void }>} */
  const shown = new Map();
  effect(() => {
    language.value;
    const first = state.statisticsFirst.value;
    const rows = [...reading.value.rows].sort((a, b) => Number(b.key === first) - Number(a.key === first) || Number(a.own) - Number(b.own));
    const keys = new Set(rows.map(({ key }) => key));
    for (const [key, { element }] of shown) {
      if (keys.has(key)) continue;
      element.remove();
      shown.delete(key);
    }
    rows.forEach((row, at) => {
      const section = shown.get(row.key) ?? part(row);
      shown.set(row.key, section);
      section.write(row);
      if (list.children[at] !== section.element) list.insertBefore(section.element, list.children[at] ?? null);
    });
  });

  async function copy() {
    const about = { agent: navigator.userAgent, time: new Date().toISOString(), isPersonal: isPersonal.peek(), nameOf: (/** @type {string} */ id) => state.nameOf(id) ?? '' };
    const text = JSON.stringify(reportOf(reading.peek(), minute.peek(), about), null, 2);
    try {
      await navigator.clipboard.writeText(text);
      tell({ key: 'figures.copied' });
      announce({ key: 'figures.copied' });
    } catch {
      tell({ key: 'figures.not-copied' }, 'warn');
    }
  }

  const personal = h('input', { type: 'checkbox', role: 'switch', id: 'report-personal', checked: () => isPersonal.value, on: { change: () => { isPersonal.value = personal.checked; } } });
  return h('aside', { id: 'statistics', class: 'panel', 'aria-labelledby': 'statistics-title' },
    h('header', null, h('h2', { id: 'statistics-title' }, () => t('figures.title')),
      h('button', { type: 'button', class: 'quiet', id: 'btn-statistics-close', 'data-focus': '', 'aria-label': () => t('figures.close'), on: { click: () => { state.panel.value = null; } } }, icon('close'))),
    h('div', { class: 'people figures-body', tabindex: 0, role: 'group', 'aria-labelledby': 'statistics-title' },
      rate('down'), rate('up'),
      way(() => reading.value.transport),
      list,
      h('button', { type: 'button', class: 'button', id: 'btn-report', on: { click: copy } }, icon('copy'), () => t('figures.copy')),
      h('label', { class: 'switch' }, h('span', null, () => t('figures.personal'), h('small', null, () => t('figures.personal-hint'))), personal)));
}

/** @param {() => import('../../session/statistics.js').Transport | null} transport */
function way(transport) {
  const kind = (/** @type {import('../../session/statistics.js').Transport} */ { local, remote }) => t(local === 'relay' || remote === 'relay' ? 'figures.relayed' : 'figures.direct');
  return pairs([
    ['figures.way', () => {
      const now = transport();
      return now ? `${alone((now.relay || now.protocol).toUpperCase())}, ${kind(now)} (${alone(`${now.local}, ${now.remote}`)})` : t('figures.none');
    }],
    ['figures.round-trip', () => milliseconds(transport()?.roundTrip)],
    ['figures.available', () => { const most = transport()?.available; return most ? bits(most) : ''; }],
  ]);
}

/** @param {[import('../../words/index.js').Key, () => string][]} entries */
function pairs(entries) {
  return h('dl', { class: 'figures-list' }, ...entries.flatMap(([key, value]) => [
    h('dt', { hidden: () => !value() }, () => t(key)), h('dd', { hidden: () => !value() }, value)]));
}

/** The figures of a picture. @param {Row} first */
function part(first) {
  const title = h('h3', null);
  const why = h('p', { class: 'why' });
  const rows = h('div', { class: 'streams' });
  const element = h('section', { 'data-key': first.key }, title, why, rows);
  return {
    element,
    write(/** @type {Row} */ row) {
      const person = row.own ? t('person.you') : state.nameOf(row.id) ?? t('person.guest');
      put(title, row.source === 'screen' ? t('tile.screen', { name: person }) : person);
      const reason = reasonOf(row);
      put(why, reason ? t(/** @type {any} */ (`why.${reason}`)) : '');
      why.hidden = !reason;
      const texts = row.streams.map((stream) => line(stream, row));
      while (rows.children.length > texts.length) rows.lastElementChild?.remove();
      while (rows.children.length < texts.length) rows.append(h('p', null));
      texts.forEach((text, at) => put(/** @type {HTMLElement} */ (rows.children[at]), text));
    },
  };
}

/** @param {Figures} stream @param {Row} row */
function line(stream, { quality }) {
  const { kind, width, height, fps, bitrate, codec, loss, jitter, roundTrip, freezes, rid } = stream;
  const layer = rid || (kind === 'video' && quality?.rid) || '';
  return [
    kind === 'audio' ? t('figures.sound') : width ? size(width, height) : t('figures.no-picture'),
    kind === 'video' && width ? t('figures.fps', { fps }) : '',
    bits(bitrate), codec, layer && t('figures.layer', { layer }),
    loss === null ? '' : t('figures.loss', { loss: share(loss) }),
    jitter === null ? '' : t('figures.jitter', { jitter: milliseconds(jitter) }),
    roundTrip === null ? '' : t('figures.trip', { trip: milliseconds(roundTrip) }),
    freezes === null ? '' : t('figures.freezes', { count: freezes }),
  ].filter(Boolean).join(' · ');
}

/** @param {HTMLElement} element @param {string} text */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
