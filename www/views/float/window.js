// The call in a small window above all others, with its controls (document picture-in-picture).

import * as state from '../../state.js';
import { effect, scope } from '../../store.js';
import { tileModels } from '../../tiles.js';
import { language, t } from '../../words/index.js';
import { tool } from '../bar.js';
import { h, hue, initials } from '../dom.js';

/** @typedef {import('../../tiles.js').TileModel} TileModel */

/** Maximum number of pictures in the window. */
const MAX_PEOPLE = 4;
const SIZE = { width: 380, height: 300 };

/** Opens the window, or closes it. @param {import('../../commands.js').App} app @param {Record<string, import('../../commands.js').Command>} commands */
export async function toggleWindow(app, commands) {
  const { documentPictureInPicture: pip } = /** @type {any} */ (globalThis);
  if (!pip) return;
  if (pip.window) return pip.window.close();
  /** @type {Window} */
  const small = await pip.requestWindow(SIZE);
  state.isFloating.value = true;
  const { document: page } = small;
  for (const { href } of /** @type {NodeListOf<HTMLLinkElement>} */ (document.querySelectorAll('link[rel=stylesheet]'))) {
    page.head.append(h('link', { rel: 'stylesheet', href }));
  }
  const end = scope(() => {
    const pictures = h('div', { class: 'float-pictures' });
    effect(() => {
      page.documentElement.lang = language.value;
      page.documentElement.dir = document.documentElement.dir;
      page.title = state.room.value.me?.room ?? '';
    });
    /** @type {Map<string, { element: HTMLElement, write: (model: TileModel) => void }>} */
    const shown = new Map();
    effect(() => {
      const models = chosen(app);
      const keys = new Set(models.map(({ key }) => key));
      for (const [key, { element }] of shown) {
        if (keys.has(key)) continue;
        element.remove();
        shown.delete(key);
      }
      for (const model of models) {
        const known = shown.get(model.key) ?? picture();
        if (!shown.has(model.key)) pictures.append(known.element);
        shown.set(model.key, known);
        known.write(model);
      }
      pictures.dataset.count = String(models.length);
    });
    effect(() => { if (!state.isInCall.value) small.close(); });
    page.body.className = 'float';
    page.body.append(
      h('main', { 'aria-label': () => t('call.people') }, pictures, h('p', { class: 'nothing', hidden: () => state.room.value.people.size > 0 }, () => t('float.alone'))),
      h('nav', { class: 'bar', 'aria-label': () => t('call.controls') }, tool(commands.mic), tool(commands.camera), tool(commands.leave, 'leave')));
  });
  small.addEventListener('pagehide', () => {
    end();
    state.isFloating.value = false;
  });
}

/** Shared screens, then people; the speaker is always included. @param {import('../../commands.js').App} app @returns {TileModel[]} */
function chosen(app) {
  const { camera, microphone } = app.local.value?.state.value ?? { camera: null, microphone: false };
  const all = tileModels({ room: state.room.value, lines: state.lines.value, camera, microphone, away: state.phase.value !== 'joined', unwatched: state.unwatched.value });
  const others = all.filter(({ own }) => !own).sort((a, b) => Number(b.source === 'screen') - Number(a.source === 'screen'));
  const first = others.slice(0, MAX_PEOPLE);
  const speaker = others.slice(MAX_PEOPLE).find(({ speaking }) => speaking);
  return speaker ? [...first.slice(0, -1), speaker] : first;
}

function picture() {
  const video = h('video', { autoplay: true, playsinline: true, muted: true }); // the sound goes on in the page
  const face = h('span', { class: 'avatar', 'aria-hidden': 'true' });
  const name = h('p', { class: 'chip' });
  const element = h('figure', null, face, video, name);
  /** @type {MediaStreamTrack | null} */
  let track = null;
  return {
    element,
    write(/** @type {TileModel} */ model) {
      const who = model.name || t('person.guest');
      name.textContent = model.source === 'screen' ? t('tile.screen', { name: who }) : who;
      face.textContent = initials(who);
      face.style.setProperty('--hue', String(hue(who)));
      element.className = `${model.source}${model.speaking && !model.silent ? ' speaking' : ''}`;
      video.hidden = !model.video;
      if (track === model.video) return;
      track = model.video;
      video.srcObject = track && new MediaStream([track]);
      if (track) video.play().catch(() => {});
    },
  };
}
