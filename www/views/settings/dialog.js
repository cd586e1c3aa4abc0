// The dialog of the settings: devices, sound and picture, announcements, language.

import { cameras, microphones, withSystem } from '../../devices/list.js';
import { canChooseSpeaker, chooseQuality, chooseSpeaker, isMirrored, QUALITIES, quality, speaker, switches, turn } from '../../devices/options.js';
import { effect, scope } from '../../store.js';
import { language, NAMES, setLanguage, t } from '../../words/index.js';
import { h } from '../dom.js';
import { icon } from '../icons.js';
import { meter } from './meter.js';
import { playTone } from './tone.js';

/** @typedef {import('../../words/index.js').Key} Key */
/** @typedef {import('../../devices/list.js').Device} Device */

/** @param {Pick<import('../../commands.js').App, 'local'>} app */
export function openSettings(app) {
  if (document.getElementById('settings')) return;
  const before = document.activeElement;
  const end = scope(() => {
    const dialog = view(app);
    dialog.addEventListener('close', () => {
      end();
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** @param {Pick<import('../../commands.js').App, 'local'>} app */
function view(app) {
  const own = () => app.local.value?.state.value;
  const idOf = (/** @type {MediaStreamTrack | null | undefined} */ track) => track?.getSettings().deviceId ?? '';
  const camera = () => own()?.camera ?? null;
  const video = h('video', { class: () => (isMirrored(own()) ? 'mirror whole' : 'whole'), autoplay: true, playsinline: true, muted: true, 'aria-hidden': 'true' });
  effect(() => { video.srcObject = camera() && new MediaStream([/** @type {MediaStreamTrack} */ (camera())]); });
  const canBlur = () => Boolean(/** @type {any} */ (camera())?.getCapabilities?.().backgroundBlur?.length);
  // Chromium does not change a microphone that is open.
  const tune = () => app.local.peek()?.reopen('microphone');

  const dialog = h('dialog', { id: 'settings', 'aria-labelledby': 'settings-title', closedby: 'any' },
    h('div', { class: 'dialog-head' }, h('h2', { id: 'settings-title' }, () => t('settings.title')),
      h('button', { type: 'button', class: 'quiet', id: 'btn-settings-close', autofocus: true, 'aria-label': () => t('settings.close'), on: { click: () => dialog.close() } }, icon('close'))),
    h('div', { class: 'dialog-body settings', tabindex: 0, role: 'group', 'aria-labelledby': 'settings-title' },
      section('settings.sound',
        picker('microphone', () => t('device.microphone-name'), () => microphones.value, () => idOf(own()?.audio), (id) => app.local.peek()?.choose('microphone', id), null, meter(app)),
        canChooseSpeaker() ? picker('speaker', () => t('device.speaker-name'), () => withSystem(t('settings.system')), () => speaker.value, chooseSpeaker,
          h('button', { type: 'button', class: 'button', id: 'btn-tone', on: { click: () => playTone(speaker.peek()) } }, icon('volume'), () => t('settings.tone'))) : null,
        choice('noise', 'settings.noise-hint', tune), choice('echo', null, tune), choice('gain', null, tune)),
      section('settings.picture',
        h('div', { class: 'preview small', hidden: () => !camera() }, video),
        picker('camera', () => t('device.camera-name'), () => cameras.value, () => idOf(camera()), (id) => app.local.peek()?.choose('camera', id)),
        qualities(),
        choice('mirror'),
        h('div', { hidden: () => !canBlur() }, choice('blur', null, () => app.local.peek()?.blur(switches.peek().blur)))),
      section('settings.announcements', choice('sayJoins'), choice('sayChat'), choice('sayHands')),
      section('settings.language', languages())));
  return dialog;
}

/** @param {Key} title @param {...(HTMLElement | null)} parts */
function section(title, ...parts) {
  return h('section', null, h('h3', null, () => t(title)), ...parts);
}

/**
 * @param {string} id @param {() => string} name @param {() => readonly Device[]} list @param {() => string} current
 * @param {(id: string) => void} choose @param {HTMLElement | null} [beside] @param {HTMLElement} [foot]
 */
function picker(id, name, list, current, choose, beside, foot) {
  const select = h('select', { class: 'select', id: `set-${id}`, on: { change: () => choose(select.value) } });
  effect(() => {
    const devices = list();
    select.replaceChildren(...devices.map((device) => new Option(device.label, device.id)));
    select.value = current();
  });
  return h('div', { class: 'field', hidden: () => !list().length }, h('label', { for: `set-${id}` }, name),
    h('div', { class: 'with-button' }, h('div', { class: 'picker' }, select, icon('down')), beside ?? null), foot ?? null);
}

/** A switch. @param {import('../../devices/options.js').Switch} name @param {Key | null} [hint] @param {() => void} [apply] */
function choice(name, hint, apply) {
  const input = h('input', {
    type: 'checkbox', role: 'switch', id: `set-${name}`, checked: () => switches.value[name],
    on: { change: () => { turn(name, input.checked); apply?.(); } },
  });
  return h('label', { class: 'switch' }, h('span', null, () => t(`settings.${name}`), hint ? h('small', null, () => t(hint)) : null), input);
}

function qualities() {
  const select = h('select', { class: 'select', id: 'set-quality', on: { change: () => chooseQuality(/** @type {import('../../devices/options.js').Quality} */ (select.value)) } });
  effect(() => {
    select.replaceChildren(...QUALITIES.map((each) => new Option(t(`settings.quality-${each}`), each)));
    select.value = quality.value;
  });
  return h('div', { class: 'field' }, h('label', { for: 'set-quality' }, () => t('settings.quality')), h('div', { class: 'picker' }, select, icon('down')));
}

function languages() {
  const select = h('select', { class: 'select', id: 'set-language', 'aria-label': () => t('settings.language'), on: { change: () => { setLanguage(select.value); } } },
    ...Object.entries(NAMES).map(([code, name]) => h('option', { value: code, lang: code }, name)));
  effect(() => { select.value = language.value; });
  return h('div', { class: 'picker' }, select, icon('down'));
}
