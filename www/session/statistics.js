// Statistics of the call: reports of `getStats` in, figures of each picture out. Pure.

import { key } from '../room.js';

/** @typedef {import('../room.js').Line} Line */
/** @typedef {{ id: string, type: string, [field: string]: any }} Entry of `getStats` */
/** @typedef {{ at: number, bytes: number, packets: number, lost: number }} Count */
/**
 * @typedef {{
 *   kind: 'audio' | 'video', rid: string, width: number, height: number, fps: number, bitrate: number, codec: string,
 *   loss: number | null, jitter: number | null, roundTrip: number | null, freezes: number | null, limit: string,
 * }} Figures
 *   Bits per second; `loss` is a share since the last reading, `jitter` and `roundTrip` are seconds, `freezes` counts
 *   since the stream began. `rid` is the layer, if there are several; `limit` is what limits the browser's encoder.
 * @typedef {{ key: string, id: string, source: 'camera' | 'screen', own: boolean, streams: Figures[], quality: import('../room.js').Quality | null }} Row
 * @typedef {{ protocol: string, local: string, remote: string, relay: string, roundTrip: number | null, available: number | null, addresses: string[] }} Transport
 *   `local` and `remote` are types of candidates (RFC 8445 section 5.1.1); `relay` is the protocol to a TURN server.
 * @typedef {{ down: number, up: number }} Traffic in bits per second
 * @typedef {{ counts: ReadonlyMap<string, Count>, rows: Row[], transport: Transport | null }} Reading
 */

/** The time that the graph covers, in milliseconds. */
export const MINUTE_MS = 60_000;

/** @type {Reading} */
export const NOTHING_READ = { counts: new Map(), rows: [], transport: null };

/**
 * @param {readonly Entry[]} entries @param {Reading} before
 * @param {{ lines: readonly Line[], quality: ReadonlyMap<string, import('../room.js').Quality>, me: string }} about `lines` includes the own ones
 * @returns {Reading}
 */
export function read(entries, before, { lines, quality, me }) {
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const byMid = new Map(lines.map((line) => [line.mid, line]));
  /** @type {Map<string, Count>} */
  const counts = new Map();
  /** @type {Map<string, Row>} */
  const rows = new Map();
  for (const entry of entries) {
    const line = byMid.get(entry.mid);
    const isSent = entry.type === 'outbound-rtp';
    if (!line || (!isSent && entry.type !== 'inbound-rtp') || isSent !== Boolean(line.own)) continue;
    const far = isSent ? entries.find(({ type, localId }) => type === 'remote-inbound-rtp' && localId === entry.id) : undefined;
    const count = countOf(entry, far);
    counts.set(entry.id, count);
    const figures = figuresOf(entry, far, count, before.counts.get(entry.id), byId.get(entry.codecId));
    if (isSent && entry.kind === 'video' && !figures.bitrate) continue; // a layer that nobody needs
    const source = line.source === 'screen' ? 'screen' : 'camera';
    const id = line.own ? me : line.id;
    const of = key(id, source);
    const row = rows.get(of) ?? { key: of, id, source, own: Boolean(line.own), streams: [], quality: quality.get(of) ?? null };
    rows.set(of, row);
    row.streams.push(figures);
  }
  for (const { streams } of rows.values()) streams.sort((a, b) => b.kind.localeCompare(a.kind) || b.height - a.height);
  return { counts, rows: [...rows.values()], transport: transportOf(entries, byId) };
}

/** @param {Entry} entry @param {Entry | undefined} far the server's report on it @returns {Count} */
function countOf(entry, far) {
  return {
    at: entry.timestamp, bytes: entry.bytesReceived ?? entry.bytesSent ?? 0,
    packets: entry.packetsReceived ?? entry.packetsSent ?? 0, lost: far?.packetsLost ?? entry.packetsLost ?? 0,
  };
}

/** @param {Entry} entry @param {Entry | undefined} far @param {Count} now @param {Count | undefined} then @param {Entry | undefined} codec @returns {Figures} */
function figuresOf(entry, far, now, then, codec) {
  const seconds = then ? (now.at - then.at) / 1000 : 0;
  const isSent = entry.type === 'outbound-rtp';
  const [packets, lost] = then ? [now.packets - then.packets, Math.max(0, now.lost - then.lost)] : [0, 0];
  const loss = packets + lost > 0 ? lost / (packets + lost) : null;
  return {
    kind: entry.kind, rid: entry.rid ?? '', width: entry.frameWidth ?? 0, height: entry.frameHeight ?? 0, fps: Math.round(entry.framesPerSecond ?? 0),
    bitrate: seconds > 0 ? Math.max(0, Math.round(((now.bytes - /** @type {Count} */ (then).bytes) * 8) / seconds)) : 0,
    codec: codec?.mimeType?.split('/')[1] ?? '',
    loss: isSent ? far?.fractionLost ?? loss : loss,
    jitter: (isSent ? far?.jitter : entry.jitter) ?? null,
    roundTrip: far?.roundTripTime ?? null,
    freezes: entry.kind === 'video' && !isSent ? entry.freezeCount ?? null : null,
    limit: entry.qualityLimitationReason ?? '',
  };
}

/** @param {readonly Entry[]} entries @param {Map<string, Entry>} byId @returns {Transport | null} */
function transportOf(entries, byId) {
  const selected = entries.find(({ type }) => type === 'transport')?.selectedCandidatePairId;
  // Firefox has no entry for the transport and marks the pair itself.
  const pair = byId.get(selected) ?? entries.find(({ type, nominated, state, selected: isIt }) => type === 'candidate-pair' && (isIt || (nominated && state === 'succeeded')));
  if (!pair) return null;
  const [local, remote] = [byId.get(pair.localCandidateId), byId.get(pair.remoteCandidateId)];
  const address = (/** @type {Entry | undefined} */ candidate) => (candidate?.address ? `${candidate.address} ${candidate.port}` : '');
  return {
    protocol: local?.protocol ?? remote?.protocol ?? '', local: local?.candidateType ?? '', remote: remote?.candidateType ?? '',
    relay: local?.relayProtocol ?? '', roundTrip: pair.currentRoundTripTime ?? null, available: pair.availableOutgoingBitrate ?? null,
    addresses: [address(local), address(remote)],
  };
}

/**
 * Bitrates between the points of the last minute, oldest first.
 * @param {readonly { at: number, received: number, sent: number }[]} points @returns {(Traffic & { at: number })[]}
 */
export function traffic(points) {
  return points.slice(1).flatMap((point, at) => {
    const before = points[at];
    const rate = (/** @type {number} */ bytes) => Math.max(0, Math.round((bytes * 8000) / (point.at - before.at)));
    return point.at > before.at ? [{ at: point.at, down: rate(point.received - before.received), up: rate(point.sent - before.sent) }] : [];
  });
}

/**
 * A line from the oldest point at the start to the newest at the end, in a box of the size.
 * @param {readonly { at: number, value: number }[]} points @param {{ width: number, height: number, most: number, now: number }} box
 * @returns {string} the data of an SVG path, or '' for fewer than two points
 */
export function curve(points, { width, height, most, now }) {
  const shown = points.filter(({ at }) => at >= now - MINUTE_MS);
  if (shown.length < 2) return '';
  const x = (/** @type {number} */ at) => (width * (1 - (now - at) / MINUTE_MS)).toFixed(1);
  const y = (/** @type {number} */ value) => (height - 1 - (height - 2) * Math.min(1, value / Math.max(1, most))).toFixed(1);
  return `M${shown.map(({ at, value }) => `${x(at)} ${y(value)}`).join('L')}`;
}

/** Why a picture is not better: the last part of a key of `words`, or ''. @param {Row} row */
export function reasonOf({ own, quality, streams }) {
  const limit = own ? streams.find(({ kind, limit }) => kind === 'video' && limit && limit !== 'none')?.limit : quality?.limit;
  const known = own ? { bandwidth: 'own-bandwidth', cpu: 'own-cpu', other: 'own-other' } : KNOWN;
  return limit && Object.hasOwn(known, limit) ? /** @type {Record<string, string>} */ (known)[limit] : '';
}

/** The limits of `quality`. @type {Record<string, string>} */
const KNOWN = Object.fromEntries(['view', 'bandwidth', 'publisher', 'server', 'keyframe', 'codec', 'oversized', 'none'].map((each) => [each, each]));

/**
 * The figures as they go into a report of a problem. Without `isPersonal` there are no names, ids and addresses.
 * @param {Reading} reading @param {readonly Traffic[]} minute
 * @param {{ agent: string, time: string, isPersonal: boolean, nameOf: (id: string) => string }} about
 */
export function reportOf({ rows, transport }, minute, { agent, time, isPersonal, nameOf }) {
  const { addresses = [], ...way } = transport ?? {};
  return {
    time, agent,
    transport: transport && { ...way, ...(isPersonal && { addresses }) },
    minute: { down: minute.map(({ down }) => down), up: minute.map(({ up }) => up) },
    pictures: rows.map(({ id, source, own, quality, streams }, at) => (
      { participant: own ? 'own' : isPersonal ? nameOf(id) : at + 1, source, quality, streams })),
  };
}
