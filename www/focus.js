// Focus that survives changes of the page: where the focused element is removed, hidden or disabled, the next one
// gets it. Otherwise the browser starts again at the top of the page, and people who use the keyboard lose their place.

const FOCUSABLE = 'button, input, textarea, a[href], [tabindex]';

// Among the participants another participant is next, in the form another field.
const AREAS = '#tiles, #chat, #notice, main';

let last = null; // the element that has the focus, or had it until the page changed
let around = []; // what could be focused then, in the order of the document
let area = null; // the part of the page that it was in

export function keepFocus() {
  addEventListener('focusin', ({ target }) => remember(target));
  addEventListener('focusout', () => {
    // It was taken away by the user: a click beside it, for example. What the page took away is restored below.
    setTimeout(() => { if (last && isUsable(last) && document.activeElement !== last) last = null; });
  });
  const attributeFilter = ['hidden', 'class', 'disabled', 'data-state', 'inert'];
  new MutationObserver(restore).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter });
}

function remember(element) {
  last = element;
  around = [...document.querySelectorAll(FOCUSABLE)];
  area = element.closest(AREAS);
}

function restore() {
  if (!last || isUsable(last)) return;
  const now = document.activeElement;
  if (now && now !== document.body && now !== last) return; // somewhere else already
  const at = around.indexOf(last);
  const near = [...around.slice(at + 1), ...around.slice(0, Math.max(0, at)).reverse()];
  // Not a button that ends something: whoever presses twice would press it.
  const canHave = (element) => element.tabIndex >= 0 && isUsable(element) && !element.matches('.danger, .moderate');
  const next = near.find((element) => canHave(element) && element.closest(AREAS) === area) ?? heading() ?? near.find(canHave);
  last = null;
  next?.focus();
}

// The start of what is shown now: the form or the call.
function heading() {
  return [...document.querySelectorAll('main h1')].find(isUsable);
}

function isUsable(element) {
  return element.isConnected && element.checkVisibility({ visibilityProperty: true }) && !element.matches(':disabled') && !element.closest('[inert]');
}
