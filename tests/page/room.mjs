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

test('hands are in the order of raising, and go with their participant', () => {
  const hand = (id, raised) => ({ event: 'hand', id, raised });
  const room = play({ ...WELCOME, hands: ['c'] }, hand('me', true), hand('b', true), hand('me', true));
  // The own hand was shown at once, and has the place of the server's message.
  equal(room.hands, ['c', 'b', 'me']);
  equal(reduce(room, hand('me', false)).hands, ['c', 'b']);
  equal(reduce(room, { event: 'left', id: 'c' }).hands, ['b', 'me']);
  equal(reduce(room, WELCOME).hands, [], 'a welcome says which hands are up');
});

test('a reaction is shown until its end, and each one is another', () => {
  const thumb = { event: 'reaction', id: 'b', reaction: '👍' };
  const room = play(WELCOME, thumb);
  equal(room.reactions.get('b').emoji, '👍');
  for (const text of ['call +1 555', '\u202eabc', '1']) equal(reduce(EMPTY, { ...thumb, reaction: text }).reactions.size, 0, text);
  ok(reduce(room, thumb).reactions.get('b') !== room.reactions.get('b'), 'the same emoji again is another reaction');
  for (const end of [{ event: 'reaction', id: 'b', reaction: '' }, { event: 'left', id: 'b' }]) equal(reduce(room, end).reactions.size, 0);
});

test('the spotlight ends with its participant; a moderator is marked', () => {
  const room = play({ ...WELCOME, participants: [{ id: 'b', name: 'Bob', moderator: true }, { id: 'c' }], spotlight: 'b' }, { event: 'promote', id: 'c', by: 'b' });
  equal([room.spotlight, room.people.get('b').moderator, room.people.get('c').moderator], ['b', true, true]);
  equal([reduce(room, { event: 'left', id: 'b' }).spotlight, reduce(room, { event: 'spotlight', id: null }).spotlight], [null, null]);
  equal(reduce(room, { event: 'spotlight', id: 'c' }).spotlight, 'c');
  equal([room.me.rights.moderate, reduce(room, { event: 'promote', id: 'me' }).me.rights.moderate], [false, true]);
});

test('who waits to come in, and the own place among them', () => {
  const knock = (id, waiting) => ({ event: 'knock', id, name: 'Dan', waiting });
  const room = play(WELCOME, knock('w1', true), knock('w2', true), knock('w1', false), knock('gone', false));
  equal([...room.knocks], [['w2', 'Dan']]);
  const waiting = play(WELCOME, { event: 'waiting', position: 2 });
  equal([waiting.me, waiting.people.size, waiting.position], [null, 0, 2]);
  equal(reduce(waiting, WELCOME).position, 0);
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
