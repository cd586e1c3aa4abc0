// Push to talk: space, while it is held. And a word to the person who talks while muted.

import { TAKES_SPACE, speechFinder, asksBeforeLeaving } from '../../devices/talk.js';
import { measure } from '../../devices/level.js';
import { dismiss, notify, BRIEFLY_MS } from '../../notices.js';
import * as state from '../../state.js';
import { computed, effect } from '../../store.js';

/** The word is not said again for this long, in milliseconds. */
const PAUSE_MS = 30_000;

/** @param {import('../../commands.js').App['local']} local */
export function followTalk(local) {
  let isHeld = false;
  const silence = () => { if (!isHeld && local.peek()?.microphoneOn) local.peek()?.toggleMicrophone(); };
  const release = () => {
    if (!isHeld) return;
    isHeld = false;
    silence();
  };
  addEventListener('keydown', (event) => {
    if (event.key !== ' ' || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    if (!state.isInCall.peek() || /** @type {Element | null} */ (event.target)?.matches?.(TAKES_SPACE)) return;
    event.preventDefault(); // it would scroll
    const devices = local.peek();
    if (isHeld || event.repeat || !devices || devices.microphoneOn || !state.rights.peek().publish) return;
    isHeld = true;
    // Without a microphone it is opened, or a notice says why not; space may be up by then.
    if (devices.state.peek().audio) devices.toggleMicrophone();
    else devices.toggleMicrophone().then(silence);
  });
  addEventListener('keyup', (event) => { if (event.key === ' ') release(); });
  addEventListener('blur', release);
  document.addEventListener('visibilitychange', release);

  // The muted track gives silence: a copy of it is listened to.
  const muted = computed(() => {
    const own = local.value?.state.value;
    return state.isInCall.value && own && !own.microphone ? own.audio : null;
  });
  let said = -PAUSE_MS;
  effect(() => {
    const track = muted.value;
    if (!track) return dismiss('talking');
    const copy = track.clone();
    copy.enabled = true;
    const isSpeech = speechFinder();
    const end = measure(copy, (level) => {
      if (!isSpeech(level) || performance.now() - said < PAUSE_MS) return;
      said = performance.now();
      const unmute = { words: /** @type {const} */ ({ key: 'command.unmute' }), icon: 'mic', run: () => local.peek()?.toggleMicrophone() };
      notify({ id: 'talking', kind: 'plain', icon: 'mic-off', words: { key: 'talk.muted' }, actions: [unmute], closes: true }, BRIEFLY_MS);
    });
    return () => {
      end();
      copy.stop();
    };
  });
}

/** Back or reload in a call: the browser asks. */
export function askBeforeLeaving() {
  const ask = (/** @type {BeforeUnloadEvent} */ event) => event.preventDefault();
  effect(() => {
    if (!asksBeforeLeaving(state.phase.value)) return;
    addEventListener('beforeunload', ask);
    return () => removeEventListener('beforeunload', ask);
  });
}
