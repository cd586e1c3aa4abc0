// Moves the focus to the next element when the focused one is removed, hidden or disabled. Otherwise the browser
// would restart at the top of the page, and keyboard users would lose their place.

const FOCUSABLE = 'button, input, select, textarea, a[href], [tabindex]';

// The focus stays within an area if it can: another participant follows a participant, another field follows a field.
const AREAS = '#tiles, #panel, .notices, #bar, main';

/** @type {HTMLElement | null} */
let last = null; // the element that has the focus, or had it until the page changed
/** @type {HTMLElement[]} */
let around = []; // the focusable elements when `last` got the focus, in document order
/** @type {Element | null} */
let area = null; // the area that contained it

export function keepFocus() {
  addEventListener('focusin', ({ target }) => { if (target instanceof HTMLElement) remember(target); });
  addEventListener('focusout', () => {
    // The element is still usable, so the user moved the focus away, such as by a click elsewhere: forget the element.
    setTimeout(() => { if (last && isUsable(last) && document.activeElement !== last) last = null; });
  });
  const attributeFilter = ['hidden', 'class', 'disabled', 'data-state', 'inert'];
  new MutationObserver(restore).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter });
}

/** @param {HTMLElement} element */
function remember(element) {
  last = element;
  around = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(FOCUSABLE)]);
  area = element.closest(AREAS);
}

function restore() {
  if (!last || isUsable(last)) return;
  const now = document.activeElement;
  if (now && now !== document.body && now !== last) return; // another element has it already
  const at = around.indexOf(last);
  const near = [...around.slice(at + 1), ...around.slice(0, Math.max(0, at)).reverse()];
  // Not a destructive button: the second press of a double press would trigger it.
  const canHave = (/** @type {HTMLElement} */ element) => (element.tabIndex >= 0 || element.matches('.tile-button')) && isUsable(element) && !element.matches('.leave, .bad');
  const next = near.find((element) => canHave(element) && element.closest(AREAS) === area) ?? heading() ?? near.find(canHave);
  last = null;
  next?.focus();
}

/** The heading of the visible part: the lobby, the call or its end. */
function heading() {
  return /** @type {HTMLElement[]} */ ([...document.querySelectorAll('h1')]).find(isUsable);
}

/** @param {HTMLElement} element */
function isUsable(element) {
  return element.isConnected && element.checkVisibility({ visibilityProperty: true }) && !element.matches(':disabled') && !element.closest('[inert]');
}
