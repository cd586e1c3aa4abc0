// What the user can do in a call: one table for the bar, the menus and the keyboard.

import { cameras, canFlip } from './devices/list.js';
import { canShareScreen } from './devices/open.js';
import { key } from './room.js';
import * as state from './state.js';
import { sharers } from './tiles.js';

/** @typedef {import('./words/index.js').Words} Words */
/**
 * @typedef {{
 *   id: string, key?: string, words: () => Words, icon: () => string, run: () => void,
 *   isShown?: () => boolean, isOff?: () => boolean, isPressed?: () => boolean, isChecked?: () => boolean, isBad?: boolean,
 * }} Command
 *   `key` is a letter or sign that runs it while nobody types. `isOff`: a device that is off; `isPressed`: something
 *   that is on or open; `isChecked`: one of several choices.
 * @typedef {{
 *   local: import('./store.js').Signal<import('./devices/local.js').Local | null>,
 *   session: () => import('./session/session.js').Session | null,
 *   invite: () => void,
 *   canInvite: () => boolean,
 *   react: () => void,
 *   rename: () => void,
 *   canRename: () => boolean,
 *   end: () => void,
 *   float: () => void,
 *   keys: () => void,
 *   settings: () => void,
 *   leave: () => void,
 * }} App
 */

const isTouch = () => globalThis.matchMedia?.('(pointer: coarse)').matches ?? false;

/** To the camera at the other side of a phone. @param {App} app @returns {Command} */
export function flipCommand(app) {
  const own = () => app.local.value?.state.value;
  return {
    id: 'flip', key: 'f', icon: () => 'flip', words: () => ({ key: 'command.flip' }),
    isShown: () => Boolean(own()?.camera) && canFlip({ cameras: cameras.value.length, facing: own()?.facing, isTouch: isTouch() }),
    run: () => app.local.peek()?.flip(),
  };
}

/** @param {App} app @returns {Record<string, Command>} */
export function commands(app) {
  const own = () => app.local.value?.state.value;
  const canPublish = () => state.rights.value.publish;
  const panel = (/** @type {import('./state.js').PanelName} */ name) => () => { state.panel.value = state.panel.peek() === name ? null : name; };
  const turn = (/** @type {number} */ by) => () => { state.page.value = Math.max(0, Math.min(state.page.peek() + by, state.pages.peek() - 1)); };
  const isRaised = () => state.room.value.hands.includes(state.room.value.me?.id ?? '');
  const isLocked = () => state.room.value.me?.locked ?? false;
  const shares = () => sharers(state.room.value, state.lines.value).map((id) => key(id, 'screen'));
  /** @type {Command[]} */
  const all = [
    {
      id: 'mic', key: 'm', isShown: canPublish, isOff: () => !own()?.microphone,
      icon: () => (own()?.microphone ? 'mic' : 'mic-off'), words: () => ({ key: own()?.microphone ? 'command.mute' : 'command.unmute' }),
      run: () => app.local.peek()?.toggleMicrophone(),
    },
    {
      id: 'camera', key: 'v', isShown: canPublish, isOff: () => !own()?.camera,
      icon: () => (own()?.camera ? 'camera' : 'camera-off'), words: () => ({ key: own()?.camera ? 'command.stop-camera' : 'command.start-camera' }),
      run: () => app.local.peek()?.toggleCamera(),
    },
    flipCommand(app),
    {
      id: 'screen', key: 'd', isShown: () => canPublish() && canShareScreen(), isPressed: () => Boolean(own()?.screen),
      icon: () => (own()?.screen ? 'stop' : 'screen'), words: () => ({ key: own()?.screen ? 'command.stop-sharing' : 'command.share' }),
      run: () => app.local.peek()?.toggleScreen(),
    },
    {
      id: 'hand', key: 'h', icon: () => 'hand', words: () => ({ key: isRaised() ? 'command.lower-hand' : 'command.hand' }),
      isPressed: isRaised, run: () => app.session()?.gestures.toggleHand(),
    },
    { id: 'react', key: 'e', icon: () => 'smile', words: () => ({ key: 'command.react' }), run: app.react },
    { id: 'chat', key: 'c', icon: () => 'chat', words: () => ({ key: 'command.chat' }), isPressed: () => state.panel.value === 'chat', run: panel('chat') },
    { id: 'people', key: 'p', icon: () => 'people', words: () => ({ key: 'command.people' }), isPressed: () => state.panel.value === 'people', run: panel('people') },
    {
      id: 'statistics', key: 's', icon: () => 'stats', words: () => ({ key: 'figures.title' }),
      isPressed: () => state.panel.value === 'statistics', run: panel('statistics'),
    },
    {
      id: 'float', key: 'w', icon: () => 'pip', words: () => ({ key: 'float.open' }), isShown: () => 'documentPictureInPicture' in globalThis,
      isPressed: () => state.isFloating.value, run: app.float,
    },
    {
      id: 'self', key: 'y', icon: () => 'hide', words: () => ({ key: state.selfView.value === 'shown' ? 'self.hide' : 'self.show' }),
      isShown: () => state.room.value.people.size === 1,
      run: () => { state.selfView.value = state.selfView.peek() === 'shown' ? 'hidden' : 'shown'; },
    },
    {
      id: 'share', key: 'z', icon: () => 'next', words: () => ({ key: 'share.other' }), isShown: () => shares().length > 1,
      run: () => {
        const keys = shares();
        const at = keys.indexOf(state.pinned.peek() ?? keys[keys.length - 1]);
        state.pinned.value = keys[(at + 1) % keys.length];
      },
    },
    {
      id: 'grid', icon: () => 'grid', words: () => ({ key: 'command.grid' }), isChecked: () => state.mode.value === 'grid',
      run: () => { state.mode.value = 'grid'; },
    },
    {
      id: 'spotlight', icon: () => 'spotlight', words: () => ({ key: 'command.spotlight' }), isChecked: () => state.mode.value === 'spotlight',
      run: () => { state.mode.value = 'spotlight'; },
    },
    {
      id: 'layout', key: 'g', icon: () => 'grid', words: () => ({ key: 'command.layout' }),
      run: () => { state.mode.value = state.mode.peek() === 'grid' ? 'spotlight' : 'grid'; },
    },
    { id: 'previous', key: '[', icon: () => 'previous', words: () => ({ key: 'command.previous' }), run: turn(-1) },
    { id: 'next', key: ']', icon: () => 'next', words: () => ({ key: 'command.next' }), run: turn(1) },
    { id: 'invite', key: 'i', icon: () => 'link', words: () => ({ key: 'command.invite' }), run: app.invite },
    { id: 'rename', key: 'n', isShown: app.canRename, icon: () => 'edit', words: () => ({ key: 'command.rename' }), run: app.rename },
    {
      id: 'lock', key: 'k', isShown: () => state.rights.value.moderate, icon: () => (isLocked() ? 'unlock' : 'lock'),
      words: () => ({ key: isLocked() ? 'command.unlock' : 'command.lock' }),
      run: () => app.session()?.moderate(state.room.peek().me?.locked ? 'unlock' : 'lock'),
    },
    { id: 'end', key: 'x', isShown: () => state.rights.value.moderate, icon: () => 'leave', words: () => ({ key: 'command.end' }), isBad: true, run: app.end },
    {
      id: 'mute-all', key: 'a', icon: () => 'mic-off', words: () => ({ key: 'people.mute-all' }),
      isShown: () => state.rights.value.moderate && state.room.value.people.size > 0, run: () => app.session()?.moderate('mute-all'),
    },
    { id: 'settings', key: ',', icon: () => 'settings', words: () => ({ key: 'settings.title' }), run: app.settings },
    { id: 'keys', key: '?', icon: () => 'keys', words: () => ({ key: 'keys.title' }), run: app.keys },
    { id: 'leave', key: 'l', icon: () => 'leave', words: () => ({ key: 'command.leave' }), isBad: true, run: app.leave },
  ];
  return Object.fromEntries(all.map((each) => [each.id, each]));
}
