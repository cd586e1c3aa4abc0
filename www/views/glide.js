// Puts a tile at its place; from another one it glides there, unless the user wants no motion.

const CALM_MS = 220;
const EASE = 'cubic-bezier(.2, .7, .2, 1)';

const still = matchMedia('(prefers-reduced-motion: reduce)');

/**
 * @param {{ element: HTMLElement, place: string | null }} tile @param {import('../layout.js').Box} box
 * @param {boolean} moves whether it glides
 */
export function glide(tile, { x, y, width, height }, moves) {
  const { element } = tile;
  const place = [x, y, width, height].map(Math.round).join(' ');
  if (tile.place === place) return;
  const from = moves && tile.place && !still.matches ? tile.place.split(' ').map(Number) : null;
  tile.place = place;
  const { style } = element;
  style.translate = `${Math.round(x)}px ${Math.round(y)}px`;
  style.width = `${Math.round(width)}px`;
  style.height = `${Math.round(height)}px`;
  if (!from || element.classList.contains('away')) return;
  const [left, top, wide, tall] = from;
  // From the former rectangle; only `transform` changes, so nothing is laid out again.
  const start = `translate(${left - x}px, ${top - y}px) scale(${wide / width}, ${tall / height})`;
  element.animate([{ transform: start }, { transform: 'none' }], { duration: CALM_MS, easing: EASE });
}
