// Moves a tile to its place, with an animation unless the user prefers reduced motion.

const GLIDE_MS = 220;
const EASE = 'cubic-bezier(.2, .7, .2, 1)';

const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');

/**
 * @param {{ element: HTMLElement, place: string | null }} tile @param {import('../layout.js').Box} box
 * @param {boolean} glides whether to animate the move
 */
export function glide(tile, { x, y, width, height }, glides) {
  const { element } = tile;
  const place = [x, y, width, height].map(Math.round).join(' ');
  if (tile.place === place) return;
  const from = glides && tile.place && !reducedMotion.matches ? tile.place.split(' ').map(Number) : null;
  tile.place = place;
  const { style } = element;
  style.translate = `${Math.round(x)}px ${Math.round(y)}px`;
  style.width = `${Math.round(width)}px`;
  style.height = `${Math.round(height)}px`;
  if (!from || element.classList.contains('away')) return;
  const [left, top, wide, tall] = from;
  // From the former rectangle; only `transform` changes, so nothing is laid out again.
  const start = `translate(${left - x}px, ${top - y}px) scale(${wide / width}, ${tall / height})`;
  element.animate([{ transform: start }, { transform: 'none' }], { duration: GLIDE_MS, easing: EASE });
}
