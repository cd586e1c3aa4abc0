// Encoding parameters of the own video tracks: a camera has up to three simulcast layers, of which the server forwards
// to each subscriber the one that fits, and a screen has one.

import { quality } from '../devices/options.js';

// Three temporal layers: up to three quarters of the frames can be dropped when the bitrate is low.
const scalabilityMode = 'L1T3';

// The simulcast layers of a camera, by the rid in the offer. `layers` says which of them are needed.
/** @type {Record<string, RTCRtpEncodingParameters & { scalabilityMode: string }>} */
const LAYERS = {
  q: { maxBitrate: 150_000, scaleResolutionDownBy: 4, scalabilityMode },
  h: { maxBitrate: 500_000, scaleResolutionDownBy: 2, scalabilityMode },
  f: { maxBitrate: 1_700_000, scaleResolutionDownBy: 1, scalabilityMode },
};

// A camera without simulcast, which every subscriber gets in its one size.
const SINGLE = { maxBitrate: 1_500_000, scalabilityMode };

const SCREEN = { maxBitrate: 2_500_000, scalabilityMode };

export class Encodings {
  /** @type {Map<string, string[]>} */
  wanted = new Map(); // mid -> rids that some subscriber needs; without an entry, all are sent

  /** Handles `layers`. @param {string} mid @param {string[]} rids */
  handleLayers(mid, rids) {
    this.wanted.set(mid, rids);
  }

  /**
   * Sets the parameters of a transceiver's sender. If the browser refuses them, the previous ones stay.
   * @param {RTCRtpTransceiver} transceiver @param {string} source
   */
  async apply({ mid, sender }, source) {
    const parameters = sender.getParameters();
    const { encodings } = parameters;
    // What drops when the bitrate is low: the frame rate, if sharp text matters, or both rate and size.
    const degradationPreference = sender.track?.contentHint === 'motion' ? 'balanced' : 'maintain-resolution';
    if (!encodings?.length) return; // nothing is negotiated yet
    const before = JSON.stringify(parameters);
    const wanted = this.wanted.get(mid ?? '');
    // To save data, a camera is sent in its smallest layer; a shared screen stays readable.
    const isSaving = source !== 'screen' && quality.peek() !== 'auto';
    for (const encoding of encodings) {
      Object.assign(encoding, source === 'screen' ? SCREEN : LAYERS[encoding.rid ?? ''] ?? SINGLE);
      encoding.active = !wanted || (encoding.rid ? wanted.includes(encoding.rid) : wanted.length > 0);
      if (isSaving && encoding.rid) encoding.active &&= encoding.rid === 'q';
      else if (isSaving) encoding.maxBitrate = LAYERS.q.maxBitrate;
    }
    if (source === 'screen') Object.assign(parameters, { degradationPreference });
    if (JSON.stringify(parameters) === before) return;
    await set(sender, parameters).catch((error) => console.info('encodings:', error.message));
  }
}

/**
 * Sets the parameters, without scalabilityMode if the encoder does not support it.
 * @param {RTCRtpSender} sender @param {RTCRtpSendParameters} parameters
 */
async function set(sender, parameters) {
  try {
    await sender.setParameters(parameters);
  } catch {
    const plain = sender.getParameters(); // the result of getParameters can be set only once
    plain.encodings = parameters.encodings.map((encoding) => {
      const { scalabilityMode: _, ...rest } = /** @type {any} */ (encoding);
      return rest;
    });
    await sender.setParameters(plain);
  }
}
