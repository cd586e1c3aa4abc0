import { EMPTY, reduce } from '../../www/room.js';
import { roster } from '../../www/roster.js';
import { tileModels } from '../../www/tiles.js';
import { equal, test } from './harness.mjs';

const hand = (id) => ({ event: 'hand', id, raised: true });
const list = (search, ...messages) => {
  const welcome = {
    event: 'welcome', id: 'me', room: 'garden', name: 'Mia', rights: { publish: true, subscribe: true, moderate: true },
    participants: [{ id: 'z', name: 'Zoë 10' }, { id: 'y', name: 'zoe 9', moderator: true }, { id: 'a', name: 'Ämil' }, { id: 'g', name: '' }],
  };
  const room = [welcome, ...messages].reduce(reduce, EMPTY);
  const lines = [{ id: 'z', source: 'microphone', kind: 'audio', muted: false, track: 't' }, { id: 'a', source: 'screen', kind: 'video', muted: false, track: 's' }];
  const models = tileModels({ room, lines, camera: null, microphone: true, away: false });
  return roster(models, room, { search, language: 'en', guest: 'Guest' });
};
const ids = (entries) => entries.map(({ id }) => id);

test('raised hands come first, in their order, then names as the language sorts them', () => {
  equal(ids(list('')), ['a', 'g', 'me', 'y', 'z']);
  equal(list('', hand('z'), hand('g')).map(({ id, hand: place }) => [id, place]), [['z', 1], ['g', 2], ['a', 0], ['me', 0], ['y', 0]]);
});

test('a search ignores case and accents, and finds people without a name', () => {
  equal([ids(list('zoë')), ids(list(' ZOE')), ids(list('am')), ids(list('guest')), ids(list('nobody'))], [['y', 'z'], ['y', 'z'], ['a'], ['g'], []]);
});

test('who speaks is marked and does not move; moderators are marked', () => {
  const entries = list('', { event: 'speaking', ids: ['z', 'y'] });
  equal(ids(entries), ['a', 'g', 'me', 'y', 'z']);
  equal(entries.map(({ speaking, silent, moderator }) => [speaking, silent, moderator].map(Number).join('')), ['010', '010', '001', '011', '100'], 'speaking, silent, moderator');
});
