// Proposals for the name of a room: easy to read out and to type in any language.

const FIRST = ['amber', 'brisk', 'calm', 'clear', 'copper', 'coral', 'gentle', 'golden', 'green', 'happy', 'ivory', 'jolly', 'lucky', 'mellow', 'misty', 'noble', 'olive', 'quiet', 'rapid', 'silver', 'sunny', 'swift', 'tidy', 'violet', 'warm', 'wise'];
const SECOND = ['badger', 'birch', 'brook', 'canyon', 'cedar', 'comet', 'delta', 'falcon', 'fern', 'forest', 'garden', 'harbor', 'island', 'lagoon', 'maple', 'meadow', 'orchid', 'otter', 'panda', 'pebble', 'prairie', 'river', 'robin', 'summit', 'tulip', 'walnut'];

/** With its number, two proposals on one day are rarely the same. */
export function proposeRoom() {
  const pick = (/** @type {number} */ most) => crypto.getRandomValues(new Uint32Array(1))[0] % most;
  return `${FIRST[pick(FIRST.length)]}-${SECOND[pick(SECOND.length)]}-${100 + pick(900)}`;
}
