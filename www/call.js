// The call's part of the page: it connects the session with what the user sees and does.

import { announce } from './announce.js';
import { commands } from './commands.js';
import { isMirrored, quality } from './devices/options.js';
import { dismiss, notify, tell } from './notices.js';
import { findToken, inviteLink, readInvitation } from './session/invitation.js';
import { Session } from './session/session.js';
import { greet } from './session/twin.js';
import * as state from './state.js';
import { computed, effect, untracked } from './store.js';
import { announceDevices, callView, loadConfirm, loadFloat, loadKeys, loadReactions, loadRename, loadSettings, withPart } from './views/call.js';
import { byId } from './views/dom.js';
import { endView } from './views/end.js';
import { listenToKeys } from './views/keys.js';
import { liveRegions } from './views/live.js';
import { askBeforeLeaving, followTalk } from './views/settings/talk.js';
import { listenToMediaKeys } from './views/system/media-keys.js';
import { keepScreenOn } from './views/system/screen-on.js';
import { t } from './words/index.js';

const TITLE = 'AQ Server';
// A device that opens within this time, in milliseconds, needed no question of the browser.
const ASKED_MS = 800;

/** @param {{ local: import('./commands.js').App['local'], page: () => URL, rejoin: () => void }} page */
export function setUp({ local, page, rejoin }) {
  /** @type {Session | null} */
  let session = null;

  async function invite() {
    const { me } = state.room.peek();
    if (!me) return;
    const link = inviteLink(page(), me.room);
    try {
      await navigator.clipboard.writeText(link);
      tell({ key: 'invite.copied' });
      announce({ key: 'invite.copied' });
    } catch {
      // Pages over plain http have no clipboard: show the address, to be copied by hand.
      notify({ id: 'info', kind: 'plain', icon: 'link', words: { key: 'invite.address', params: { link } }, closes: true });
    }
  }

  const react = () => withPart(loadReactions(), ({ openReactions }) => openReactions(byId('btn-react'), table.hand, (emoji) => session?.gestures.react(emoji)));
  const rename = () => withPart(loadRename(), ({ openRename }) => openRename((name) => session?.gestures.rename(name)));
  // The name of an invitation is the host's choice.
  const canRename = () => state.isInCall.value && !readInvitation(findToken(page()), 0).name;
  // If a token is required, an address without one is useless.
  const canInvite = () => state.phase.value !== 'lobby' && !findToken(page());
  const end = () => withPart(loadConfirm(), async ({ ask }) => {
    if (await ask({ title: t('end.title'), text: t('end.text'), yes: t('command.end') })) session?.moderate('end');
  });
  const float = () => withPart(loadFloat(), ({ toggleWindow }) => toggleWindow(app, table).catch(() => {})); // the browser may refuse a window
  const keys = () => withPart(loadKeys(), ({ openKeys }) => openKeys(table));
  const settings = () => withPart(loadSettings(), ({ openSettings }) => openSettings(app));
  const app = { local, session: () => session, invite, canInvite, react, rename, canRename, end, float, keys, settings, leave: () => session?.leave() };
  const table = commands(app);
  followKnocks(() => session);
  const call = callView(app, table, canInvite);
  const toLobby = () => { state.phase.value = 'lobby'; };
  document.body.append(call.element, endView({ rejoin, toLobby }), ...liveRegions());
  listenToKeys(table);
  announceDevices(app);
  followDevices(local);
  followTalk(local);
  askBeforeLeaving();
  followTwin(() => session);
  listenToMediaKeys(table, () => local.value?.state.value);
  keepScreenOn();

  effect(() => {
    if (state.phase.value === 'ended' && document.fullscreenElement) document.exitFullscreen();
  });
  effect(() => {
    const isSoundOnly = quality.value === 'audio';
    untracked(() => {
      // Others see that the camera is off.
      if (isSoundOnly && local.peek()?.state.peek().camera) local.peek()?.toggleCamera();
      session?.call?.reencode();
    });
  });
  effect(() => { document.body.classList.toggle('unmirrored', !isMirrored(local.value?.state.value)); });
  effect(() => {
    const { me } = state.room.value;
    const { unread } = state.chat.value;
    document.title = me ? `${unread ? `(${unread}) ` : ''}${me.room} · ${TITLE}` : TITLE;
  });

  // Browsers pause media in a page that is hidden, and do not always resume it.
  for (const event of ['visibilitychange', 'resume']) document.addEventListener(event, () => document.hidden || call.resume());
  const followSight = () => session?.view.hide(document.hidden && !document.pictureInPictureElement && !state.isFloating.value);
  document.addEventListener('visibilitychange', followSight);
  effect(followSight);
  addEventListener('pageshow', call.resume);
  addEventListener('online', () => session?.signaling.retryNow());
  addEventListener('offline', () => session?.connection.doubt());

  return {
    session: () => session,
    /** @param {{ room: string, name: string, token: string | null }} query @param {import('./devices/local.js').Local} devices */
    join: (query, devices) => { session = new Session(query, devices, document.baseURI); },
  };
}

/** Tells moderators who wants to come in. @param {() => Session | null} session */
function followKnocks(session) {
  effect(() => {
    const waiting = [...state.room.value.knocks];
    // The panel has them at its top.
    if (!waiting.length || state.panel.value === 'people') return dismiss('knock');
    const [[id, name]] = waiting;
    const params = { name: name || /** @type {const} */ ({ key: 'person.guest' }), count: waiting.length - 1 };
    const admit = { words: /** @type {const} */ ({ key: 'knock.admit' }), run: () => session()?.admit(id, true) };
    const refuse = { words: /** @type {const} */ ({ key: 'knock.refuse' }), run: () => session()?.admit(id, false) };
    const show = { words: /** @type {const} */ ({ key: 'knock.show' }), run: () => { state.panel.value = 'people'; } };
    const isOne = waiting.length === 1;
    notify({ id: 'knock', kind: 'plain', icon: 'people', words: { key: isOne ? 'knock.one' : 'knock.more', params }, actions: isOne ? [admit, refuse] : [show] });
  });
}

/** Tells that another tab is in the call. @param {() => Session | null} session */
function followTwin(session) {
  const place = computed(() => (state.isInCall.value ? state.room.value.me?.room : undefined));
  effect(() => {
    if (!place.value) return;
    const use = { words: /** @type {const} */ ({ key: 'twin.use' }), run: () => { tabs.take(); dismiss('twin'); } };
    const tabs = greet(place.value, {
      twin: (isThere) => (isThere ? notify({ id: 'twin', kind: 'plain', icon: 'info', words: { key: 'twin.here' }, actions: [use], closes: true }) : dismiss('twin')),
      leave: () => session()?.leave(),
    });
    return () => {
      dismiss('twin');
      tabs.end();
    };
  });
}

/** Tells about the own devices in a call: what is wrong, what the browser asks, what is shared. @param {import('./commands.js').App['local']} local */
function followDevices(local) {
  const problem = computed(() => (state.isInCall.value && state.rights.value.publish ? local.value?.problem.value ?? null : null));
  effect(() => {
    if (!problem.value) return dismiss('device');
    notify({ id: 'device', kind: 'warn', icon: 'warn', words: problem.value.words, closes: true });
  });
  effect(() => {
    if (!state.isInCall.value || !local.value?.state.value.opening) return dismiss('asked');
    const timer = setTimeout(() => notify({ id: 'asked', kind: 'plain', icon: 'info', words: { key: 'device.asked' }, closes: true }), ASKED_MS);
    return () => clearTimeout(timer);
  });
  effect(() => {
    const { screen } = local.value?.state.value ?? {};
    if (!state.isInCall.value || !screen) return dismiss('presenting');
    const isSharp = screen.contentHint !== 'motion';
    const hint = { words: /** @type {const} */ ({ key: isSharp ? 'presenting.motion' : 'presenting.detail' }), run: () => local.peek()?.hint(isSharp ? 'motion' : 'detail') };
    const stop = { words: /** @type {const} */ ({ key: 'command.stop-sharing' }), icon: 'stop', run: () => local.peek()?.stopScreen() };
    notify({ id: 'presenting', kind: 'accent', icon: 'screen', words: { key: 'sharing.own' }, actions: [hint, stop] });
  });
}
