// Gestures: raised hands, reactions, new names; and who moderates. The server sends a reaction to the others only, so
// the own one is shown when it is sent. The own hand is shown at once, too.

import { announce } from '../announce.js';
import { switches } from '../devices/options.js';
import { notify, tell } from '../notices.js';
import { reduce } from '../room.js';
import * as state from '../state.js';

/** @typedef {import('../words/index.js').Words} Words */
/** @typedef {import('../room.js').Message} Message */

/** How long a reaction is shown, in milliseconds. */
const SHOWN_MS = 3000;

export class Gestures {
  isHandUnsure = false; // the latest gesture was the own hand, and the server may refuse it

  /** @param {(message: Message) => boolean} send */
  constructor(send) {
    this.send = send;
  }

  /** Raises or lowers the own hand. */
  toggleHand() {
    const { me, hands } = state.room.peek();
    if (!me) return;
    const raised = !hands.includes(me.id);
    if (!this.send({ event: 'hand', raised })) return;
    this.isHandUnsure = true;
    apply({ event: 'hand', id: me.id, raised });
    announce({ key: raised ? 'said.hand-up' : 'said.hand-down' });
  }

  /** @param {string} reaction */
  react(reaction) {
    const { me } = state.room.peek();
    if (!me || !this.send({ event: 'reaction', reaction })) return;
    this.isHandUnsure = false;
    apply({ event: 'reaction', id: me.id, reaction });
    this.showReaction(me.id);
  }

  /** @param {string} name */
  rename(name) {
    this.isHandUnsure = false;
    if (name && name !== state.room.peek().me?.name) this.send({ event: 'rename', name });
  }

  /** The server refused a gesture, or does not know gestures. */
  refused() {
    const { me, hands } = state.room.peek();
    if (!this.isHandUnsure || !me) return;
    this.isHandUnsure = false;
    apply({ event: 'hand', id: me.id, raised: !hands.includes(me.id) });
  }

  /** Hides a reaction after its time, unless another one has replaced it. @param {string} id */
  showReaction(id) {
    const shown = state.room.peek().reactions.get(id);
    setTimeout(() => {
      if (state.room.peek().reactions.get(id) === shown) apply({ event: 'reaction', id, reaction: '' });
    }, SHOWN_MS);
  }

  /** @type {Record<string, (message: any, before: import('../room.js').Room) => void>} */
  handlers = {
    hand: ({ id, raised, by }, before) => {
      if (by && id === before.me?.id) {
        tell({ key: 'moderation.lowered', params: { name: nameOr(by) } });
      } else if (raised && !before.hands.includes(id)) {
        if (switches.peek().sayHands) announce({ key: 'said.hand', params: { name: state.nameOf(id) ?? { key: 'person.guest' } } });
      }
    },
    reaction: ({ id }) => this.showReaction(id),
    promote: ({ id, by }, before) => {
      if (id === before.me?.id) tell({ key: 'moderation.promoted', params: { name: nameOr(by) } });
    },
    spotlight: ({ id, by }, before) => {
      if (id === before.me?.id && by !== id) tell({ key: 'moderation.spotlight', params: { name: nameOr(by) } });
    },
    knock: ({ id, name, waiting }, before) => {
      if (waiting && !before.knocks.has(id)) announce({ key: 'knock.one', params: { name: name || { key: 'person.guest' } } });
    },
    notice: ({ message }) => {
      // The host's text is not translated.
      notify({ id: 'host', kind: 'plain', icon: 'info', words: { code: 'notice', message }, closes: true });
    },
  };
}

/** @param {Message} message */
function apply(message) {
  state.room.value = reduce(state.room.peek(), message);
}

/** @param {string} id @returns {string | Words} */
const nameOr = (id) => state.nameOf(id) ?? { key: 'person.moderator' };
