// Whether one talks while muted, and whether space may unmute.

/** Speech is LOUD levels above SPEECH among the last HEARD ones; a cough is shorter. */
const SPEECH = 0.45;
const HEARD = 12;
const LOUD = 6;

/** Looks for speech in levels from 0 to 1 as `measure` gives them. @returns {(level: number) => boolean} */
export function speechFinder() {
  /** @type {boolean[]} */
  const last = [];
  return (level) => {
    last.push(level > SPEECH);
    if (last.length > HEARD) last.shift();
    return last.filter(Boolean).length >= LOUD;
  };
}

/** Elements that take space themselves: a field types it, a button is pressed by it. */
export const TAKES_SPACE = 'input, textarea, select, button, summary, a[href], audio, video, [contenteditable], [role=button], [role=tab], dialog *, [popover] *';

/** Whether leaving the page by back or reload asks first: only where it ends a call. @param {import('../state.js').Phase} phase */
export const asksBeforeLeaving = (phase) => phase === 'joined' || phase === 'reconnecting';
