// The state of the room: `reduce` takes a message of the server and returns the next state. It has no side effects.

/**
 * @typedef {{ publish: boolean, subscribe: boolean, moderate: boolean }} Rights
 * @typedef {'microphone' | 'camera' | 'screen'} SourceName
 * @typedef {{ id: string, name: string, muted: ReadonlySet<string>, media: string, moderator: boolean }} Person
 * @typedef {{ mid: string, id: string, kind: 'audio' | 'video', source: SourceName, muted: boolean, own?: boolean }} Line
 * @typedef {{ id: string, room: string, name: string, rights: Rights, locked: boolean }} Me
 * @typedef {{ sent: boolean, limit: string, rid?: string, height?: number }} Quality `rid` and `height` are of the layer that is sent
 * @typedef {{ chat_bytes: number, name_chars: number, last_n: number }} Limits
 * @typedef {{
 *   me: Me | null,
 *   people: ReadonlyMap<string, Person>,
 *   lines: readonly Line[],
 *   speaking: readonly string[],
 *   quality: ReadonlyMap<string, Quality>,
 *   undecodable: ReadonlySet<string>,
 *   hands: readonly string[],
 *   reactions: ReadonlyMap<string, { emoji: string }>,
 *   spotlight: string | null,
 *   knocks: ReadonlyMap<string, string>,
 *   position: number,
 *   limits: Limits,
 * }} Room
 * @typedef {{ event: string, [field: string]: any }} Message
 */

/** The rights without a token, and with an older server, whose `welcome` has no `rights`. */
export const EVERYBODY = { publish: true, subscribe: true, moderate: false };

/** One emoji, which may have several code points. Servers pass on any short text. */
const EMOJI = /^[\p{Extended_Pictographic}\p{Regional_Indicator}\p{Emoji_Modifier}\u200d\ufe0f]+$/u;

/** @type {Room} */
export const EMPTY = {
  me: null,
  people: new Map(), // the other participants, in the order in which they joined
  lines: [], // as in the last `tracks`
  speaking: [], // ids, the dominant speaker first
  quality: new Map(), // by `key`
  undecodable: new Set(), // keys of the tracks that this browser cannot decode
  hands: [], // ids, in the order of raising
  reactions: new Map(), // by id, while they are shown
  spotlight: null, // the id of the participant that a moderator has put into the spotlight
  knocks: new Map(), // id -> name of the clients that wait for admission; only moderators receive them
  position: 0, // of this client among those that wait for admission, from 1
  limits: { chat_bytes: 4096, name_chars: 64, last_n: 0 },
};

/** The key of a picture: participant and source. @param {string} id @param {string} source */
export const key = (id, source) => `${id} ${source}`;

/** @param {Room} room @param {Message} message @returns {Room} the same object if nothing has changed */
export function reduce(room, message) {
  const step = steps[message.event];
  return step ? step(room, message) : room;
}

/** @type {Record<string, (room: Room, message: any) => Room>} */
const steps = {
  welcome(_, { id, room: name, name: own, rights = EVERYBODY, locked = false, participants = [], hands = [], spotlight = null, limits = {} }) {
    return {
      ...EMPTY,
      me: { id, room: name, name: own, rights, locked },
      people: new Map(participants.map((/** @type {any} */ each) => [each.id, person(each)])),
      hands,
      spotlight,
      limits: { ...EMPTY.limits, ...limits },
    };
  },

  joined(room, message) {
    if (message.id === room.me?.id) return room;
    return { ...room, people: new Map(room.people).set(message.id, person(message)) };
  },

  left(room, { id }) {
    if (!room.people.has(id)) return room;
    const people = new Map(room.people);
    people.delete(id);
    const others = (/** @type {string} */ each) => !each.startsWith(`${id} `);
    return {
      ...room,
      people,
      speaking: room.speaking.filter((each) => each !== id),
      hands: room.hands.filter((each) => each !== id),
      reactions: new Map([...room.reactions].filter(([each]) => each !== id)),
      spotlight: room.spotlight === id ? null : room.spotlight,
      quality: new Map([...room.quality].filter(([each]) => others(each))),
      undecodable: new Set([...room.undecodable].filter(others)),
    };
  },

  rename(room, { id, name }) {
    if (room.me && id === room.me.id) return { ...room, me: { ...room.me, name } };
    return change(room, id, { name: name || '' });
  },

  tracks(room, { tracks = [] }) {
    let next = { ...room, lines: tracks };
    for (const { id, source, muted, own } of tracks) if (!own) next = mute(next, id, source, muted);
    return next;
  },

  mute(room, { id, source, muted }) {
    return mute(room, id, source, muted);
  },

  quality(room, { tracks = [] }) {
    const quality = new Map(room.quality);
    for (const { mid, sent, limit, rid, height } of tracks) {
      const line = room.lines.find((each) => each.mid === mid);
      if (line) quality.set(key(line.id, line.source), { sent, limit, rid, height });
    }
    return { ...room, quality };
  },

  media(room, { id, state }) {
    return id ? change(room, id, { media: state }) : room;
  },

  waiting(_, { position = 1 }) {
    return { ...EMPTY, position };
  },

  knock(room, { id, name = '', waiting }) {
    if (!waiting && !room.knocks.has(id)) return room;
    const knocks = new Map(room.knocks);
    if (waiting) knocks.set(id, name);
    else knocks.delete(id);
    return { ...room, knocks };
  },

  hand(room, { id, raised }) {
    const others = room.hands.filter((each) => each !== id);
    // The own hand is raised at once; its place in the queue changes when the server's message arrives.
    return { ...room, hands: raised ? [...others, id] : others };
  },

  /** Without an emoji, hides the reaction. */
  reaction(room, { id, reaction }) {
    const reactions = new Map(room.reactions);
    if (reaction && EMOJI.test(reaction)) reactions.set(id, { emoji: reaction });
    else reactions.delete(id);
    return { ...room, reactions };
  },

  spotlight(room, { id = null }) {
    return { ...room, spotlight: id };
  },

  promote(room, { id }) {
    const { me } = room;
    if (me && me.id === id) return { ...room, me: { ...me, rights: { ...me.rights, moderate: true } } };
    return change(room, id, { moderator: true });
  },

  lock(room, { locked }) {
    return room.me ? { ...room, me: { ...room.me, locked } } : room;
  },

  speaking(room, { ids = [] }) {
    return { ...room, speaking: ids };
  },

  error(room, { code, id, source }) {
    if (code !== 'cannot-decode') return room;
    return { ...room, undecodable: new Set(room.undecodable).add(key(id, source)) };
  },
};

/** @returns {Person} @param {{ id: string, name?: string, muted?: string[], media?: string, moderator?: boolean }} message */
function person({ id, name = '', muted = [], media = 'connected', moderator = false }) {
  return { id, name, muted: new Set(muted), media, moderator };
}

/** @param {Room} room @param {string} id @param {Partial<Person>} fields @returns {Room} */
function change(room, id, fields) {
  const before = room.people.get(id);
  return before ? { ...room, people: new Map(room.people).set(id, { ...before, ...fields }) } : room;
}

/** @param {Room} room @param {string} id @param {string} source @param {boolean} muted @returns {Room} */
function mute(room, id, source, muted) {
  const before = room.people.get(id)?.muted;
  if (!before || before.has(source) === muted) return room;
  const sources = new Set(before);
  if (muted) sources.add(source);
  else sources.delete(source);
  const next = change(room, id, { muted: sources });
  if (!muted) return next;
  // The earlier states of the picture no longer apply.
  const [quality, undecodable] = [new Map(room.quality), new Set(room.undecodable)];
  quality.delete(key(id, source));
  undecodable.delete(key(id, source));
  return { ...next, quality, undecodable };
}
