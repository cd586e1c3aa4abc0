// Menus beside their button; on phones a sheet from below. Escape or a press elsewhere closes them.

import { scope } from '../store.js';
import { say } from '../words/index.js';
import { h } from './dom.js';
import { icon } from './icons.js';

/** @typedef {import('../commands.js').Command} Command */

const EDGE = 8;

/** What closes the open menu. @type {(() => void) | null} */
let closeOpen = null;

/**
 * @param {HTMLElement} anchor the button
 * @param {{ id: string, label: () => string, role?: 'menu' | 'dialog' }} about
 * @param {(close: () => void) => (Node | null)[]} fill makes the content
 */
export function openPopover(anchor, { id, label, role = 'menu' }, fill) {
  if (closeOpen) {
    const isSame = document.getElementById(id) !== null && anchor.getAttribute('aria-expanded') === 'true';
    closeOpen();
    if (isSame) return;
  }
  let element = /** @type {HTMLElement | null} */ (null);
  let isDone = false;
  const close = () => {
    if (isDone) return;
    isDone = true;
    closeOpen = null;
    const hadFocus = element?.contains(document.activeElement) || document.activeElement === document.body;
    anchor.setAttribute('aria-expanded', 'false');
    end();
    element?.remove();
    if (hadFocus && anchor.isConnected) anchor.focus();
  };
  const end = scope(() => {
    const made = element = h('div', { id, class: 'menu', popover: 'auto', role, 'aria-label': label });
    made.append(...fill(close).filter((each) => each !== null));
    made.addEventListener('toggle', (event) => { if (/** @type {ToggleEvent} */ (event).newState === 'closed') close(); });
    made.addEventListener('keydown', (event) => move(event, made));
  });
  closeOpen = close;
  if (!element) return;
  (anchor.closest('nav, main') ?? document.body).append(element); // a screen reader finds it beside its button
  anchor.setAttribute('aria-expanded', 'true');
  element.showPopover();
  place(element, anchor);
  const all = items(element);
  (all.find((each) => each.matches('.item')) ?? all[0])?.focus();
}

/** @param {HTMLElement} root */
const items = (root) => /** @type {HTMLElement[]} */ ([...root.querySelectorAll('.item, input')]).filter((each) => each.checkVisibility());

/** @param {KeyboardEvent} event @param {HTMLElement} root */
function move(event, root) {
  const all = items(root);
  const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const side = document.documentElement.dir === 'rtl' ? -1 : 1;
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, ArrowRight: at + side, ArrowLeft: at - side, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || !all.length || (/** @type {Element} */ (event.target).matches('input') && event.key !== 'ArrowDown' && event.key !== 'ArrowUp')) return;
  event.preventDefault();
  all[(to + all.length) % all.length].focus();
}

/** Above or below the button, within the window. @param {HTMLElement} element @param {HTMLElement} anchor */
function place(element, anchor) {
  const button = anchor.getBoundingClientRect();
  const { width, height } = element.getBoundingClientRect();
  const left = Math.max(EDGE, Math.min(button.left + button.width / 2 - width / 2, innerWidth - width - EDGE));
  const above = button.top - height - EDGE;
  const top = above >= EDGE ? above : Math.min(button.bottom + EDGE, innerHeight - height - EDGE);
  element.style.setProperty('--left', `${left}px`);
  element.style.setProperty('--top', `${Math.max(EDGE, top)}px`);
}

/** A command as an item of a menu, or as a button of a dialog. @param {Command} command @param {() => void} close @param {'menu' | 'dialog'} [of] */
export function item(command, close, of = 'menu') {
  const { id, isChecked } = command;
  return h('button', {
    type: 'button', class: `item${command.isBad ? ' bad' : ''}`, id: `item-${id}`,
    role: of === 'dialog' ? null : isChecked ? 'menuitemradio' : 'menuitem', 'aria-checked': isChecked ? () => String(isChecked()) : null,
    hidden: () => command.isShown?.() === false,
    on: { click: () => { close(); command.run(); } },
  }, icon(command.icon), h('span', null, () => say(command.words())), command.key ? h('kbd', null, command.key.toUpperCase()) : null);
}
