// How many participants are in a room, for the lobby.

/** @typedef {{ people: number, waits: boolean }} Presence `waits`: a moderator has to let one in */

/**
 * Asks the server. A refusal is told when one joins, not here; an older server does not say.
 * @param {{ room: string, token: string | null }} query @param {URL} page @param {AbortSignal} signal
 * @returns {Promise<Presence | null>}
 */
export async function findPresence({ room, token }, page, signal) {
  const url = new URL('check', page);
  url.search = url.hash = '';
  url.searchParams.set('room', room);
  url.searchParams.set('knock', '1');
  url.searchParams.set('origin', page.origin);
  if (token) url.searchParams.set('token', token);
  try {
    const response = await fetch(url, { cache: 'no-store', signal });
    return response.ok ? readPresence(await response.json()) : null;
  } catch {
    return null; // no response: joining tells
  }
}

/** @param {any} answer @returns {Presence | null} */
export function readPresence(answer) {
  const people = answer?.participants;
  return Number.isInteger(people) && people >= 0 ? { people, waits: answer.waiting === true } : null;
}
