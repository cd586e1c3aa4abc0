// Entry point of the page: the lobby. The call's part loads while the user is there.

import { listDevices } from './devices/list.js';
import { Local } from './devices/local.js';
import { quality, speaker } from './devices/options.js';
import { followDevices } from './devices/plugged.js';
import { dismiss, tell } from './notices.js';
import { findToken, inviteLink, readInvitation } from './session/invitation.js';
import { findPresence } from './session/presence.js';
import { remember, remembered } from './settings.js';
import * as state from './state.js';
import { effect, signal } from './store.js';
import { keepFocus } from './views/focus.js';
import { lobbyView } from './views/lobby.js';
import { proposeRoom } from './words/rooms.js';
import { t, wordsLoaded } from './words/index.js';

/** @typedef {typeof import('./call.js')} CallModule */
/** @typedef {ReturnType<CallModule['setUp']>} CallPart */

// The room is looked up when nobody types for the first time, and again after the second, in milliseconds.
const TYPED_MS = 400;
const LOOK_AGAIN_MS = 10_000;

const page = () => new URL(location.href);
const query = page().searchParams;
const local = signal(/** @type {Local | null} */ (null));
/** @type {CallPart | null} */
let call = null;
/** @type {Promise<CallPart> | null} */
let loading = null;

const asked = (/** @type {string} */ which) => query.get(which) !== 'off';
const form = {
  name: signal(''),
  room: signal(''),
  want: signal({ microphone: remembered('microphone', true) && asked('mic'), camera: remembered('camera', true) && asked('cam') }),
  invitation: signal(readInvitation(null, 0)),
  presence: signal(/** @type {import('./session/presence.js').Presence | null} */ (null)),
};

// A read-only view of the page's state, for the browser's console and for tests.
Object.defineProperty(window, 'aq', { value: Object.freeze({
  get pc() { return call?.session()?.call?.pc ?? null; },
  get me() { return state.room.peek().me && { ...state.room.peek().me }; },
  get participants() { return [...state.room.peek().people.values()].map(({ id, name, muted }) => ({ id, name, muted: [...muted] })); },
  get tracks() { return call?.session()?.call?.lines.map((line) => ({ ...line })) ?? []; },
  get local() { return Object.fromEntries(local.peek()?.tracks ?? []); },
  get chat() { return state.chat.peek().entries.map(({ name, text, own }) => ({ who: own ? t('person.you') : name || t('person.somebody'), text, own })); },
}) });

/** The call's part: session, bar, tiles. */
function loadCall() {
  return loading ??= Promise.all([import('./call.js'), wordsLoaded]).then(([{ setUp }]) => {
    call = setUp({ local, page, rejoin: join });
    return call;
  });
}

function prefill() {
  const invitation = form.invitation.value = readInvitation(findToken(page()), Date.now());
  form.name.value = invitation.name || (query.get('name') ?? query.get('username') ?? remembered('name', ''));
  form.room.value = invitation.room || (query.get('room') ?? proposeRoom());
}

/** The devices to open: none without the right to publish, and no camera for who wants sound only. */
function wanted() {
  const { microphone, camera } = form.want.peek();
  return form.invitation.peek().rights.publish ? { microphone, camera: camera && quality.peek() !== 'audio' } : {};
}

// In the lobby the wanted devices are open, for the preview; the call takes them over.
function openDevices() {
  const devices = local.value = new Local();
  return devices.open(wanted()).finally(listDevices);
}

async function join() {
  const [name, room] = [form.name.peek().trim(), form.room.peek().trim() || 'default'];
  if (!form.invitation.peek().name) remember('name', name);
  remember('microphone', form.want.peek().microphone);
  remember('camera', form.want.peek().camera);
  dismiss('problem');
  if (!local.peek() || local.peek()?.closed) openDevices();
  state.waiting.value = null;
  state.phase.value = 'joining';
  try {
    const { join: start } = await loadCall();
    const devices = local.peek();
    if (state.phase.peek() === 'joining' && devices) start({ room, name, token: findToken(page()) }, devices);
  } catch (error) {
    console.info(error);
    loading = null; // the next press tries again
    state.phase.value = 'lobby';
    tell({ key: 'problem.unloaded' }, 'warn');
  }
}

function cancel() {
  if (call?.session()) call.session()?.close(null);
  else state.phase.value = 'lobby';
}

const joinsAtOnce = query.has('autojoin') && !['0', 'off'].includes(query.get('autojoin') ?? '');
if (joinsAtOnce) loadCall().catch(() => {}); // `join` tells
await wordsLoaded;
prefill();
const withPart = (/** @type {Promise<void>} */ part) => part.catch(() => tell({ key: 'problem.unloaded' }, 'warn'));
const tone = () => withPart(import('./views/settings/tone.js').then(({ playTone }) => playTone(speaker.peek())));
const settings = () => withPart(import('./views/settings/dialog.js').then(({ openSettings }) => openSettings({ local })));
document.body.append(lobbyView(form, { local, join, cancel, settings, tone, open: () => local.peek()?.open(wanted()) }));
keepFocus();

effect(() => {
  const phase = document.body.dataset.state = state.phase.value;
  if (phase === 'lobby' && (!local.peek() || local.peek()?.closed)) openDevices();
  if (phase === 'joined' && !query.has('autojoin')) history.replaceState(null, '', inviteLink(page(), state.room.peek().me?.room ?? ''));
});

// The lobby shows how many participants are in the room.
effect(() => {
  const room = form.room.value.trim();
  const { words } = form.invitation.value;
  form.presence.value = null;
  if (state.phase.value !== 'lobby' || !room || words) return;
  const ends = new AbortController();
  const look = async () => {
    const query = { room, token: findToken(page()) };
    const found = document.hidden ? form.presence.peek() : await findPresence(query, new URL(document.baseURI), ends.signal);
    if (ends.signal.aborted) return;
    form.presence.value = found;
    if (found) timer = setTimeout(look, LOOK_AGAIN_MS);
  };
  let timer = setTimeout(look, TYPED_MS);
  return () => {
    clearTimeout(timer);
    ends.abort();
  };
});

// A new name that was chosen in the call is the one to rejoin with.
effect(() => {
  const name = state.room.value.me?.name;
  if (!name || name === form.name.peek() || form.invitation.peek().name) return;
  form.name.value = name;
  remember('name', name);
});

// Leaves at once, so that the other participants do not wait for a timeout. A page that enters the back/forward cache
// leaves too, and comes back with the way to rejoin.
addEventListener('pagehide', () => {
  call?.session()?.leave();
  local.peek()?.close();
});
navigator.mediaDevices?.addEventListener?.('devicechange', async () => {
  await local.peek()?.findLost(); // what was unplugged and is back needs no offer
  followDevices(form.invitation.peek().rights.publish ? local.peek() : null);
});
// Another invitation link was opened in the same tab.
addEventListener('hashchange', () => { if (state.phase.peek() === 'lobby') prefill(); });

if (joinsAtOnce) join();
else requestAnimationFrame(() => setTimeout(() => loadCall().catch(() => { loading = null; })));
