// Moves the own picture to a corner by dragging it, and opens it when it is only a chip.

import * as state from '../../state.js';
import { flush } from '../../store.js';
import { cornerAt } from './corner.js';

/** Less movement, in pixels, is a press. */
const PRESS = 6;
const CALM_MS = 220;

const still = matchMedia('(prefers-reduced-motion: reduce)');

/** @param {HTMLElement} root the tiles */
export function moveSelf(root) {
  /** @type {{ element: HTMLElement, x: number, y: number, moved: boolean } | null} */
  let drag = null;
  let wasMoved = false;
  root.addEventListener('pointerdown', ({ target, button, clientX: x, clientY: y }) => {
    const element = /** @type {Element} */ (target).closest('.tile[data-role=self]');
    wasMoved = false;
    drag = element instanceof HTMLElement && button === 0 ? { element, x, y, moved: false } : null;
  });
  root.addEventListener('pointermove', ({ clientX, clientY, pointerId }) => {
    if (!drag) return;
    const [dx, dy] = [clientX - drag.x, clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < PRESS) return;
    if (!drag.moved) drag.element.setPointerCapture(pointerId);
    drag.moved = wasMoved = true;
    drag.element.style.transform = `translate(${dx}px, ${dy}px)`;
  });
  const drop = (/** @type {boolean} */ counts) => {
    const { element, moved } = drag ?? {};
    drag = null;
    if (!element || !moved) return;
    const [from, space] = [element.getBoundingClientRect(), root.getBoundingClientRect()];
    element.style.transform = '';
    const center = { x: from.x + from.width / 2 - space.x, y: from.y + from.height / 2 - space.y };
    if (counts) state.corner.value = cornerAt(center, space, document.documentElement.dir === 'rtl');
    flush();
    const to = element.getBoundingClientRect();
    for (const animation of element.getAnimations()) animation.cancel();
    if (!still.matches) element.animate([{ transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` }, { transform: 'none' }], { duration: CALM_MS, easing: 'ease-out' });
  };
  root.addEventListener('pointerup', () => drop(true));
  root.addEventListener('pointercancel', () => drop(false));
  root.addEventListener('click', (event) => {
    const target = /** @type {Element} */ (event.target);
    const isChip = state.selfView.peek() === 'chip' && target.closest('.tile[data-role=self]') && !target.closest('button');
    if (!wasMoved && !isChip) return;
    event.stopPropagation(); // no menu after a drag
    if (!wasMoved) state.selfView.value = 'shown';
    wasMoved = false;
  }, true);
}
