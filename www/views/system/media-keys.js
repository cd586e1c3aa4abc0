// The keys of headsets and lock screens in a call (Media Session).

import * as state from '../../state.js';
import { effect } from '../../store.js';

/** @param {Record<string, import('../../commands.js').Command>} table @param {() => import('../../devices/local.js').State | undefined} own */
export function listenToMediaKeys(table, own) {
  const session = navigator.mediaSession;
  if (!session) return;
  const actions = { togglemicrophone: table.mic, togglecamera: table.camera, hangup: table.leave };
  effect(() => {
    if (!state.isInCall.value) return undefined;
    for (const [action, { run }] of Object.entries(actions)) handle(session, action, run);
    return () => Object.keys(actions).forEach((action) => handle(session, action, null));
  });
  effect(() => {
    const { me } = state.room.value;
    session.metadata = me && state.isInCall.value ? new MediaMetadata({ title: me.room }) : null;
  });
  effect(() => {
    const { microphone = false, camera = null } = own() ?? {};
    session.setMicrophoneActive?.(microphone);
    session.setCameraActive?.(Boolean(camera));
  });
}

/** @param {MediaSession} session @param {string} action @param {(() => void) | null} run */
function handle(session, action, run) {
  try {
    session.setActionHandler(/** @type {MediaSessionAction} */ (action), run);
  } catch { /* an action that this browser does not know */ }
}
