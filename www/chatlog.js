// The chat messages of a stay, as an immutable value: every function returns the next value.

/**
 * @typedef {{ key: number, name: string, from: string, text: string, time: string, own: boolean, more: boolean, refused: boolean, id: string | null }} Entry
 *   `more` marks one that soon follows another of the same participant: it is shown without the name. `id` identifies a
 *   message of the server: its own id, the sender and the time, since ids restart with the server.
 * @typedef {{
 *   entries: readonly Entry[], ids: ReadonlySet<string>, earlier: ReadonlySet<string>,
 *   unread: number, next: number, last: { from: string, at: number } | null,
 * }} Log
 *   `ids` are this participant's ids since the log began: their messages are added when they are sent. `earlier` are
 *   ids that this tab had before: their messages come with the history.
 * @typedef {{ id?: number, message: string, time: string, from?: string, name?: string }} Line a chat message of the server
 */

/** The maximum number of chat messages on the page. Older ones are removed, so that a room open for days does not fill the memory. */
export const MAX_ENTRIES = 1000;

/** A message this soon after another one of the same participant is shown without the name. */
const TOGETHER_MS = 120_000;

/** @type {Log} */
export const EMPTY_LOG = { entries: [], ids: new Set(), earlier: new Set(), unread: 0, next: 0, last: null };

/** @param {Log} log @param {string} id this participant's id from now on @param {Iterable<string>} earlier @returns {Log} */
export function setOwn(log, id, earlier) {
  return { ...log, ids: new Set(log.ids).add(id), earlier: new Set(earlier) };
}

/** @param {Log} log @param {readonly Line[]} lines @param {number} now @returns {Log} */
export function addHistory(log, lines, now) {
  return lines.filter(({ from }) => !log.ids.has(from ?? '')).reduce((next, line) => addLine(next, line, line.time, now), log);
}

/** @param {Log} log @param {Line} line @param {boolean} isRead @param {number} now @returns {Log} */
export function receive(log, line, isRead, now) {
  const next = addLine(log, line, timeOfDay(now), now);
  return next === log || isRead ? next : { ...next, unread: next.unread + 1 };
}

/** Adds an own message. The server does not send one back to its sender. @param {Log} log @param {string} text @param {number} now @returns {Log} */
export function send(log, text, now) {
  return append(log, { name: '', from: '', text, time: timeOfDay(now), own: true, id: null }, now);
}

/** Marks a message as not sent. The server does not say which one it refused: takes the last unmarked one. @param {Log} log @returns {Log} */
export function refuse(log) {
  const at = log.entries.findLastIndex(({ own, refused }) => own && !refused);
  return at < 0 ? log : { ...log, entries: log.entries.with(at, { ...log.entries[at], refused: true }) };
}

/** @param {Log} log @returns {Log} */
export const read = (log) => (log.unread ? { ...log, unread: 0 } : log);

/** @param {Log} log @param {Line} line @param {string} time @param {number} now @returns {Log} */
function addLine(log, line, time, now) {
  const { from = '', name = '', message } = line;
  const id = line.id === undefined ? null : `${line.id} ${from} ${line.time}`;
  if (id !== null && log.entries.some((entry) => entry.id === id)) return log;
  const own = log.earlier.has(from);
  return append(log, { name: own ? '' : name, from: own ? '' : from || name, text: message, time, own, id }, now);
}

/** @param {Log} log @param {Omit<Entry, 'key' | 'more' | 'refused'>} entry @param {number} now @returns {Log} */
function append(log, entry, now) {
  const { last } = log;
  const more = last !== null && last.from === entry.from && now - last.at < TOGETHER_MS;
  const entries = [...log.entries, { ...entry, key: log.next, more, refused: false }].slice(-MAX_ENTRIES);
  return { ...log, entries, next: log.next + 1, last: { from: entry.from, at: now } };
}

/** @param {number} now */
function timeOfDay(now) {
  const at = new Date(now);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}
