// Elements whose attributes and texts follow signals.
//
// A function as an attribute or as a child is an effect: `h('p', { hidden: () => !words.value }, () => words.value)`.

import { effect } from '../store.js';

/** @typedef {string | number | Node | null | undefined | false | (() => string | number | null | undefined)} Child */
/** @typedef {{ on?: { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void }, [name: string]: any }} Props */

/** Attributes that are properties of an element, of any type. */
const PROPERTIES = new Set(['value', 'checked', 'disabled', 'readOnly', 'hidden', 'inert', 'srcObject', 'muted', 'open']);

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Props | null} [props] @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === 'on') {
      for (const [event, act] of Object.entries(value)) element.addEventListener(event, /** @type {EventListener} */ (act));
    } else if (typeof value === 'function') effect(() => set(element, name, value()));
    else set(element, name, value);
  }
  append(element, children);
  return element;
}

/** @param {Element} element @param {Child[]} children */
export function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (typeof child === 'function') {
      const text = document.createTextNode('');
      effect(() => { text.data = String(child() ?? ''); });
      element.append(text);
    } else element.append(child instanceof Node ? child : String(child));
  }
}

/** @param {Element} element @param {string} name @param {any} value */
function set(element, name, value) {
  if (PROPERTIES.has(name)) {
    if (/** @type {any} */ (element)[name] !== value) /** @type {any} */ (element)[name] = value;
  } else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : String(value));
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** The initials of a name. @param {string} name */
export function initials(name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0]).join('').toUpperCase() || '?';
}

/** A hue for a name: the same name has the same one everywhere and always. @param {string} name */
export function hue(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + /** @type {number} */ (letter.codePointAt(0))) % 36_007;
  return hash % 360;
}
