// The preview in the lobby: how others will see and hear oneself, and the menus of the devices.

import { cameras, canFlip, microphones, speakers, withSystem } from '../devices/list.js';
import { canChooseSpeaker, chooseSpeaker, isMirrored, speaker } from '../devices/options.js';
import { effect } from '../store.js';
import { say, t } from '../words/index.js';
import { h, hue, initials } from './dom.js';
import { icon } from './icons.js';
import { meter } from './settings/meter.js';

/** @typedef {import('../devices/local.js').DeviceName} DeviceName */

/** @typedef {{ local: import('../commands.js').App['local'], open: () => void, tone: () => void }} App `open` opens the wanted devices, `tone` tests the loudspeaker */

const touch = matchMedia('(pointer: coarse)');

/** @param {import('./lobby.js').Form} form @param {App} app @returns {HTMLElement} */
export function preview(form, app) {
  const own = () => app.local.value?.state.value;
  const problem = () => app.local.value?.problem.value ?? null;
  const cause = () => problem()?.cause;
  const isBlank = () => !own()?.camera;
  const video = h('video', { class: () => (isMirrored(own()) ? 'mirror whole' : 'whole'), autoplay: true, playsinline: true, muted: true, hidden: isBlank, 'aria-label': () => t('lobby.preview') });
  effect(() => {
    const camera = own()?.camera ?? null;
    video.srcObject = camera && new MediaStream([camera]);
    if (camera) video.play().catch(() => {});
  });
  const isExplained = () => cause() === 'refused' || cause() === 'insecure';
  const name = () => form.name.value.trim();
  const way = () => problem()?.way;
  const flip = h('button', {
    type: 'button', id: 'btn-flip', class: 'button flip', 'aria-label': () => t('command.flip'), title: () => t('command.flip'),
    hidden: () => isBlank() || !canFlip({ cameras: cameras.value.length, facing: own()?.facing, isTouch: touch.matches }),
    on: { click: () => { app.local.peek()?.flip(); } },
  }, icon('flip'));

  const blank = h('div', { class: 'blank', hidden: () => !isBlank() || isExplained() },
    h('span', { class: 'initials', 'aria-hidden': 'true' }, () => initials(name())),
    h('p', null, () => (own()?.opening ? t('lobby.asked') : problem() ? say(problem()?.words ?? null) : t('lobby.camera-off'))));
  effect(() => blank.style.setProperty('--hue', String(hue(name()))));
  const steps = h('div', { class: 'blank steps', hidden: () => cause() !== 'refused' || !isBlank() },
    h('h2', null, icon('camera-off'), () => t('blocked.title')),
    h('ol', null, h('li', null, () => t(way()?.one ?? 'blocked.other-one')), h('li', null, () => t(way()?.two ?? 'blocked.allow')), h('li', null, () => t('blocked.back'))),
    h('button', { type: 'button', class: 'button', id: 'btn-again', on: { click: app.open } }, icon('retry'), () => t('action.try-again')));
  const insecure = h('div', { class: 'blank steps', hidden: () => cause() !== 'insecure' },
    h('h2', null, icon('info'), () => t('insecure.title')),
    h('p', null, () => t('insecure.text')),
    h('p', null, () => t('insecure.host')));

  return h('div', { class: 'preview-box' },
    h('div', { class: 'preview' }, video, blank, steps, insecure, h('p', { class: 'chip', hidden: () => isBlank() || !name() }, name), flip),
    h('div', { class: 'devices', hidden: () => cause() === 'insecure' },
      device('microphone', form, app, meter(app)), device('camera', form, app), loudspeaker(app)));
}

/** The menu of the loudspeakers, and a tone. @param {App} app */
function loudspeaker(app) {
  const words = () => t('device.tone');
  const hasChoice = () => canChooseSpeaker() && speakers.value.length > 0;
  const select = h('select', {
    class: 'select', id: 'pick-speaker', 'aria-label': () => t('device.speaker-name'), on: { change: () => chooseSpeaker(select.value) },
  });
  effect(() => {
    select.replaceChildren(...withSystem(t('settings.system')).map(({ id, label }) => new Option(label, id)));
    select.value = speaker.value;
  });
  return h('div', { class: 'device' },
    h('button', { type: 'button', class: () => `button toggle${hasChoice() ? '' : ' whole'}`, id: 'btn-tone', 'aria-label': words, title: words, on: { click: app.tone } },
      icon('volume'), h('span', { class: 'words', hidden: hasChoice }, words)),
    h('div', { class: 'picker', hidden: () => !hasChoice() }, select, h('span', { class: 'icon-holder' }, icon('down'))));
}

/** @param {DeviceName} source @param {import('./lobby.js').Form} form @param {App} app @param {HTMLElement} [foot] */
function device(source, form, app, foot) {
  const isMicrophone = source === 'microphone';
  const list = isMicrophone ? microphones : cameras;
  const own = () => app.local.value?.state.value;
  const isOn = () => (isMicrophone ? own()?.microphone : Boolean(own()?.camera)) ?? false;
  const track = () => (isMicrophone ? own()?.audio : own()?.camera);
  const toggle = async () => {
    const local = app.local.peek();
    await (isMicrophone ? local?.toggleMicrophone() : local?.toggleCamera());
    form.want.value = { ...form.want.peek(), [source]: isOn() };
  };
  const words = () => t(isMicrophone ? (isOn() ? 'command.mute' : 'command.unmute') : isOn() ? 'command.stop-camera' : 'command.start-camera');
  const select = h('select', {
    class: 'select', id: `pick-${source}`, 'aria-label': () => t(isMicrophone ? 'device.microphone-name' : 'device.camera-name'),
    on: { change: () => { app.local.peek()?.choose(source, select.value); } },
  });
  effect(() => {
    const current = track()?.getSettings().deviceId;
    select.replaceChildren(...list.value.map(({ id, label }) => h('option', { value: id }, label)));
    if (current) select.value = current;
  });
  return h('div', { class: 'device' },
    h('button', {
      type: 'button', class: () => `button toggle${isOn() ? '' : ' off'}${list.value.length ? '' : ' whole'}`, id: isMicrophone ? 'with-mic' : 'with-camera',
      'aria-label': words, title: words, on: { click: toggle },
    }, icon(() => `${isMicrophone ? 'mic' : 'camera'}${isOn() ? '' : '-off'}`)),
    h('div', { class: 'picker', hidden: () => !list.value.length }, select, h('span', { class: 'icon-holder' }, icon('down'))),
    foot ?? null);
}
