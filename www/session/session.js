// One stay in a room: turns the server's messages into state, and the user's actions into messages.
//
// The server decides who is in the room: each `welcome` replaces the participants and the tracks.

import { announce, gather } from '../announce.js';
import { switches } from '../devices/options.js';
import { addHistory, EMPTY_LOG, receive, refuse, send, setOwn } from '../chatlog.js';
import { dismiss, notify, tell } from '../notices.js';
import { EMPTY, reduce } from '../room.js';
import { keepInTab, keptInTab } from '../settings.js';
import * as state from '../state.js';
import { Call } from './call.js';
import { Connection } from './connection.js';
import { Gestures } from './gestures.js';
import { Signaling } from './signaling.js';
import { View } from './view.js';

/** @typedef {import('../words/index.js').Words} Words */
/** @typedef {import('../room.js').Message} Message */

// How many of its former participant ids a tab remembers. Own chat messages with older ids look like another person's.
const OWN_IDS = 50;

// Codes of `error` events that the user cannot do anything about.
const NOT_SHOWN = ['not-publishing', 'cannot-decode', 'unknown-event'];

/** @typedef {'mute' | 'mute-all' | 'lower-hand' | 'spotlight' | 'promote' | 'remove' | 'lock' | 'unlock' | 'end'} Action */

export class Session {
  /** @type {Call | null} */
  call = null;
  /** @type {Map<string, boolean>} */
  mutesOnServer = new Map(); // source -> the mute state that was last sent
  view = new View((message) => this.send(message));
  gestures = new Gestures((message) => this.send(message));
  connection = new Connection((message) => this.send(message), () => this.isMediaDue());
  ended = false;

  /**
   * @param {{ room: string, name: string, token: string | null }} query
   * @param {import('../devices/local.js').Local} local the own devices, which this session closes at its end
   * @param {string} page the page's URL
   */
  constructor(query, local, page) {
    this.local = local;
    local.on = {
      changed: (key) => this.call?.changed(key),
      muted: (source, muted) => this.sendMute(source, muted),
      unpublish: (key) => this.call?.unpublish(key),
    };
    state.chat.value = EMPTY_LOG;
    state.waiting.value = null;
    state.phase.value = 'joining';
    this.signaling = new Signaling(query, {
      message: (message) => this.onMessage(message),
      lost: (loss) => this.onLost(loss),
      refused: (words, code) => this.onRefused(words, code),
    }, page);
  }

  /** @param {Message} message @returns {boolean} whether there is a connection */
  send(message) {
    return this.signaling?.send(message) ?? false;
  }

  leave() {
    this.close({ words: { key: 'ended.left' }, canRejoin: true });
  }

  /** Ends the stay. @param {Omit<import('../state.js').End, 'room'> | null} end null leads back to the lobby */
  close(end) {
    if (this.ended) return;
    this.ended = true;
    this.signaling.leave();
    this.call?.close();
    this.call = null;
    this.connection.close();
    this.view.close();
    this.local.close();
    for (const id of /** @type {const} */ (['signaling', 'asked', 'sound', 'problem', 'info', 'host', 'knock'])) dismiss(id);
    state.isSoundBlocked.value = false;
    state.end.value = end && { ...end, room: this.signaling.query.room };
    state.phase.value = end ? 'ended' : 'lobby';
    state.room.value = EMPTY;
    state.lines.value = [];
    state.panel.value = null;
    state.pinned.value = null;
    state.page.value = 0;
    state.waiting.value = null;
  }

  /** Sends a chat message. @param {string} text @returns {Words | null} why it was not sent */
  sendChat(text) {
    const bytes = new TextEncoder().encode(text).length;
    const most = state.room.peek().limits.chat_bytes;
    if (bytes > most) return { key: 'chat.too-long', params: { bytes, most } };
    if (!this.send({ event: 'chat', data: text })) return { key: 'chat.not-connected' };
    state.chat.value = send(state.chat.peek(), text, Date.now());
    return null;
  }

  /** @param {Action} action @param {string} [id] */
  moderate(action, id) {
    this.send({ event: 'moderate', action, ...(id && { id }) });
  }

  /** Admits or refuses a waiting client. @param {string} id @param {boolean} admitted */
  admit(id, admitted) {
    this.send({ event: 'admit', id, admitted });
  }

  /** @param {Message} message */
  onMessage(message) {
    const before = state.room.peek();
    state.room.value = reduce(before, message);
    this.handlers[message.event]?.(message, before); // events that this page does not know are ignored
  }

  /** @type {Record<string, (message: any, before: import('../room.js').Room) => void>} */
  handlers = {
    ...this.gestures.handlers,
    welcome: ({ id }, before) => {
      const again = before.me?.id === id;
      const { me, people } = state.room.peek();
      if (!me?.rights.publish) this.local.close();
      state.lines.value = [];
      // The server may have kept the mute states of a participant that returns: they are all sent again.
      this.mutesOnServer = new Map(again ? [] : [['microphone', false], ['camera', false], ['screen', false]]);
      this.newCall();
      state.chat.value = setOwn(state.chat.peek(), id, ownIds(id));
      const isBack = state.phase.peek() === 'reconnecting';
      dismiss('signaling');
      state.waiting.value = null;
      state.phase.value = 'joined';
      announce(isBack ? { key: 'said.back' } : { key: 'said.entered', params: { room: me?.room ?? '', count: people.size } });
    },
    rename: ({ id, name }, before) => {
      if (id !== before.me?.id) return;
      this.signaling.query = { ...this.signaling.query, name }; // for a server that has forgotten this participant
      tell({ key: 'rename.done', params: { name } });
    },
    // A moderator has to admit this client: it is new, or was absent for too long.
    waiting: ({ position = 1 }) => {
      dismiss('signaling');
      state.lines.value = [];
      state.phase.value = 'joining';
      const wait = /** @type {const} */ ({ key: 'lobby.waiting' });
      state.waiting.value = position > 1 ? { key: 'lobby.waiting-after', params: { words: wait, count: position - 1 } } : wait;
    },
    history: ({ lines = [] }) => {
      state.chat.value = addHistory(state.chat.peek(), lines, Date.now());
    },
    joined: ({ id }, before) => {
      if (before.me?.id !== id && !before.people.has(id)) gather('joined', personName(state.room.peek(), id), before.people.size);
    },
    left: ({ id }, before) => {
      if (before.people.has(id)) gather('left', personName(before, id), before.people.size);
    },
    tracks: ({ tracks = [] }) => this.call?.handleTracks(tracks),
    offer: ({ data }) => this.call?.handleOffer(data),
    candidate: ({ data }) => this.call?.handleCandidate(data),
    layers: (message) => this.call?.handleLayers(message),
    // The state of this participant's own media connection. Chat works without it.
    media: ({ id, state: now, fresh = false, retry_ms: retry }) => {
      if (id) return;
      if (now === 'lost') return this.connection.showMediaLost(retry);
      if (now === 'connected') return this.connection.connected();
      if (!fresh) return;
      state.lines.value = [];
      this.newCall();
    },
    mute: ({ id, by }) => {
      if (id !== state.room.peek().me?.id) return;
      // A moderator muted the microphone: the server does not forward it until this participant unmutes it.
      this.mutesOnServer.set('microphone', true);
      this.local.silence();
      tell({ key: 'moderation.muted', params: { name: nameOr(by) } });
      announce({ key: 'moderation.muted', params: { name: nameOr(by) } }, true);
    },
    lock: ({ locked, by }) => {
      if (by === state.room.peek().me?.id) return;
      tell({ key: locked ? 'moderation.locked' : 'moderation.unlocked', params: { name: nameOr(by) } });
    },
    chat: (line) => {
      const isOpen = state.panel.peek() === 'chat';
      state.chat.value = receive(state.chat.peek(), line, isOpen, Date.now());
      if (!isOpen && switches.peek().sayChat) announce({ key: 'said.chat', params: { name: line.name || { key: 'person.somebody' }, text: line.message } });
    },
    error: ({ code, message }) => {
      if (code === 'gesture-too-fast' || code === 'unknown-event') this.gestures.refused();
      if (NOT_SHOWN.includes(code)) return console.info(message);
      if (code === 'chat-too-long' || code === 'chat-too-fast') state.chat.value = refuse(state.chat.peek());
      tell({ code, message }, 'warn');
    },
    closing: () => this.connection.announceRestart(() => this.signaling.connect()),
  };

  newCall() {
    this.call?.close();
    this.view.forget();
    const call = this.call = new Call(this.local.tracks, (message) => this.send(message), {
      lines: (lines) => { state.lines.value = lines; },
      attached: (source) => {
        if (source === 'microphone') this.sendMute(source, !this.local.microphoneOn);
        if (source === 'camera') this.sendMute(source, false);
      },
      connected: () => {
        this.connection.connected();
        this.signaling.resetBackoff();
      },
      // The server offers a fresh transport. If it cannot be reached, the WebSocket fails too and reconnects.
      failed: () => {
        this.connection.showMediaLost();
        this.send({ event: 'renew' });
      },
      problem: (error) => {
        console.error(error);
        tell({ key: 'problem.call', params: { reason: error.message } }, 'warn');
      },
    });
    this.connection.follow(call.pc);
  }

  /** Whether a working connection receives packets: audio of a participant, or RTCP feedback on the own tracks. */
  isMediaDue() {
    const { people } = state.room.peek();
    const isHeard = (/** @type {import('../room.js').Line} */ { id, source, kind }) => kind === 'audio' && people.get(id)?.muted.has(source) === false;
    return this.local.tracks.size > 0 || state.lines.peek().some(isHeard);
  }

  /** Sends the mute state, unless the server has it already. @param {string} source @param {boolean} muted */
  sendMute(source, muted) {
    if (this.mutesOnServer.get(source) === muted) return;
    if (this.send({ event: 'mute', source, muted })) this.mutesOnServer.set(source, muted);
  }

  /** @param {import('./signaling.js').Loss} loss */
  onLost(loss) {
    this.connection.close();
    this.call?.close();
    this.call = null;
    if (!state.room.peek().me) {
      state.waiting.value = loss.words;
      return;
    }
    // An empty tile is better than a frozen picture.
    state.lines.value = [];
    state.room.value = reduce(state.room.peek(), { event: 'speaking' });
    state.phase.value = 'reconnecting';
    this.connection.showLoss(loss, () => this.signaling.retryNow());
  }

  /** @param {Words} words @param {string} code */
  onRefused(words, code) {
    if (state.room.peek().me) return this.close({ words, canRejoin: code !== 'removed' });
    this.close(null);
    notify({ id: 'problem', kind: 'warn', icon: 'warn', words, closes: true });
  }
}

/** @param {import('../room.js').Room} room @param {string} id @returns {string | Words} */
const personName = (room, id) => room.people.get(id)?.name || { key: 'person.guest' };

/** @param {string} id @returns {string | Words} */
const nameOr = (id) => state.nameOf(id) ?? { key: 'person.moderator' };

/** The former participant ids of this tab, which identify its chat messages after a reload. Remembers `id` for later. @param {string} id */
function ownIds(id) {
  const earlier = (keptInTab('ids') ?? '').split(' ').filter(Boolean);
  if (!earlier.includes(id)) keepInTab('ids', [...earlier, id].slice(-OWN_IDS).join(' '));
  return earlier;
}
