// How the own pictures are encoded: a camera in up to three sizes at once, of which the server gives each
// viewer the one that fits, and a screen in one.

// By the rid that the server's offer names. The server tells which of them anybody wants.
const LAYERS = {
  q: { maxBitrate: 150_000, scaleResolutionDownBy: 4 },
  h: { maxBitrate: 500_000, scaleResolutionDownBy: 2 },
  f: { maxBitrate: 1_700_000, scaleResolutionDownBy: 1 },
};

// A picture without layers goes to everybody as it is.
const SINGLE = { maxBitrate: 1_500_000 };

// Text must be sharp: where there is little room it comes less often, in pictures that can be left out.
const SCREEN = { maxBitrate: 2_500_000, scalabilityMode: 'L1T3' };

export class Encodings {
  wanted = new Map(); // mid -> rids that somebody watches; all, as long as nobody has told

  // `layers` of the server.
  handleLayers(mid, rids) {
    this.wanted.set(mid, rids);
  }

  // Gives a sender its settings; what the browser does not take is left as it is.
  async apply({ mid, sender }, source) {
    const parameters = sender.getParameters();
    const { encodings } = parameters;
    if (!encodings?.length) return; // nothing is agreed yet
    const before = JSON.stringify(encodings);
    const wanted = this.wanted.get(mid);
    for (const encoding of encodings) {
      Object.assign(encoding, source === 'screen' ? SCREEN : LAYERS[encoding.rid] ?? SINGLE);
      encoding.active = !wanted || (encoding.rid ? wanted.includes(encoding.rid) : wanted.length > 0);
    }
    if (source === 'screen') parameters.degradationPreference = 'maintain-resolution';
    if (JSON.stringify(encodings) === before) return;
    await sender.setParameters(parameters).catch((error) => console.info('encodings:', error.message));
  }
}
