// Keeps the screen on during a call, where the browser can.

import * as state from '../../state.js';
import { effect } from '../../store.js';

export function keepScreenOn() {
  effect(() => {
    if (!state.isInCall.value || !navigator.wakeLock) return undefined;
    /** @type {Promise<WakeLockSentinel | undefined>} */
    let lock = Promise.resolve(undefined);
    const take = () => {
      // Browsers release it when the page is hidden, and refuse it when the battery is low.
      if (!document.hidden) lock = navigator.wakeLock.request('screen').catch(() => undefined);
    };
    take();
    document.addEventListener('visibilitychange', take);
    return () => {
      document.removeEventListener('visibilitychange', take);
      lock.then((held) => held?.release());
    };
  });
}
