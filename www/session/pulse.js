// Detects that no packets arrive over the media connection. A browser itself reports that only after many seconds.

const EVERY_MS = 450;

// Consecutive looks without packets that count as silence. The look before them may still count packets from before the
// loss, so silence is detected within 1.8 s: 0.2 s below the target of 2 s, in reserve for a busy device. With fewer
// looks, a phone during a handover between cells would count as silent.
const SILENT_LOOKS = 3;

// Consecutive looks with packets that count as a flow. Without a flow before it, a pause does not count as silence.
const STEADY_LOOKS = 2;

// The looks of a minute, and one before them.
const KEPT_LOOKS = Math.ceil(60_000 / EVERY_MS) + 1;

export class Pulse {
  isSilent = false;
  isDoubted = false; // the network was reported lost, and no packets have disproved it since
  steady = 0; // consecutive looks with packets
  proof = 0; // those of `steady` since the last doubt
  quiet = 0; // consecutive looks without packets
  flowed = false; // packets flowed before `quiet`
  packets = 0;
  /** @type {{ at: number, received: number, sent: number }[]} */
  traffic = []; // bytes at the looks of the last minute

  /**
   * @param {{ getStats: () => Promise<any> }} pc
   * @param {() => boolean} isDue whether a working connection would receive packets
   * @param {(isSilent: boolean) => void} looked called after each look
   */
  constructor(pc, isDue, looked) {
    this.pc = pc;
    /** @type {ReturnType<typeof setInterval> | null} */
    this.timer = setInterval(async () => {
      await this.look(isDue());
      if (this.timer) looked(this.isSilent);
    }, EVERY_MS);
  }

  // The network is reported lost: only packets received from now on can disprove it.
  doubt() {
    this.isDoubted = true;
    this.proof = 0;
  }

  // Packets have flowed since the last doubt.
  get isProven() {
    return this.proof >= STEADY_LOOKS;
  }

  close() {
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
  }

  /** @param {boolean} isDue */
  async look(isDue) {
    let [packets, received, sent] = [0, 0, 0];
    for (const { type, packetsReceived = 0, bytesReceived = 0, bytesSent = 0 } of (await this.pc.getStats()).values()) {
      if (type === 'inbound-rtp' || type === 'transport') packets += packetsReceived;
      if (type === 'inbound-rtp') received += bytesReceived;
      if (type === 'outbound-rtp') sent += bytesSent;
    }
    this.traffic.push({ at: performance.now(), received, sent });
    if (this.traffic.length > KEPT_LOOKS) this.traffic.shift();
    const came = packets !== this.packets;
    this.packets = packets;
    if (came) {
      this.quiet = 0;
      this.steady += 1;
      this.proof += 1;
      if (this.isProven) this.isSilent = this.isDoubted = false;
      return;
    }
    this.quiet += 1;
    if (this.quiet === 1) this.flowed = this.steady >= STEADY_LOOKS;
    this.steady = this.proof = 0;
    if (!isDue) this.isSilent = this.isDoubted = this.flowed = false;
    if (this.flowed && this.quiet >= SILENT_LOOKS) this.isSilent = true;
  }
}
