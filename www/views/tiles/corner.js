// In which corner the own picture stands when one is alone with one other person. Pure.

/** @typedef {import('../../layout.js').Corner} Corner */

/**
 * The corner that a point is nearest to.
 * @param {{ x: number, y: number }} point from the left and the top @param {import('../../layout.js').Size} space
 * @param {boolean} isMirrored whether the script runs from right to left @returns {Corner}
 */
export function cornerAt({ x, y }, { width, height }, isMirrored) {
  const isEnd = (x > width / 2) !== isMirrored;
  return `${y > height / 2 ? 'bottom' : 'top'}-${isEnd ? 'end' : 'start'}`;
}

/**
 * The corner in the direction of an arrow key, or null at that edge.
 * @param {Corner} from @param {string} key @param {boolean} isMirrored @returns {Corner | null}
 */
export function cornerTowards(from, key, isMirrored) {
  const [row, side] = from.split('-');
  const toEnd = isMirrored ? 'ArrowLeft' : 'ArrowRight';
  const rows = /** @type {Record<string, string>} */ ({ ArrowUp: 'top', ArrowDown: 'bottom' });
  const to = key in rows ? `${rows[key]}-${side}` : /Left|Right/.test(key) ? `${row}-${key === toEnd ? 'end' : 'start'}` : from;
  return to === from ? null : /** @type {Corner} */ (to);
}
