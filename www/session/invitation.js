// The invitation: what the address and the token in it say about the room, the name and the rights.

import { EVERYBODY } from '../room.js';
import { keepInTab, keptInTab } from '../settings.js';

/** @typedef {import('../words/index.js').Words} Words */
/** @typedef {{ name: string, room: string, rights: import('../room.js').Rights, words: Words | null }} Invitation */

/**
 * The token of the invitation link. It is in the fragment, which is not sent to servers; the query works too. Joining
 * removes it from the address, which people share, so a copy in the tab's storage survives a reload.
 * @param {URL} page @returns {string | null}
 */
export function findToken(page) {
  const given = new URLSearchParams(page.hash.slice(1)).get('token') ?? page.searchParams.get('token');
  if (given) keepInTab('token', given);
  return given ?? keptInTab('token');
}

/**
 * Decodes the token's claims to fill in the form. Only the server can verify them.
 * @param {string | null} token @param {number} now milliseconds @returns {Invitation}
 */
export function readInvitation(token, now) {
  try {
    const payload = (token ?? '').split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    const { name, room, publish, subscribe, nbf, exp } = JSON.parse(new TextDecoder().decode(bytes));
    const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value.trim() : '');
    const rights = { ...EVERYBODY, publish: publish !== false, subscribe: subscribe !== false };
    return { name: text(name), room: text(room), rights, words: period(nbf * 1000, exp * 1000, now) };
  } catch {
    return { name: '', room: '', rights: EVERYBODY, words: null }; // no token, or one that the server will refuse
  }
}

/** @param {number} begin @param {number} end @param {number} now @returns {Words | null} */
function period(begin, end, now) {
  if (end < now) return { key: 'invitation.expired', params: { date: new Date(end) } };
  return begin > now ? { key: 'invitation.early', params: { date: new Date(begin) } } : null;
}

/** What the rights do not allow. @param {import('../room.js').Rights} rights @returns {Words | null} */
export function restriction({ publish, subscribe }) {
  if (subscribe) return publish ? null : { key: 'rights.watch' };
  return { key: publish ? 'rights.send' : 'rights.chat' };
}

/** The address to share: it names the room, without this participant's name and token. @param {URL} page @param {string} room */
export function inviteLink(page, room) {
  const url = new URL(page);
  url.search = new URLSearchParams({ room }).toString();
  url.hash = '';
  return url.href;
}
