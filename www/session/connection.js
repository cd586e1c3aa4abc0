// Notices about the connection: no media, no packets, offline, reconnecting.

import { dismiss, notify } from '../notices.js';
import { look } from '../state.js';
import { Pulse } from './pulse.js';

// Time until the page shows that media does not get through. Where UDP is not blocked, it connects within a second.
const MEDIA_MS = 5000;

export class Connection {
  /** @type {Pulse | null} */
  pulse = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  timer = undefined; // runs until media connects, for MEDIA_MS at most
  /** @type {'offline' | 'interrupted' | null} */
  trouble = null;

  /**
   * @param {(message: import('../room.js').Message) => boolean} send
   * @param {() => boolean} isMediaDue whether a working connection receives packets
   */
  constructor(send, isMediaDue) {
    this.send = send;
    this.isMediaDue = isMediaDue;
  }

  /** Follows a new media connection. @param {RTCPeerConnection} pc */
  follow(pc) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.showMediaLost(), MEDIA_MS);
    this.pulse?.close();
    const pulse = this.pulse = new Pulse(pc, this.isMediaDue, (isSilent) => {
      look.value = { isSilent };
      // Received packets outweigh `navigator.onLine`, which may be wrong.
      const isInterrupted = isSilent || pulse.isDoubted || pc.connectionState === 'disconnected';
      this.setTrouble(!navigator.onLine && !pulse.isProven ? 'offline' : isInterrupted ? 'interrupted' : null);
    });
  }

  /** The system reports that it is offline. */
  doubt() {
    this.pulse?.doubt();
    if (this.pulse) this.setTrouble('offline');
  }

  /** Media is lost. The notice stays until it connects. @param {number} [retry] milliseconds until the server tries again */
  showMediaLost(retry = 0) {
    clearTimeout(this.timer);
    notify({ id: 'media', kind: 'warn', icon: 'warn', words: { key: 'media.blocked' }, until: retry ? Date.now() + retry : undefined });
  }

  connected() {
    clearTimeout(this.timer);
    dismiss('media');
  }

  /** @param {() => void} retryNow */
  announceRestart(retryNow) {
    notify({
      id: 'signaling', kind: 'warn', icon: 'info', words: { key: 'lost.closing' },
      actions: [{ words: { key: 'action.try-now' }, icon: 'retry', run: retryNow }],
    });
  }

  /** @param {import('./signaling.js').Loss} loss @param {() => void} retryNow */
  showLoss({ words, attempt, delay }, retryNow) {
    notify({
      id: 'signaling', kind: 'warn', icon: 'away', until: Date.now() + delay,
      words: { key: 'lost.attempt', params: { words, attempt } },
      actions: [{ words: { key: 'action.try-now' }, icon: 'retry', run: retryNow }],
    });
  }

  /** Stops following the media connection. */
  close() {
    clearTimeout(this.timer);
    this.pulse?.close();
    this.pulse = null;
    this.setTrouble(null);
    dismiss('media');
  }

  /** @param {'offline' | 'interrupted' | null} trouble */
  setTrouble(trouble) {
    if (this.trouble === trouble) return;
    this.trouble = trouble;
    if (!trouble) return dismiss('network');
    notify({ id: 'network', kind: 'warn', icon: 'away', words: { key: trouble === 'offline' ? 'network.offline' : 'network.interrupted' } });
  }
}
