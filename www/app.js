// Entry point of the page: from the lobby into the call and out of it.

import { commands as makeCommands } from './commands.js';
import { announce } from './announce.js';
import { listDevices } from './devices/list.js';
import { Local } from './devices/local.js';
import { dismiss, notify, tell } from './notices.js';
import { findToken, inviteLink, readInvitation } from './session/invitation.js';
import { Session } from './session/session.js';
import { remember, remembered } from './settings.js';
import * as state from './state.js';
import { computed, effect, signal } from './store.js';
import { announceDevices, callView } from './views/call.js';
import { endView } from './views/end.js';
import { keepFocus } from './views/focus.js';
import { listenToKeys } from './views/keys.js';
import { liveRegions } from './views/live.js';
import { lobbyView } from './views/lobby.js';
import { proposeRoom } from './words/rooms.js';
import { t, wordsLoaded } from './words/index.js';

const TITLE = 'AQ Server';
// A device that opens within this time, in milliseconds, needed no question of the browser.
const ASKED_MS = 800;

const page = () => new URL(location.href);
const query = page().searchParams;
/** @type {Session | null} */
let session = null;
const local = signal(/** @type {Local | null} */ (null));

const asked = (/** @type {string} */ which) => query.get(which) !== 'off';
const form = {
  name: signal(''),
  room: signal(''),
  want: signal({ microphone: remembered('microphone', true) && asked('mic'), camera: remembered('camera', true) && asked('cam') }),
  invitation: signal(readInvitation(null, 0)),
};

const app = {
  local,
  session: () => session,
  join,
  leave: () => session?.leave(),
  cancel: () => { session?.close(null); },
  rejoin: join,
  toLobby: () => { state.phase.value = 'lobby'; },
  invite,
};

// A read-only view of the page's state, for the browser's console and for tests.
Object.defineProperty(window, 'aq', { value: Object.freeze({
  get pc() { return session?.call?.pc ?? null; },
  get me() { return state.room.peek().me && { ...state.room.peek().me }; },
  get participants() { return [...state.room.peek().people.values()].map(({ id, name, muted }) => ({ id, name, muted: [...muted] })); },
  get tracks() { return session?.call?.lines.map((line) => ({ ...line })) ?? []; },
  get local() { return Object.fromEntries(local.peek()?.tracks ?? []); },
  get chat() { return state.chat.peek().entries.map(({ name, text, own }) => ({ who: own ? t('person.you') : name || t('person.somebody'), text, own })); },
}) });

function prefill() {
  const invitation = form.invitation.value = readInvitation(findToken(page()), Date.now());
  form.name.value = invitation.name || (query.get('name') ?? query.get('username') ?? remembered('name', ''));
  form.room.value = invitation.room || (query.get('room') ?? proposeRoom());
}

// In the lobby the wanted devices are open, for the preview; the call takes them over.
function openDevices() {
  const devices = new Local();
  local.value = devices;
  const { rights: { publish } } = form.invitation.peek();
  const want = form.want.peek();
  // Without the right to publish, no device is needed.
  return devices.open(publish ? want : {}).finally(listDevices);
}

function join() {
  const [name, room] = [form.name.peek().trim(), form.room.peek().trim() || 'default'];
  if (!form.invitation.peek().name) remember('name', name);
  remember('microphone', form.want.peek().microphone);
  remember('camera', form.want.peek().camera);
  dismiss('problem');
  if (!local.peek() || local.peek()?.closed) openDevices();
  const devices = /** @type {Local} */ (local.peek());
  session = new Session({ room, name, token: findToken(page()) }, devices, document.baseURI);
}

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

await wordsLoaded;
prefill();

const table = makeCommands(app);
// If a token is required, an address without one is useless.
const canInvite = () => state.phase.value !== 'lobby' && !findToken(page());
const call = callView(app, table, canInvite);
document.body.append(lobbyView(form, app), call.element, endView(app), ...liveRegions());
listenToKeys(table);
announceDevices(app);
keepFocus();

effect(() => {
  const phase = document.body.dataset.state = state.phase.value;
  if (phase === 'lobby' && (!local.peek() || local.peek()?.closed)) openDevices();
  if (phase === 'joined' && !query.has('autojoin')) history.replaceState(null, '', inviteLink(page(), state.room.peek().me?.room ?? ''));
  if (phase === 'ended' && document.fullscreenElement) document.exitFullscreen();
});
effect(() => {
  const { me } = state.room.value;
  const { unread } = state.chat.value;
  document.title = me ? `${unread ? `(${unread}) ` : ''}${me.room} · ${TITLE}` : TITLE;
});

// What is wrong with a device is explained in the lobby's preview, and in the call by a notice.
const deviceProblem = computed(() => (state.isInCall.value && state.rights.value.publish ? local.value?.problem.value ?? null : null));
effect(() => {
  const problem = deviceProblem.value;
  if (!problem) return dismiss('device');
  notify({ id: 'device', kind: 'warn', icon: 'warn', words: problem.words, closes: true });
});
effect(() => {
  const isOpening = state.isInCall.value && local.value?.state.value.opening;
  if (!isOpening) return dismiss('asked');
  // A device that needs no question opens sooner.
  const timer = setTimeout(() => notify({ id: 'asked', kind: 'plain', icon: 'info', words: { key: 'device.asked' }, closes: true }), ASKED_MS);
  return () => clearTimeout(timer);
});
effect(() => {
  if (!state.isInCall.value || !local.value?.state.value.screen) return dismiss('presenting');
  const stop = { words: /** @type {const} */ ({ key: 'command.stop-sharing' }), icon: 'stop', run: () => local.peek()?.stopScreen() };
  notify({ id: 'presenting', kind: 'accent', icon: 'screen', words: { key: 'sharing.own' }, actions: [stop] });
});

// Leaves at once, so that the other participants do not wait for a timeout. A page that enters the back/forward cache
// leaves too, and comes back with the way to rejoin.
addEventListener('pagehide', () => {
  session?.leave();
  local.peek()?.close();
});
// Browsers pause media in a page that is hidden, and do not always resume it.
for (const event of ['visibilitychange', 'resume']) document.addEventListener(event, () => document.hidden || call.resume());
document.addEventListener('visibilitychange', () => session?.view.hide(document.hidden && !document.pictureInPictureElement));
addEventListener('pageshow', call.resume);
addEventListener('online', () => session?.signaling.hurry());
addEventListener('offline', () => session?.connection.doubt());
navigator.mediaDevices?.addEventListener?.('devicechange', () => {
  local.peek()?.findLost();
  listDevices();
});
// Another invitation link was opened in the same tab.
addEventListener('hashchange', () => { if (state.phase.peek() === 'lobby') prefill(); });

if (query.get('autojoin') === '1') join();
