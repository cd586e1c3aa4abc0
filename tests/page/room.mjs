import { EMPTY, EVERYBODY, key, reduce } from '../../www/room.js';
import { equal, ok, test } from './harness.mjs';

const WELCOME = {
  event: 'welcome', id: 'me', room: 'garden', name: 'Ann', rights: EVERYBODY, locked: false,
  participants: [{ id: 'b', name: 'Bob', muted: ['camera'] }, { id: 'c', name: 'Cleo', media: 'lost' }], limits: { chat_bytes: 100, last_n: 4 },
};
const play = (...messages) => messages.reduce(reduce, EMPTY);
const person = (room, id) => {
  const { name, muted, media } = room.people.get(id);
  return [name, [...muted], media];
};

test('a welcome replaces everything', () => {
  const room = play({ ...WELCOME, participants: [{ id: 'old', name: 'Old' }] }, WELCOME);
  equal([...room.people.keys()], ['b', 'c']);
  equal([person(room, 'b'), person(room, 'c')], [['Bob', ['camera'], 'connected'], ['Cleo', [], 'lost']]);
  equal([room.me.room, room.limits.chat_bytes, room.limits.last_n, room.limits.name_chars], ['garden', 100, 4, 64]);
  equal(play({ event: 'welcome', id: 'x', room: 'r', name: '' }).me.rights, EVERYBODY, 'an older server tells no rights');
});

test('participants join, leave and get other names', () => {
  const room = play(WELCOME, { event: 'joined', id: 'd', name: 'Dan' }, { event: 'left', id: 'b' }, { event: 'rename', id: 'c', name: 'Clea' }, { event: 'rename', id: 'me', name: 'Anna' });
  equal([...room.people.values()].map(({ name }) => name), ['Clea', 'Dan']);
  equal(room.me.name, 'Anna');
  equal(play(WELCOME, { event: 'joined', id: 'me', name: 'Ann' }).people.size, 2, 'oneself is none of the others');
});

test('mute states come with tracks and with messages', () => {
  const tracks = { event: 'tracks', tracks: [{ mid: '0', id: 'b', kind: 'video', source: 'camera', muted: false }, { mid: '1', id: 'me', kind: 'audio', source: 'microphone', muted: true, own: true }] };
  equal(person(play(WELCOME, tracks), 'b')[1], []);
  equal(person(play(WELCOME, { event: 'mute', id: 'c', source: 'microphone', muted: true }), 'c')[1], ['microphone']);
  equal(person(play(WELCOME, { event: 'mute', id: 'b', source: 'camera', muted: false }), 'b')[1], []);
});

test('the quality of a track goes with its participant, and ends with the track', () => {
  const tracks = { event: 'tracks', tracks: [{ mid: '2', id: 'b', kind: 'video', source: 'camera', muted: false }] };
  const quality = { event: 'quality', tracks: [{ mid: '2', sent: false, limit: 'bandwidth' }, { mid: 'unknown', sent: true, limit: 'none' }] };
  const cannot = { event: 'error', code: 'cannot-decode', id: 'b', source: 'camera' };
  const room = play(WELCOME, tracks, quality, cannot);
  equal([...room.quality], [[key('b', 'camera'), { sent: false, limit: 'bandwidth' }]]);
  equal([...room.undecodable], ['b camera']);
  for (const end of [{ event: 'mute', id: 'b', source: 'camera', muted: true }, { event: 'left', id: 'b' }, WELCOME]) {
    const after = reduce(room, end);
    equal([after.quality.size, after.undecodable.size], [0, 0], end.event);
  }
});

test('media, lock and speaking', () => {
  const room = play(WELCOME, { event: 'media', id: 'b', state: 'lost' }, { event: 'lock', locked: true, by: 'b' }, { event: 'speaking', ids: ['c', 'me'] });
  equal([person(room, 'b')[2], room.me.locked, room.speaking], ['lost', true, ['c', 'me']]);
  equal(reduce(room, { event: 'left', id: 'c' }).speaking, ['me']);
});

test('what changes nothing gives the same room, and no step changes the room before', () => {
  const room = play(WELCOME);
  const before = JSON.stringify([...room.people.keys()]);
  for (const message of [{ event: 'unheard-of' }, { event: 'left', id: 'gone' }, { event: 'media', state: 'lost' }, { event: 'mute', id: 'gone', source: 'camera', muted: true }, { event: 'error', code: 'too-fast' }]) {
    ok(reduce(room, message) === room, message.event);
  }
  reduce(room, { event: 'joined', id: 'd', name: 'Dan' });
  equal(JSON.stringify([...room.people.keys()]), before);
});
