// The keyboard: single keys run commands while nobody types and no menu or dialog is open.

import { isInCall } from '../state.js';

/** @param {Record<string, import('../commands.js').Command>} table */
export function listenToKeys(table) {
  const byKey = new Map(Object.values(table).filter(({ key }) => key).map((command) => [command.key, command]));
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing || event.repeat || event.metaKey) return;
    // Many layouts have signs such as "[" only with AltGr, or on a Mac with Option.
    const isSign = !/^[\p{L}\p{N}]$/u.test(event.key);
    if (event.ctrlKey || event.altKey ? !isSign || (event.ctrlKey && !event.getModifierState('AltGraph')) : false) return;
    const target = /** @type {Element | null} */ (event.target);
    if (!isInCall.peek() || target?.closest('input, textarea, select, [contenteditable], dialog, [popover]')) return;
    const command = byKey.get(event.key.toLowerCase());
    if (!command || command.isShown?.() === false) return;
    event.preventDefault();
    command.run();
  });
}
