// Reads the statistics of the call once a second, as long as somebody looks at them.

import * as state from '../state.js';
import { signal } from '../store.js';
import { NOTHING_READ, read, traffic } from './statistics.js';

const EVERY_MS = 1000;

/** @param {() => import('./session.js').Session | null} session */
export function sampler(session) {
  const reading = signal(NOTHING_READ);
  const minute = signal(/** @type {(import('./statistics.js').Traffic & { at: number })[]} */ ([]));
  let isOver = false;
  const look = async () => {
    const { call, connection } = session() ?? {};
    const entries = call ? [...(await call.pc.getStats()).values()] : [];
    if (isOver) return;
    const { me, quality } = state.room.peek();
    minute.value = traffic(connection?.pulse?.traffic ?? []);
    reading.value = read(entries, reading.peek(), { lines: call?.lines ?? [], quality, me: me?.id ?? '' });
  };
  const timer = setInterval(look, EVERY_MS);
  look();
  return {
    reading,
    minute,
    close() {
      isOver = true;
      clearInterval(timer);
    },
  };
}
