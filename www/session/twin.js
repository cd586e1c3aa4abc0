// Two tabs of this browser in one room notice each other.

/** @typedef {{ kind: 'hello' | 'here' | 'bye' | 'leave', room: string, tab: string }} Greeting */

/**
 * What a greeting of another tab means for this one.
 * @param {Greeting} greeting @param {{ room: string, tab: string }} own
 * @returns {{ twin?: boolean, answers?: boolean, leaves?: boolean }}
 */
export function understand({ kind, room, tab }, own) {
  if (!own.room || room !== own.room || tab === own.tab) return {};
  if (kind === 'hello') return { twin: true, answers: true };
  if (kind === 'here') return { twin: true };
  if (kind === 'bye') return { twin: false };
  return kind === 'leave' ? { leaves: true } : {};
}

/**
 * Greets the other tabs in the room.
 * @param {string} room @param {{ twin: (isThere: boolean) => void, leave: () => void }} on
 * @returns {{ take: () => void, end: () => void }} `take` makes the others leave
 */
export function greet(room, on) {
  if (typeof BroadcastChannel === 'undefined') return { take() {}, end() {} };
  const channel = new BroadcastChannel('aq-call');
  const own = { room, tab: String(Math.random()) };
  const say = (/** @type {Greeting['kind']} */ kind) => channel.postMessage({ kind, ...own });
  channel.onmessage = ({ data }) => {
    const { twin, answers, leaves } = understand(data, own);
    if (answers) say('here');
    if (twin !== undefined) on.twin(twin);
    if (leaves) on.leave();
  };
  say('hello');
  return {
    take: () => say('leave'),
    end: () => {
      say('bye');
      channel.close();
    },
  };
}
