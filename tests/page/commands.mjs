import { commands } from '../../www/commands.js';
import { signal } from '../../www/store.js';
import { equal, ok, test } from './harness.mjs';

// Actions that another key does as well.
const TOGETHER = { grid: 'layout', spotlight: 'layout' };

test('every action has a key of its own', () => {
  const all = Object.values(commands({ local: signal(null), session: () => null }));
  const keys = all.filter(({ key }) => key).map(({ key }) => key);
  equal(new Set(keys).size, keys.length, `a key twice: ${keys}`);
  for (const { id, key } of all) ok(key || TOGETHER[id], `${id} has no key`);
  ok(keys.every((key) => key === key.toLowerCase() && key.length === 1), 'a key is one sign, and a small letter');
});
