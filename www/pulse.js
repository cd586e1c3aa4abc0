// Whether anything still arrives over the media connection. A browser says so by itself only after many seconds.

const EVERY_MS = 450;

// So many looks without a packet are silence. With the look that still sees packets from before the loss it is named
// within 1.8 s, which leaves a busy device 0.2 s of the two seconds; shorter would name a change of a phone's cell.
const SILENT_LOOKS = 3;

// So many looks in a row with packets mean that packets flow. A connection that carries few has no pulse.
const STEADY_LOOKS = 2;

export class Pulse {
  // isDue(): whether packets must come at all; looked(isSilent) after each look.
  constructor(pc, isDue, looked) {
    this.pc = pc;
    this.isSilent = false;
    this.isDoubted = false; // something says that the network is gone, and no packets have said otherwise since
    this.steady = 0; // looks in a row with packets
    this.proof = 0; // those of them since the last doubt
    this.quiet = 0; // looks in a row without
    this.packets = 0;
    this.timer = setInterval(async () => {
      await this.look(isDue());
      if (this.timer) looked(this.isSilent);
    }, EVERY_MS);
  }

  // Something says that the network is gone: only packets that come from now on say that it is not.
  doubt() {
    this.isDoubted = true;
    this.proof = 0;
  }

  // Packets flow, and did not only before the last doubt.
  get isProven() {
    return this.proof >= STEADY_LOOKS;
  }

  close() {
    clearInterval(this.timer);
    this.timer = null;
  }

  async look(isDue) {
    let packets = 0;
    for (const { type, packetsReceived = 0 } of (await this.pc.getStats()).values()) {
      if (type === 'inbound-rtp' || type === 'transport') packets += packetsReceived;
    }
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
