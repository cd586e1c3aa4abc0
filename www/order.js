// The order of the tiles: participants who speak move to the first page, and all others stay in place.
//
// A participant on a later page who speaks for SPEAKS_MS takes the place of the participant of the first page who has been
// silent longest, at most once in MOVE_MS. The speaker in the spotlight layout changes by the same rule.

/**
 * @typedef {{
 *   ids: readonly string[], since: ReadonlyMap<string, number>, spoke: ReadonlyMap<string, number>,
 *   speaker: string | null, moved: number, speakerChangedAt: number,
 * }} Order
 *   `since` is when each current speaker began to speak, `spoke` when the others last spoke; `moved` and `speakerChangedAt` are
 *   the times of the last move and of the last change of the speaker.
 */

export const SPEAKS_MS = 1500;
export const MOVE_MS = 3000;

/** @type {Order} */
export const UNORDERED = { ids: [], since: new Map(), spoke: new Map(), speaker: null, moved: -Infinity, speakerChangedAt: -Infinity };

/**
 * @param {Order} before
 * @param {{ ids: readonly string[], speaking: readonly string[], slots: number, now: number }} seen the participants in
 *   the order of their joins, those who speak, and how many the first page shows
 * @returns {{ order: Order, wake: number | null }} `wake` is when to call it again even if nothing else happens
 */
export function reorder(before, { ids, speaking, slots, now }) {
  const here = new Set(ids);
  const kept = before.ids.filter((id) => here.has(id));
  const known = new Set(kept);
  const next = [...kept, ...ids.filter((id) => !known.has(id))];
  const talkers = speaking.filter((id) => here.has(id));
  const since = new Map(talkers.map((id) => [id, before.since.get(id) ?? now]));
  const spoke = new Map([...before.spoke].filter(([id]) => here.has(id)));
  for (const id of before.since.keys()) if (here.has(id)) spoke.set(id, now);
  let { moved, speakerChangedAt, speaker } = before;
  let wake = Infinity;

  const readyAt = (/** @type {string} */ id) => /** @type {number} */ (since.get(id)) + SPEAKS_MS;
  const hidden = talkers.filter((id) => next.indexOf(id) >= slots).sort((a, b) => readyAt(a) - readyAt(b));
  if (hidden.length && slots > 0) {
    const due = Math.max(readyAt(hidden[0]), moved + MOVE_MS);
    const silent = next.slice(0, slots).filter((id) => !since.has(id));
    const silentLongest = silent.reduce((/** @type {string | null} */ one, other) => (one === null || (spoke.get(other) ?? -Infinity) <= (spoke.get(one) ?? -Infinity) ? other : one), null);
    if (silentLongest !== null && due <= now) {
      const [from, to] = [next.indexOf(hidden[0]), next.indexOf(silentLongest)];
      [next[from], next[to]] = [silentLongest, hidden[0]];
      moved = now;
      if (hidden.length > 1) wake = Math.max(readyAt(hidden[1]), now + MOVE_MS);
    } else if (silentLongest !== null) wake = due;
  }

  if (speaker !== null && !here.has(speaker)) speaker = null;
  const dominant = talkers[0];
  if (dominant !== undefined && dominant !== speaker) {
    const due = speaker === null ? now : Math.max(readyAt(dominant), speakerChangedAt + MOVE_MS);
    if (due <= now) [speaker, speakerChangedAt] = [dominant, now];
    else wake = Math.min(wake, due);
  }
  return { order: { ids: next, since, spoke, speaker, moved, speakerChangedAt }, wake: wake === Infinity ? null : wake };
}
