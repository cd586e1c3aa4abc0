import { EMPTY, reduce } from '../../www/room.js';
import { isSame, tileModels } from '../../www/tiles.js';
import { equal, ok, test } from './harness.mjs';

const welcome = (more = {}) => reduce(EMPTY, {
  event: 'welcome', id: 'me', room: 'garden', name: 'Ann', participants: [{ id: 'b', name: 'Bob' }, { id: 'c', name: 'Cleo' }], limits: { last_n: 1 }, ...more,
});
const line = (id, source, kind, more = {}) => ({ mid: `${id}${source}${kind}`, id, source, kind, muted: false, track: `${id} ${source} ${kind}`, ...more });
const models = (room, lines, more = {}) => tileModels({ room, lines, camera: null, microphone: true, away: false, ...more });
const of = (found, key) => found.find((each) => each.key === key);

test('faces, then shared screens, then oneself', () => {
  const found = models(welcome(), [line('b', 'camera', 'video'), line('b', 'microphone', 'audio'), line('c', 'screen', 'video'), line('c', 'screen', 'audio')], { camera: 'own' });
  equal(found.map(({ key }) => key), ['b camera', 'c camera', 'c screen', 'me camera']);
  equal([of(found, 'b camera').video, of(found, 'b camera').audio], ['b camera video', 'b microphone audio']);
  equal([of(found, 'c screen').video, of(found, 'c screen').audio], ['c screen video', 'c screen audio']);
  equal([of(found, 'me camera').video, of(found, 'me camera').own], ['own', true]);
  equal(models(EMPTY, []), [], 'before the welcome');
});

test('a muted camera gives no picture, a muted microphone still its track', () => {
  const room = reduce(reduce(welcome(), { event: 'mute', id: 'b', source: 'camera', muted: true }), { event: 'mute', id: 'b', source: 'microphone', muted: true });
  const { video, audio, silent } = of(models(room, [line('b', 'camera', 'video'), line('b', 'microphone', 'audio')]), 'b camera');
  equal([video, audio, silent], [null, 'b microphone audio', true]);
});

test('a missing microphone is off, unless it is unknown', () => {
  const silent = (room, lines, more) => of(models(room, lines, more), 'b camera').silent;
  equal(silent(welcome({ limits: { last_n: 0 } }), []), true);
  equal(silent(welcome({ limits: { last_n: 0 } }), [], { away: true }), false, 'while reconnecting');
  equal(silent(welcome(), [line('c', 'microphone', 'audio')]), false, 'without a seat');
  equal(silent(welcome(), []), true, 'with a free seat');
  const rights = { publish: true, subscribe: false, moderate: false };
  equal(silent(welcome({ rights }), []), false, 'without the right to subscribe');
});

test('who speaks is marked, unless nobody is heard', () => {
  const speaking = (room) => models(reduce(room, { event: 'speaking', ids: ['b', 'me'] }), []).filter((each) => each.speaking).map(({ id }) => id);
  equal(speaking(welcome()), ['b', 'me']);
  equal(speaking(welcome({ rights: { publish: true, subscribe: false, moderate: false } })), ['me']);
});

test('quality goes with a picture', () => {
  let room = reduce(welcome(), { event: 'tracks', tracks: [{ mid: '1', id: 'b', kind: 'video', source: 'camera', muted: false }] });
  room = reduce(room, { event: 'quality', tracks: [{ mid: '1', sent: false, limit: 'server' }] });
  equal(of(models(room, [line('b', 'camera', 'video')]), 'b camera').quality, { sent: false, limit: 'server' });
  equal(of(models(room, []), 'b camera').quality, null);
});

test('hands have their place in the queue, reactions their tile', () => {
  const room = [{ event: 'hand', id: 'c', raised: true }, { event: 'hand', id: 'me', raised: true }, { event: 'reaction', id: 'b', reaction: '🎉' }].reduce(reduce, welcome());
  const found = models(room, [line('c', 'screen', 'video')]);
  equal(found.map(({ key, hand, reaction }) => [key, hand, reaction?.emoji ?? '']), [['b camera', 0, '🎉'], ['c camera', 1, ''], ['c screen', 0, ''], ['me camera', 2, '']]);
});

test('what is not watched has no picture, but its sound; volumes are those of pictures', () => {
  const lines = [line('b', 'camera', 'video'), line('b', 'microphone', 'audio'), line('c', 'screen', 'video')];
  const found = models(welcome(), lines, { unwatched: new Set(['b camera', 'c camera']), volumes: new Map([['c screen', 150]]) });
  equal(found.map(({ key, video, audio, unwatched, volume }) => [key, video, audio, unwatched, volume]), [
    ['b camera', null, 'b microphone audio', true, 100], ['c camera', null, null, false, 100],
    ['c screen', 'c screen video', null, false, 150], ['me camera', null, null, false, 100],
  ]);
});

test('models are the same if every field is', () => {
  const [one] = models(welcome(), []);
  const [other] = models(welcome(), []);
  ok(isSame(one, other), 'no field differs');
  ok(!isSame(one, { ...other, silent: !other.silent }), 'one differs');
});
