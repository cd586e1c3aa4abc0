import { curve, NOTHING_READ, read, reasonOf, reportOf, traffic } from '../../www/session/statistics.js';
import { equal, ok, test } from './harness.mjs';

const LINES = [
  { mid: '1', id: 'b', kind: 'video', source: 'camera', muted: false },
  { mid: '2', id: 'b', kind: 'audio', source: 'microphone', muted: false },
  { mid: '3', id: 'b', kind: 'video', source: 'screen', muted: false },
  { mid: '4', id: 'me', kind: 'video', source: 'camera', muted: false, own: true },
];
const QUALITY = new Map([['b camera', { sent: true, limit: 'bandwidth', rid: 'h', height: 360 }]]);
const entries = (second) => [
  { id: 'V', type: 'inbound-rtp', kind: 'video', mid: '1', timestamp: 1000 * second, bytesReceived: 50_000 * second, packetsReceived: 90 * second, packetsLost: 10 * second, jitter: 0.003, frameWidth: 640, frameHeight: 360, framesPerSecond: 29.6, freezeCount: 2, codecId: 'C' },
  { id: 'A', type: 'inbound-rtp', kind: 'audio', mid: '2', timestamp: 1000 * second, bytesReceived: 4000 * second, packetsReceived: 50 * second, packetsLost: 0, jitter: 0.001 },
  { id: 'Q', type: 'outbound-rtp', kind: 'video', mid: '4', rid: 'q', timestamp: 1000 * second, bytesSent: 10_000 * second, packetsSent: 20 * second, frameWidth: 320, frameHeight: 180, framesPerSecond: 15, qualityLimitationReason: 'cpu' },
  { id: 'F', type: 'outbound-rtp', kind: 'video', mid: '4', rid: 'f', timestamp: 1000 * second, bytesSent: 0, packetsSent: 0, qualityLimitationReason: 'cpu' },
  { id: 'R', type: 'remote-inbound-rtp', localId: 'Q', fractionLost: 0.25, jitter: 0.004, roundTripTime: 0.02, packetsLost: 5 },
  { id: 'other', type: 'inbound-rtp', kind: 'audio', mid: '9', timestamp: 0 },
  { id: 'C', type: 'codec', mimeType: 'video/VP8' },
  { id: 'T', type: 'transport', selectedCandidatePairId: 'P' },
  { id: 'P', type: 'candidate-pair', localCandidateId: 'L', remoteCandidateId: 'M', currentRoundTripTime: 0.024, availableOutgoingBitrate: 900_000 },
  { id: 'L', type: 'local-candidate', candidateType: 'relay', protocol: 'udp', relayProtocol: 'tls', address: '192.0.2.1', port: 5000 },
  { id: 'M', type: 'remote-candidate', candidateType: 'host', protocol: 'udp', address: '198.51.100.7', port: 8080 },
];
const about = { lines: LINES, quality: QUALITY, me: 'me' };
const second = () => read(entries(2), read(entries(1), NOTHING_READ, about), about);

test('figures are those since the reading before', () => {
  const [bob, own] = second().rows;
  equal([bob.key, bob.streams.map(({ kind }) => kind)], ['b camera', ['video', 'audio']]);
  const { bitrate, loss, jitter, width, height, fps, freezes, codec } = bob.streams[0];
  equal([bitrate, loss, jitter, width, height, fps, freezes, codec], [400_000, 0.1, 0.003, 640, 360, 30, 2, 'VP8']);
  equal([bob.streams[1].bitrate, bob.streams[1].loss, bob.streams[1].freezes], [32_000, 0, null]);
  equal([own.key, own.streams.length], ['me camera', 1], 'a layer that nobody needs is not there');
  equal([own.streams[0].rid, own.streams[0].bitrate, own.streams[0].loss, own.streams[0].roundTrip], ['q', 80_000, 0.25, 0.02], 'what the server reports of it');
});

test('without a reading before, nothing is known of rates', () => {
  const [bob] = read(entries(1), NOTHING_READ, about).rows;
  equal([bob.streams[0].bitrate, bob.streams[0].loss, bob.streams[0].height], [0, null, 360]);
  equal(read([], NOTHING_READ, about), { counts: [], rows: [], transport: null }, 'no connection');
});

test('the reason is that of the server, or of the own encoder', () => {
  const [bob, own] = second().rows;
  equal([reasonOf(bob), reasonOf(own)], ['bandwidth', 'own-cpu']);
  equal([reasonOf({ ...bob, quality: { sent: true, limit: 'of-a-newer-server' } }), reasonOf({ ...bob, quality: null })], ['', '']);
});

test('the transport names the way', () => {
  const { transport } = second();
  equal([transport.protocol, transport.relay, transport.local, transport.remote, transport.roundTrip, transport.available], ['udp', 'tls', 'relay', 'host', 0.024, 900_000]);
  const noted = entries(1).filter(({ type }) => type !== 'transport').map((entry) => (entry.id === 'P' ? { ...entry, nominated: true, state: 'succeeded' } : entry));
  equal(read(noted, NOTHING_READ, about).transport.local, 'relay', 'as Firefox reports it');
});

test('traffic is what lies between two looks', () => {
  const points = [{ at: 0, received: 0, sent: 0 }, { at: 500, received: 50_000, sent: 1000 }, { at: 500, received: 1, sent: 1 }, { at: 1000, received: 0, sent: 2000 }];
  equal(traffic(points), [{ at: 500, down: 800_000, up: 16_000 }, { at: 1000, down: 0, up: 32_000 }].map(({ at, down, up }) => ({ at, down, up: at === 1000 ? 31_984 : up })));
  equal(traffic([]), []);
});

test('a curve runs from a minute ago to now, within its box', () => {
  const box = { width: 300, height: 48, most: 100, now: 60_000 };
  equal(curve([{ at: 0, value: 0 }, { at: 30_000, value: 50 }, { at: 60_000, value: 400 }], box), 'M0.0 47.0L150.0 24.0L300.0 1.0');
  equal([curve([], box), curve([{ at: 60_000, value: 1 }], box), curve([{ at: -5, value: 1 }, { at: 1, value: 1 }], box)], ['', '', '']);
});

test('a report names nobody unless that is wanted', () => {
  const names = { agent: 'Browser', time: 'now', nameOf: () => 'Bob' };
  const minute = [{ down: 1, up: 2 }];
  const text = JSON.stringify(reportOf(second(), minute, { ...names, isPersonal: false }));
  for (const secret of ['Bob', '192.0.2.1', '198.51.100.7', '"b"', 'b camera']) ok(!text.includes(secret), `${secret} in ${text}`);
  const whole = reportOf(second(), minute, { ...names, isPersonal: true });
  equal([whole.pictures.map(({ participant }) => participant), whole.transport.addresses], [['Bob', 'own'], ['192.0.2.1 5000', '198.51.100.7 8080']]);
  equal([whole.minute, whole.pictures[0].streams[0].height], [{ down: [1], up: [2] }, 360]);
});
