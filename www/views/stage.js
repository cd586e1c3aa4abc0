// The stage: the tiles of the call, where the layout puts them.

import { announce } from '../announce.js';
import { effect, untracked, signal, computed } from '../store.js';
import { layout } from '../layout.js';
import { reorder, UNORDERED } from '../order.js';
import { key } from '../room.js';
import { quality } from '../devices/options.js';
import * as state from '../state.js';
import { isSame, sharers, tileModels } from '../tiles.js';
import { language, t } from '../words/index.js';
import { h } from './dom.js';
import { glide } from './glide.js';
import { icon } from './icons.js';
import { Tile } from './tile.js';
import { cornerTowards } from './tiles/corner.js';
import { moveSelf } from './tiles/self.js';

/** To save data, cameras are requested for tiles of at most this height, in device pixels: the smallest layer. */
const SAVING_HEIGHT = 180;

/** @typedef {import('../layout.js').Placed} Placed */

/** The same as in style/call.css. */
export const PHONE = '(max-width: 599px), (max-height: 479px)';

/**
 * @param {{ local: () => import('../devices/local.js').Local | null, show: (shown: Map<string, import('../session/view.js').Shown>) => void, options: (tile: Tile) => void, nextShare: () => void }} app
 */
export function stage(app) {
  /** @type {Map<string, Tile>} */
  const tiles = new Map();
  const space = signal({ width: 0, height: 0 });
  const order = signal(UNORDERED);
  const fullscreen = signal(/** @type {Element | null} */ (null));
  const phone = matchMedia(PHONE);
  const isPhone = signal(phone.matches);
  phone.addEventListener('change', () => { isPhone.value = phone.matches; });
  const aspects = signal(/** @type {ReadonlyMap<string, number>} */ (new Map())); // of shared screens
  const element = h('section', { id: 'tiles', 'aria-label': () => t('call.people') });
  new ResizeObserver(([{ contentRect: { width, height } }]) => { space.value = { width, height }; }).observe(element);
  element.addEventListener('keydown', (event) => moveFocus(event, element));
  moveSelf(element);
  document.addEventListener('fullscreenchange', () => { fullscreen.value = document.fullscreenElement; });

  const models = computed(() => {
    const { camera, microphone } = app.local()?.state.value ?? { camera: null, microphone: false };
    return tileModels({ room: state.room.value, lines: state.lines.value, camera, microphone, away: state.phase.value !== 'joined', volumes: state.volumes.value, unwatched: state.unwatched.value });
  });
  const shares = computed(() => sharers(state.room.value, state.lines.value));
  const sharer = h('span', null);
  const caption = h('div', { class: 'share-caption', hidden: true }, sharer, h('button', {
    type: 'button', id: 'btn-next-share', class: 'quiet', hidden: () => shares.value.length < 2, 'aria-label': () => t('share.other'), title: () => t('share.other'), on: { click: app.nextShare },
  }, icon('next')));
  element.prepend(caption);
  // A pin of this participant takes precedence over a moderator's spotlight.
  const large = computed(() => state.pinned.value ?? (state.room.value.spotlight && key(state.room.value.spotlight, 'camera')));
  const arrangement = computed(() => layout({
    people: order.value.ids, own: state.room.value.me?.id ?? '', shares: shares.value, pinned: large.value,
    speaker: order.value.speaker, mode: state.mode.value, space: space.value, phone: isPhone.value,
    page: state.page.value, corner: state.corner.value, self: state.selfView.value, aspects: aspects.value,
  }));

  let tileLanguage = language.peek(); // the language of the tiles' text
  effect(() => {
    const [lang, wanted] = [language.value, models.value];
    untracked(() => setTiles(wanted, lang));
  });

  /** @param {import('../tiles.js').TileModel[]} wanted @param {string} lang */
  function setTiles(wanted, lang) {
    const keys = new Set(wanted.map(({ key }) => key));
    for (const [key, tile] of tiles) {
      if (keys.has(key)) continue;
      tiles.delete(key);
      tile.remove();
      if (state.pinned.peek() === key) state.pinned.value = null;
    }
    for (const model of wanted) tiles.get(model.key)?.picture.keepOnly(model.audio, model.video);
    for (const model of wanted) {
      let tile = tiles.get(model.key);
      if (!tile) {
        tile = new Tile(model, { blocked: () => { state.isSoundBlocked.value = true; }, options: app.options });
        tiles.set(model.key, tile);
        if (model.source === 'screen') followAspect(tile);
        const self = element.querySelector(':scope > .self');
        element.insertBefore(tile.element, self);
      } else if (!isSame(model, tile.model) || lang !== tileLanguage) tile.update(model);
      tile.picture.setTracks(model.audio, model.video);
    }
    tileLanguage = lang;
  }

  /** A shared window can have any aspect ratio, and it changes when the window is resized. @param {Tile} tile */
  function followAspect({ model: { key: of }, picture: { element: video } }) {
    video.addEventListener('resize', () => {
      const { videoWidth, videoHeight } = video;
      if (videoWidth && videoHeight) aspects.value = new Map(aspects.peek()).set(of, videoWidth / videoHeight);
    });
  }

  // The order follows who joins, leaves and speaks.
  let timer = 0;
  const updateOrder = () => {
    clearTimeout(timer);
    const { people, speaking } = state.room.value;
    const seen = { ids: [...people.keys()], speaking, slots: arrangement.peek().slots, now: performance.now() };
    const next = reorder(order.peek(), seen);
    const before = order.peek();
    const isChanged = next.order.speaker !== before.speaker || next.order.ids.join() !== before.ids.join();
    if (isChanged) order.value = next.order;
    else Object.assign(before, next.order);
    if (next.wake !== null) timer = window.setTimeout(updateOrder, Math.max(10, next.wake - performance.now()));
  };
  effect(updateOrder);

  let windowSize = '';
  effect(() => {
    const { kind, tiles: placed, page, pages, caption: captionBox } = arrangement.value;
    models.value; // a tile may be new
    state.pinned.value; // its tile is marked
    language.value;
    untracked(() => {
      const size = `${innerWidth} ${innerHeight}`;
      const glides = size === windowSize; // while a window is resized, tiles follow at once
      windowSize = size;
      place(placed, glides);
      state.pages.value = pages;
      if (state.page.peek() !== page) state.page.value = page;
      element.dataset.kind = kind;
      element.dataset.corner = kind === 'duo' && state.selfView.peek() !== 'hidden' ? state.corner.peek() : '';
      setBox(caption, captionBox);
      const shown = placed.find(({ role }) => role === 'share');
      if (captionBox && shown) sharer.textContent = t('tile.screen', { name: tiles.get(shown.key)?.model.name || t('person.guest') });
    });
  });

  /** @param {Placed[]} placed @param {boolean} glides */
  function place(placed, glides) {
    const boxes = new Map(placed.map((each) => [each.key, each]));
    const isMirrored = document.documentElement.dir === 'rtl';
    const { width: stageWidth } = space.peek();
    for (const [key, tile] of tiles) {
      const box = boxes.get(key);
      tile.isShown = Boolean(box);
      tile.element.classList.toggle('away', !box);
      tile.element.inert = !box;
      if (!box) continue;
      tile.element.dataset.role = box.role;
      tile.element.classList.toggle('small', box.role === 'self' && state.selfView.peek() === 'chip');
      tile.element.classList.toggle('pinned', state.pinned.peek() === key);
      const x = isMirrored ? stageWidth - box.x - box.width : box.x;
      glide(tile, { ...box, x }, glides);
    }
    const first = placed.find(({ role }) => role !== 'self')?.key;
    const hasTabStop = [...tiles.values()].some(({ button, isShown }) => button.tabIndex === 0 && isShown);
    if (!hasTabStop) for (const [key, { button }] of tiles) button.tabIndex = key === first ? 0 : -1;
  }

  // Announces shares that begin or end, except while a new connection has no m-lines yet.
  let announced = new Set();
  effect(() => {
    const now = new Set(shares.value);
    const isKnown = state.lines.value.length > 0;
    untracked(() => {
      if (!isKnown) return;
      const name = (/** @type {string} */ id) => ({ name: state.nameOf(id) ?? /** @type {const} */ ({ key: 'person.guest' }) });
      for (const id of now) if (!announced.has(id)) announce({ key: 'share.began', params: name(id) });
      for (const id of announced) if (!now.has(id)) announce({ key: 'share.ended', params: name(id) });
      announced = now;
    });
  });

  // Requests visible videos only, at the size of their tiles.
  effect(() => {
    const boxes = new Map(arrangement.value.tiles.map((each) => [each.key, each]));
    const full = fullscreen.value;
    const shown = new Map();
    for (const { key, own, unwatched } of models.value) {
      if (own) continue;
      const isOff = unwatched || (quality.value === 'audio' && !key.endsWith(' screen'));
      const box = isOff ? null : full && tiles.get(key)?.element === full ? { width: innerWidth, height: innerHeight } : boxes.get(key);
      const maxHeight = quality.value === 'auto' || key.endsWith(' screen') ? Infinity : SAVING_HEIGHT;
      const ratio = Math.min(devicePixelRatio, maxHeight / Math.max(1, box?.height ?? 0));
      const isLarge = boxes.get(key)?.role === 'share' || large.value === key || key.endsWith(' screen');
      // With last-N, priorities of 2 and higher give participants a seat right after those who speak.
      shown.set(key, { width: (box?.width ?? 0) * ratio, height: (box?.height ?? 0) * ratio, priority: isLarge ? 2 : 1 });
    }
    untracked(() => app.show(shown));
  });

  effect(() => {
    if (state.isInCall.value) return;
    state.volumes.value = new Map();
    state.unwatched.value = new Set();
  });

  effect(() => {
    const { isSilent } = state.look.value;
    if (!document.hidden) for (const tile of tiles.values()) if (!tile.model.own) tile.look(isSilent);
  });

  return {
    element,
    arrangement,
    resume: () => tiles.forEach(({ picture }) => picture.resume()),
    hear: () => tiles.forEach(({ picture }) => picture.hear()),
  };
}

/** @param {HTMLElement} element @param {import('../layout.js').Box | null} box */
export function setBox(element, box) {
  element.hidden = !box;
  if (!box) return;
  const { style } = element;
  [style.insetInlineStart, style.top] = [`${box.x}px`, `${box.y}px`];
  [style.width, style.height] = [`${box.width}px`, `${box.height}px`];
}

/** The tiles are one Tab stop; the arrow keys move between them. @param {KeyboardEvent} event @param {HTMLElement} root */
function moveFocus(event, root) {
  const steps = /** @type {Record<string, number>} */ ({ ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 });
  const step = steps[event.key];
  const buttons = /** @type {HTMLElement[]} */ ([...root.querySelectorAll('.tile:not(.away) > .tile-button')]);
  const at = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  if (!step || at < 0) return;
  event.preventDefault();
  const isRightToLeft = document.documentElement.dir === 'rtl';
  // Arrow keys first move one's own picture to another corner.
  const corner = buttons[at].closest('[data-role=self]') && cornerTowards(state.corner.peek(), event.key, isRightToLeft);
  if (corner) {
    state.corner.value = corner;
    return;
  }
  const isMirrored = isRightToLeft && /Left|Right/.test(event.key);
  const next = buttons[(at + (isMirrored ? -step : step) + buttons.length) % buttons.length];
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus();
}
