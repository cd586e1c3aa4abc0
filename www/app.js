// Entry point of the page: the join form, the call controls, and the wiring of signaling, media, tiles and chat.
//
// body[data-state] is form, joining, joined or reconnecting. The server decides who is in the room: each `welcome`
// replaces the page's participants and tracks.

import { Call } from './call.js';
import { Chat } from './chat.js';
import { canShareScreen, insecureWords, isInsecure } from './devices.js';
import { keepFocus } from './focus.js';
import { icon, setIcon } from './icons.js';
import { CAMERA, Local, SCREEN } from './local.js';
import { Pulse } from './pulse.js';
import { Signaling } from './signaling.js';
import { Tiles } from './tiles.js';
import { View } from './view.js';

const $ = (id) => document.getElementById(id);
const TITLE = 'AQ Server';
const TOAST_MS = 7000;
// Time until the page shows NO_MEDIA. Where UDP is not blocked, media connects within a second.
const MEDIA_MS = 5000;
const NO_MEDIA = 'Sound and picture don’t get through: this network may block UDP. You can still read and write chat.';
// How many of its participant ids a tab remembers. It no longer recognizes its own chat messages under older ids.
const OWN_IDS = 50;
const ASKED = 'Your browser may ask for the microphone or the camera. You are in the call already; the others see and hear you once you allow it.';
const OFFLINE = 'This device is offline. The call goes on when the network is back.';
const INTERRUPTED = 'The network is interrupted: nothing arrives. Waiting for it to come back…';
// The rights without a token, and with an older server, whose `welcome` has no `rights`.
const EVERYBODY = { publish: true, subscribe: true, moderate: false };

// The same width as in style.css.
const narrow = matchMedia('(max-width: 760px)');

const query = new URLSearchParams(location.search);
const participants = new Map(); // id -> { id, name, muted: Set of sources, media }
let me = null; // { id, name, room, rights, locked } of the last welcome
let signaling = null;
let call = null;
let local = null;
let pulse = null;
let status = ''; // the banner's text about signaling and the media transport
let trouble = ''; // the banner's text about the network, shown while `status` is empty
let lines = []; // the m-lines of other participants, each with its track
let mediaTimer = null; // runs until media connects, for MEDIA_MS at most
let told = new Map(); // source -> the mute state of this participant that the server has

const tiles = new Tiles($('tiles'), {
  blocked: () => { $('btn-hear').hidden = false; },
  changed: () => view.show(tiles.shown()),
  moderate,
});
const view = new View((message) => signaling?.send(message) ?? false);
const chat = new Chat({ panel: $('chat'), log: $('chat-log'), form: $('chat-form'), input: $('chat-input') }, {
  send: (text) => signaling?.send({ event: 'chat', data: text }) ?? false,
  unread: showUnread,
  problem: toast,
});

// A read-only view of the page's state, for the browser's console and for tests.
Object.defineProperty(window, 'aq', { value: Object.freeze({
  get pc() { return call?.pc ?? null; },
  get me() { return me && { ...me }; },
  get participants() { return [...participants.values()].map(({ id, name, muted }) => ({ id, name, muted: [...muted] })); },
  get tracks() { return call ? call.lines.map((line) => ({ ...line })) : []; },
  get local() { return local ? Object.fromEntries(local.tracks) : {}; },
}) });

// The form

async function join() {
  const name = $('name').value.trim();
  const room = $('room').value.trim() || 'default';
  const want = { microphone: $('with-mic').checked, camera: $('with-camera').checked };
  if (!$('name').readOnly) store(localStorage, 'aq.name', name);
  store(localStorage, 'aq.want', JSON.stringify(want));
  if (!invitation().rights.publish) want.microphone = want.camera = false; // the token does not allow it
  notice('');
  setState('joining');
  $('join-status').textContent = 'Connecting…';
  local = new Local({
    changed: (key) => call?.changed(key),
    muted: tellMuted,
    unpublish: (key) => call?.unpublish(key),
    show: showOwn,
    problem: notice,
  });
  const mine = local;
  // Joining does not wait for the devices: the browser's permission prompt may never be answered.
  mine.open(want).then(() => {
    if (local === mine && $('notice').textContent === ASKED) notice('');
  });
  signaling = new Signaling({ room, name, token: token() }, {
    opened: () => {},
    message: onMessage,
    lost: onLost,
    refused: (words) => leave(words),
  });
}

function leave(words = '') {
  signaling?.leave();
  call?.close();
  pulse?.close();
  pulse = null;
  trouble = '';
  clearTimeout(mediaTimer);
  local?.close();
  signaling = call = local = me = null;
  lines = [];
  participants.clear();
  tiles.close();
  view.show(tiles.shown());
  chat.open(false);
  coverCall();
  chat.reset();
  $('btn-hear').hidden = true;
  $('toasts').replaceChildren();
  if (document.fullscreenElement) document.exitFullscreen();
  banner('');
  $('join-status').textContent = '';
  setState('form');
  notice(words || (isInsecure() ? insecureWords() : ''));
}

function prefill() {
  const { name, room, rights, words } = invitation();
  $('name').value = name || (query.get('name') ?? query.get('username') ?? stored(localStorage, 'aq.name') ?? '');
  $('name').readOnly = Boolean(name);
  $('room').value = room || (query.get('room') ?? '');
  $('room').readOnly = Boolean(room);
  $('devices').hidden = !rights.publish;
  $('invited').textContent = words || restriction(rights);
  if (isInsecure()) return notice(insecureWords());
  try {
    const want = JSON.parse(stored(localStorage, 'aq.want'));
    $('with-mic').checked = want.microphone;
    $('with-camera').checked = want.camera;
  } catch { /* nothing is stored on the first visit: both stay on */ }
}

// Returns the token of the invitation link. It is in the fragment, which is not sent to servers; the query works too.
// Joining removes it from the address, which people share, so a copy in the tab's storage survives a reload.
function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token') ?? query.get('token');
  if (given) store(sessionStorage, 'aq.token', given);
  return given ?? stored(sessionStorage, 'aq.token');
}

// Decodes the token's claims to fill in the form. Only the server can verify them.
function invitation() {
  try {
    const payload = token().split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    const { name, room, publish, subscribe, nbf, exp } = JSON.parse(new TextDecoder().decode(bytes));
    const text = (value) => (typeof value === 'string' ? value.trim() : '');
    const words = exp * 1000 < Date.now() ? `This invitation ended ${day(exp)}: ask the host for a new link.`
      : nbf * 1000 > Date.now() ? `This invitation begins ${day(nbf)}.` : '';
    return { name: text(name), room: text(room), rights: { publish: publish !== false, subscribe: subscribe !== false }, words };
  } catch {
    return { name: '', room: '', rights: EVERYBODY, words: '' }; // no token, or one that the server will refuse
  }
}

function day(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
}

function restriction({ publish, subscribe }) {
  if (subscribe) return publish ? '' : 'You can watch and chat here';
  return publish ? 'You can’t see or hear the others here' : 'You can chat here';
}

// The address to share: it names the room, without this participant's name and token.
function inviteLink() {
  const url = new URL(location.href);
  url.search = new URLSearchParams({ room: me?.room ?? ($('room').value.trim() || 'default') });
  url.hash = '';
  return url.href;
}

// The server's messages

function onMessage(message) {
  handlers[message.event]?.(message); // events that this page does not know are ignored
}

const handlers = {
  welcome({ id, room, name, rights = EVERYBODY, locked = false, participants: others = [], limits = {} }) {
    const again = me?.id === id;
    if (!me) tiles.open(name);
    me = { id, room, name, rights, locked };
    if (!rights.publish) local.close();
    showRights();
    tiles.own.rename(name || 'You');
    participants.clear();
    for (const other of others) remember(other);
    tiles.lastN = limits.last_n ?? 0;
    tiles.setPeople(participants);
    lines = [];
    showTiles();
    for (const { id: other, media } of others) if (media === 'lost') setMedia(other, media);
    tiles.setSpeaking(new Set(), false);
    // The server may have kept the mute states of a participant that returns: they are all sent again.
    told = new Map(again ? [] : [['microphone', false], ['camera', false], ['screen', false]]);
    call?.close();
    call = newCall();
    chat.setOwn(id, limits.chat_bytes, ownIds(id));
    // If a token is required, an address without one is useless.
    $('btn-invite').hidden = Boolean(token());
    if (token()) $('alone').textContent = 'You are the only one here. Each of the others needs a link of their own.';
    banner('');
    setState('joined');
    if (local.isOpening && $('notice').hidden) notice(ASKED);
    showRoom();
    showOwn();
    if (!query.has('autojoin')) history.replaceState(null, '', inviteLink());
  },
  history({ lines: old = [] }) {
    chat.history(old);
  },
  joined(person) {
    if (person.id === me?.id) return;
    remember(person);
    tiles.add(participants.get(person.id));
    showTiles();
    say(`${participants.get(person.id).name} joined`);
    showRoom();
  },
  left({ id }) {
    const person = participants.get(id);
    if (!person) return;
    participants.delete(id);
    tiles.remove(id);
    showTiles();
    say(`${person.name} left`);
    showRoom();
  },
  renamed({ id, name }) {
    const person = participants.get(id);
    if (person) person.name = name;
    if (id === me?.id) me.name = name;
    (id === me?.id ? tiles.own : tiles.people.get(id))?.rename(name);
    tiles.screens.get(id)?.rename(name);
  },
  tracks({ tracks = [] }) {
    for (const { id, source, muted, own } of tracks) {
      if (!own) setMuted(id, source, muted);
    }
    call?.handleTracks(tracks);
  },
  offer({ data }) {
    call?.handleOffer(data);
  },
  quality({ tracks = [] }) {
    for (const { mid, sent, limit } of tracks) {
      const line = lines.find((other) => other.mid === mid);
      if (line) tiles.setQuality(line.id, line.source, sent, limit);
    }
  },
  // The state of another participant's media connection, or of this one's if there is no id. Chat works without it.
  media({ id, state, fresh = false, retry_ms: retry }) {
    if (id) return setMedia(id, state);
    if (state === 'lost') return showNoMedia(retry);
    if (state === 'connected') return hideNoMedia();
    if (!fresh) return;
    call?.close();
    lines = [];
    call = newCall();
    showTiles();
  },
  layers(message) {
    call?.handleLayers(message);
  },
  candidate({ data }) {
    call?.handleCandidate(data);
  },
  mute({ id, source, muted, by }) {
    if (id === me?.id) return onSilenced(by);
    setMuted(id, source, muted);
    if (muted) tiles.note(id, source, '');
    showTiles();
  },
  lock({ locked, by }) {
    me.locked = locked;
    showRights();
    const words = locked ? 'locked the room: nobody else can come in' : 'unlocked the room';
    if (by !== me.id) toast(`${nameOf(by)} ${words}.`);
  },
  speaking({ ids = [] }) {
    // Without the right to subscribe, the other participants are not marked as speaking.
    tiles.setSpeaking(new Set(me?.rights.subscribe ? ids : []), ids.includes(me?.id));
  },
  chat(line) {
    chat.receive(line);
  },
  error({ code, message, id, source }) {
    if (code === 'cannot-decode') return tiles.note(id, source, message);
    // The answer had already ended the track, as after two quick toggles. The user cannot do anything about it.
    if (code === 'not-publishing') return console.info(message);
    if (code === 'chat-too-long' || code === 'chat-too-fast') chat.refused();
    toast(message || code);
  },
  closing() {
    banner('The server is about to restart. You will be reconnected.');
  },
};

function remember({ id, name, muted = [], media = 'connected' }) {
  participants.set(id, { id, name: name || 'Guest', muted: new Set(muted), media });
}

function setMuted(id, source, muted) {
  const set = participants.get(id)?.muted;
  if (muted) set?.add(source);
  else set?.delete(source);
}

function setMedia(id, media) {
  const person = participants.get(id);
  if (person) person.media = media;
  tiles.note(id, 'camera', media === 'lost' ? 'No sound or picture: connecting…' : '');
}

// The banner stays until media connects.
function showNoMedia(retry = 0) {
  clearTimeout(mediaTimer);
  banner(`${NO_MEDIA} ${retry ? `Trying again in ${Math.ceil(retry / 1000)} s…` : 'Trying again…'}`);
}

function hideNoMedia() {
  clearTimeout(mediaTimer);
  if (status.startsWith(NO_MEDIA)) banner('');
}

function newCall() {
  view.forget();
  clearTimeout(mediaTimer);
  mediaTimer = setTimeout(showNoMedia, MEDIA_MS);
  const made = new Call(local.tracks, (message) => signaling?.send(message), {
    lines(list) {
      lines = list;
      showTiles();
    },
    attached(source) {
      if (source === 'microphone') tellMuted(source, !local.microphoneOn);
      if (source === 'camera') tellMuted(source, false);
    },
    connected() {
      hideNoMedia();
      signaling?.settled();
    },
    // The server offers a fresh transport. If it cannot be reached, the WebSocket fails too and reconnects.
    failed() {
      showNoMedia();
      signaling?.send({ event: 'renew' });
    },
    problem(error) {
      console.error(error);
      toast(`Something went wrong with the call: ${error.message}`);
    },
  });
  pulse?.close();
  pulse = new Pulse(made.pc, isMediaDue, (isSilent) => {
    tiles.markFrozen(isSilent);
    // Received packets outweigh `navigator.onLine`, which may be wrong.
    const isInterrupted = isSilent || pulse.isDoubted || made.pc.connectionState === 'disconnected';
    showTrouble(!navigator.onLine && !pulse.isProven ? OFFLINE : isInterrupted ? INTERRUPTED : '');
  });
  return made;
}

// Whether a working connection receives packets: audio of a participant, or RTCP feedback on the own tracks.
function isMediaDue() {
  return local?.tracks.size > 0 || lines.some(({ id, source, kind }) => kind === 'audio' && participants.has(id) && !participants.get(id).muted.has(source));
}

function showTrouble(words) {
  if (trouble === words) return;
  trouble = words;
  banner(status);
}

// A moderator muted the microphone: the server does not forward it until this participant unmutes it.
function onSilenced(by) {
  told.set('microphone', true);
  local.silence();
  toast(`${nameOf(by)} turned your microphone off. You can turn it on again.`);
}

function moderate(action, id) {
  if (action === 'remove' && !confirm(`Remove ${nameOf(id)} from the room?`)) return;
  signaling?.send({ event: 'moderate', action, id });
}

function nameOf(id) {
  return participants.get(id)?.name ?? 'A moderator';
}

// Sends the mute state, unless the server has it already.
function tellMuted(source, muted) {
  if (told.get(source) === muted) return;
  if (signaling?.send({ event: 'mute', source, muted })) told.set(source, muted);
}

function onLost(words) {
  pulse?.close();
  trouble = '';
  clearTimeout(mediaTimer);
  call?.close();
  call = null;
  if (!me) {
    $('join-status').textContent = words;
    return;
  }
  // An empty tile is better than a frozen picture.
  lines = [];
  showTiles(true);
  tiles.setSpeaking(new Set(), false);
  banner(words);
  setState('reconnecting');
}

// Display

function setState(state) {
  document.body.dataset.state = state;
  for (const field of ['name', 'room', 'with-mic', 'with-camera']) $(field).disabled = state !== 'form';
  $('btn-join').textContent = state === 'joining' ? 'Cancel' : 'Join';
  if (state === 'form') document.title = TITLE;
}

// Shows the current m-lines and participants. away: the connection to the server is lost.
function showTiles(away = false) {
  tiles.show(lines, participants, away || !me.rights.subscribe);
  view.show(tiles.shown());
}

function showRoom() {
  $('room-name').textContent = me.room;
  const count = participants.size + 1;
  $('count').textContent = count === 1 ? 'Only you' : `${count} people`;
  $('alone').hidden = count > 1;
  showUnread(chat.unread);
}

function showRights() {
  const { rights, locked } = me;
  for (const which of ['mic', 'camera']) $(`btn-${which}`).hidden = !rights.publish;
  $('btn-screen').hidden = !rights.publish || !canShareScreen;
  $('restricted').hidden = rights.publish && rights.subscribe;
  $('restricted').textContent = restriction(rights);
  document.body.classList.toggle('moderates', rights.moderate);
  document.body.classList.toggle('sees', rights.subscribe);
  $('locked').hidden = !locked;
  $('btn-lock').hidden = !rights.moderate;
  $('btn-lock').title = locked ? 'Unlock the room' : 'Lock the room: nobody else can come in';
  $('btn-lock').setAttribute('aria-label', $('btn-lock').title);
  setIcon($('btn-lock'), locked ? 'unlock' : 'lock');
}

function showOwn() {
  if (!local) return;
  const isSilent = !local.microphoneOn && me?.rights.publish !== false;
  tiles.showOwn(local.tracks.get(CAMERA) ?? null, local.tracks.get(SCREEN) ?? null, isSilent);
  button('mic', local.microphoneOn, ['mic', 'mic-off'], ['Turn microphone off', 'Turn microphone on']);
  button('camera', local.cameraOn, ['camera', 'camera-off'], ['Turn camera off', 'Turn camera on']);
  button('screen', local.screenOn, ['screen', 'screen'], ['Stop sharing', 'Share your screen']);
}

function button(which, on, icons, words) {
  const element = $(`btn-${which}`);
  setIcon(element, icons[on ? 0 : 1]);
  element.classList.toggle('off', !on);
  element.title = words[on ? 0 : 1];
  // The label names the action of the next press, so there is no `aria-pressed`, which would contradict it.
  element.setAttribute('aria-label', element.title);
}

function showUnread(count) {
  const badge = $('unread');
  badge.hidden = !count;
  badge.textContent = count > 99 ? '99+' : String(count);
  const words = document.body.dataset.state === 'form' || !$('chat').hidden ? 'Close chat' : 'Open chat';
  $('btn-chat').title = words;
  $('btn-chat').setAttribute('aria-label', count ? `${words}, ${count} unread` : words);
  $('btn-chat').setAttribute('aria-expanded', String(!$('chat').hidden));
  if (me) document.title = `${count ? `(${count}) ` : ''}${me.room} · ${TITLE}`;
}

function openChat(open) {
  chat.open(open);
  coverCall();
  $('btn-chat').classList.toggle('active', open);
  showUnread(chat.unread);
  if (!open) $('btn-chat').focus();
}

// In a narrow window the chat covers the call, whose controls must not get the focus then.
function coverCall() {
  for (const id of ['top', 'tiles', 'bar', 'btn-hear']) $(id).inert = chat.isOpen && narrow.matches;
}

function notice(words) {
  $('notice').querySelector('.words').textContent = words;
  $('notice').hidden = !words;
}

function banner(words) {
  status = words;
  const shown = status || trouble;
  if ($('banner').textContent !== shown) $('banner').textContent = shown;
  $('banner').hidden = !shown;
}

function toast(words) {
  const box = document.createElement('p');
  box.className = 'toast';
  box.textContent = words;
  $('toasts').append(box);
  while ($('toasts').childElementCount > 3) $('toasts').firstElementChild.remove();
  setTimeout(() => box.remove(), TOAST_MS);
}

// Announces to screen readers what other users see, such as a participant joining.
function say(words) {
  $('said').textContent = words;
}

async function copyInvite() {
  const words = $('btn-invite').querySelector('.words');
  try {
    await navigator.clipboard.writeText(inviteLink());
  } catch {
    // Pages over plain http have no clipboard: show the address, to be copied by hand.
    return toast(`Copy this address: ${inviteLink()}`);
  }
  words.textContent = 'Link copied';
  say('Link copied');
  setTimeout(() => { words.textContent = 'Copy invite link'; }, 2500);
}

// Returns the earlier participant ids of this tab, which identify its chat messages after a reload, and stores `id`.
function ownIds(id) {
  const earlier = (stored(sessionStorage, 'aq.ids') ?? '').split(' ').filter(Boolean);
  if (!earlier.includes(id)) store(sessionStorage, 'aq.ids', [...earlier, id].slice(-OWN_IDS).join(' '));
  return earlier;
}

// Browsers may refuse storage, as in private windows: then nothing is remembered.
function store(storage, key, value) {
  try {
    storage.setItem(key, value);
  } catch { /* see above */ }
}

function stored(storage, key) {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

for (const element of document.querySelectorAll('[data-icon]')) {
  if (element.matches('button')) setIcon(element, element.dataset.icon);
  else element.append(icon(element.dataset.icon));
}
$('join-form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (document.body.dataset.state === 'form') join();
  else leave();
});
$('btn-mic').addEventListener('click', () => local?.toggleMicrophone());
$('btn-camera').addEventListener('click', () => local?.toggleCamera());
$('btn-screen').addEventListener('click', () => local?.toggleScreen());
$('btn-chat').addEventListener('click', () => openChat(!chat.isOpen));
$('btn-chat-close').addEventListener('click', () => openChat(false));
$('chat').addEventListener('keydown', (event) => {
  if (event.key === 'Escape') openChat(false);
});
narrow.addEventListener('change', coverCall);
$('btn-lock').addEventListener('click', () => signaling?.send({ event: 'moderate', action: me.locked ? 'unlock' : 'lock' }));
$('btn-leave').addEventListener('click', () => leave());
$('btn-invite').addEventListener('click', copyInvite);
$('btn-notice').addEventListener('click', () => notice(''));
$('btn-hear').addEventListener('click', () => {
  tiles.hear();
  $('btn-hear').hidden = true;
});
// Leaves at once, so that the other participants do not wait for a timeout. A page that enters the back/forward cache
// leaves too, and comes back as the form.
addEventListener('pagehide', () => local && leave());

// Browsers pause media in a page that is hidden, and do not always resume it.
for (const event of ['visibilitychange', 'resume']) document.addEventListener(event, () => document.hidden || tiles.resume());
addEventListener('pageshow', () => tiles.resume());
addEventListener('offline', () => {
  pulse?.doubt();
  if (me) showTrouble(OFFLINE);
});
navigator.mediaDevices?.addEventListener?.('devicechange', () => local?.findLost());

// Another invitation link was opened in the same tab.
addEventListener('hashchange', () => {
  if (document.body.dataset.state === 'form') prefill();
});

keepFocus();
prefill();
if (query.get('autojoin') === '1') join();
