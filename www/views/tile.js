// One tile: a participant's face or shared screen, with its name and its problems.

import { hue, initials } from './dom.js';
import { icon } from './icons.js';
import { Picture } from './picture.js';
import { number, t } from '../words/index.js';

/** @typedef {import('../tiles.js').TileModel} TileModel */

/** The limits of `quality` that are shown; a limit that is normal for a moment is shown after this many milliseconds. @type {Record<string, number>} */
const SHOWN_LIMITS = { bandwidth: 0, server: 0, oversized: 0, keyframe: 3000 };

const touch = matchMedia('(hover: none)');

export class Tile {
  isShown = true; // on this page of the layout
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  timer = undefined;
  slow = ''; // the limit that is shown
  /** @type {TileModel['reaction'] | undefined} */
  shown = undefined; // the reaction that is shown
  /** @type {string | null} */
  place = null; // the rectangle that was last set

  /**
   * @param {TileModel} model
   * @param {{ blocked: () => void, options: (tile: Tile) => void }} on
   */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    const isScreen = model.source === 'screen';
    const element = this.element = document.createElement('article');
    element.className = `tile${isScreen ? ' screen' : ''}${model.own ? ' self' : ''}`;
    element.dataset[isScreen ? 'screenOf' : 'id'] = model.id;
    this.face = make('div', 'face');
    this.face.setAttribute('aria-hidden', 'true');
    this.note = make('p', 'note');
    this.stall = make('p', 'stall');
    this.stall.hidden = true;
    this.hand = make('p', 'chip hand');
    this.hand.setAttribute('aria-hidden', 'true'); // the tile's label says it
    this.queue = make('span');
    this.hand.append(icon('hand'), this.queue);
    this.reaction = make('p', 'reaction');
    this.reaction.setAttribute('aria-hidden', 'true');
    this.label = make('p', 'chip label');
    this.nameText = make('span', 'name');
    this.mark = make('span', 'slow');
    this.mark.append(icon('weak'));
    this.muteIcon = icon('mic-off');
    this.wave = make('span', 'wave');
    this.wave.append(make('i'), make('i'), make('i'));
    this.label.append(this.muteIcon, this.wave, this.nameText, this.mark);
    this.picture = new Picture(model.own, {
      shown: (isShown) => {
        element.classList.toggle('has-video', isShown);
        this.write();
      },
      frozen: (isFrozen) => {
        element.classList.toggle('frozen', isFrozen);
        this.stall.hidden = !isFrozen;
      },
      blocked: on.blocked,
    });
    this.button = document.createElement('button');
    this.button.type = 'button';
    this.button.className = 'tile-button';
    this.button.tabIndex = -1;
    this.button.setAttribute('aria-haspopup', 'dialog');
    this.button.append(icon('more'));
    this.button.onclick = () => on.options(this);
    // On touch screens the button is not shown: the tile itself opens the menu.
    element.onclick = ({ target }) => { if (touch.matches && !this.button.contains(/** @type {Node} */ (target))) on.options(this); };
    element.append(this.picture.element, this.face, this.note, this.stall, this.hand, this.reaction, this.label, this.button);
    this.write();
    this.setQuality();
    this.picture.setVolume(model.volume);
  }

  /** @param {TileModel} model */
  update(model) {
    const before = this.model;
    this.model = model;
    this.write();
    if (before.quality !== model.quality) this.setQuality();
    this.picture.setVolume(model.volume);
  }

  /** Shows all but the tracks. */
  write() {
    const { element, model } = this;
    const { own, silent, speaking, lost, undecodable, unwatched, quality, hand } = model;
    const name = model.name || t(own ? 'person.you' : 'person.guest');
    const words = own ? t('person.you') : model.source === 'screen' ? t('tile.screen', { name }) : name;
    element.dataset.name = name;
    element.classList.toggle('silent', silent);
    element.classList.toggle('speaking', speaking);
    this.muteIcon.style.display = silent ? '' : 'none';
    this.wave.hidden = !speaking || silent;
    setText(this.nameText, words);
    const mute = silent ? t('tile.silent', { name: words }) : words;
    element.setAttribute('aria-label', hand ? t('tile.hand', { name: mute, place: hand }) : mute);
    this.hand.hidden = !hand;
    setText(this.queue, hand ? number(hand) : '');
    this.react();
    this.button.setAttribute('aria-label', own ? t('tile.own-options') : t('tile.options', { name: words }));
    setText(this.stall, t('tile.frozen'));
    this.drawFace(name);
    const isStopped = this.slow && quality && !quality.sent;
    const note = lost ? t('tile.lost')
      : unwatched ? t('watch.not')
      : undecodable && !element.classList.contains('has-video') ? t('error.cannot-decode')
        : isStopped ? t(/** @type {any} */ (`tile.stopped-${this.slow}`)) : '';
    setText(this.note, note);
    this.note.hidden = !note;
    this.mark.hidden = !this.slow;
    this.mark.title = this.slow ? t(/** @type {any} */ (`tile.limit-${this.slow}`)) : '';
  }

  /** Starts the animation of a new reaction. */
  react() {
    const { reaction } = this.model;
    if (this.shown === reaction) return;
    this.shown = reaction;
    this.reaction.hidden = !reaction;
    this.reaction.replaceChildren();
    if (!reaction) return;
    const emoji = make('span');
    emoji.textContent = reaction.emoji;
    this.reaction.append(emoji);
  }

  /** @param {string} name */
  drawFace(name) {
    if (this.face.dataset.name === name) return;
    this.face.dataset.name = name;
    if (this.model.source === 'screen') return this.face.replaceChildren(icon('screen'));
    const circle = make('span');
    circle.textContent = initials(name);
    this.element.style.setProperty('--hue', String(hue(name)));
    this.face.replaceChildren(circle);
  }

  setQuality() {
    clearTimeout(this.timer);
    const limit = this.model.quality?.limit ?? '';
    const after = SHOWN_LIMITS[limit];
    const show = (/** @type {string} */ slow) => {
      this.slow = slow;
      this.write();
    };
    if (after) this.timer = setTimeout(() => show(limit), after);
    show(after === 0 ? limit : '');
  }

  /** Called regularly, to find a frozen picture. @param {boolean} isSilent whether no packets arrive at all: a shared screen may stand still otherwise */
  look(isSilent) {
    this.picture.look(this.isShown && (isSilent || this.model.source === 'camera'));
  }

  remove() {
    clearTimeout(this.timer);
    this.picture.setTracks(null, null);
    this.element.remove();
  }
}

/** @param {string} tag @param {string} [name] */
function make(tag, name = '') {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

/** @param {HTMLElement} element @param {string} text */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
