// How the own pictures are encoded: a camera in up to three sizes at once, of which the server gives each
// viewer the one that fits, and a screen in one.

// Three quarters of the pictures can be left out, where there is little room.
const scalabilityMode = 'L1T3';

// By the rid that the server's offer names. The server tells which of them anybody wants.
const LAYERS = {
  q: { maxBitrate: 150_000, scaleResolutionDownBy: 4, scalabilityMode },
  h: { maxBitrate: 500_000, scaleResolutionDownBy: 2, scalabilityMode },
  f: { maxBitrate: 1_700_000, scaleResolutionDownBy: 1, scalabilityMode },
};

// A picture without layers goes to everybody as large as it is.
const SINGLE = { maxBitrate: 1_500_000, scalabilityMode };

// Text must be sharp: where there is little room it comes less often.
const SCREEN = { maxBitrate: 2_500_000, scalabilityMode };

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
    await set(sender, parameters).catch((error) => console.info('encodings:', error.message));
  }
}

// Not every encoder can leave pictures out.
async function set(sender, parameters) {
  try {
    await sender.setParameters(parameters);
  } catch {
    const plain = sender.getParameters(); // each may be set once
    plain.encodings = parameters.encodings.map(({ scalabilityMode, ...encoding }) => encoding);
    await sender.setParameters(plain);
  }
}
