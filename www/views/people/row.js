// A row of the list of people.

import { t } from '../../words/index.js';
import { h, hue, initials } from '../dom.js';
import { icon } from '../icons.js';

/** @typedef {import('../../roster.js').Entry} Entry */

export class Row {
  marks = ''; // the icons that are shown

  /** @param {Entry} entry @param {(row: Row) => void} open opens the menu */
  constructor(entry, open) {
    this.entry = entry;
    this.button = h('button', { type: 'button', class: 'quiet', 'aria-haspopup': 'dialog', 'aria-expanded': 'false', on: { click: () => open(this) } }, icon('more'));
    this.name = h('span', { class: 'name' });
    this.words = h('span', { class: 'standing' });
    this.icons = h('span', { class: 'marks', 'aria-hidden': 'true' });
    this.face = h('span', null);
    this.element = h('li', { class: 'person' }, this.face, h('span', { class: 'who' }, this.name, this.words), this.icons, this.button);
  }

  /** @param {Entry} entry */
  write(entry) {
    this.entry = entry;
    const { name, own, hand, speaking, silent, lost, moderator } = entry;
    if (this.element.dataset.name !== name) {
      this.element.dataset.name = name;
      this.name.textContent = name;
      const face = Row.avatar(name);
      this.face.replaceWith(face);
      this.face = face;
    }
    const words = [
      own && t('person.you'), moderator && t('people.moderator'), hand && t('people.hand', { place: hand }),
      lost ? t('people.lost') : silent ? t('people.silent') : speaking && t('people.speaking'),
    ].filter(Boolean);
    const text = words.join(' · ');
    if (this.words.textContent !== text) this.words.textContent = text;
    this.words.hidden = !text;
    this.button.setAttribute('aria-label', t('tile.options', { name }));
    const marks = `${hand ? 'hand' : ''} ${silent ? 'mic-off' : speaking ? 'mic speaks' : 'mic'}`;
    if (this.marks === marks) return;
    this.marks = marks;
    const microphone = h('span', { class: speaking ? 'speaks' : '' }, icon(silent ? 'mic-off' : 'mic'));
    this.icons.replaceChildren(...(hand ? [h('span', { class: 'raised' }, icon('hand'))] : []), microphone);
  }

  /** @param {string} name */
  static avatar(name) {
    const circle = h('span', { class: 'avatar', 'aria-hidden': 'true' }, initials(name));
    circle.style.setProperty('--hue', String(hue(name)));
    return circle;
  }
}
