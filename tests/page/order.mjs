import { MOVE_MS, reorder, SPEAKS_MS, UNORDERED } from '../../www/order.js';
import { equal, test } from './harness.mjs';

/** Plays steps of [time, who speaks] and returns the order after each, as text. */
function play(steps, slots = 3, ids = ['a', 'b', 'c', 'd', 'e']) {
  let order = reorder(UNORDERED, { ids, speaking: [], slots, now: 0 }).order;
  return steps.map(([now, speaking, here = ids]) => {
    const next = reorder(order, { ids: here, speaking, slots, now });
    order = next.order;
    return `${order.ids.join('')} ${order.speaker} ${next.wake}`;
  });
}

test('who speaks long enough comes into view, and only one other moves', () => {
  equal(play([[1000, ['e']], [2000, ['e']], [2500, ['e']]]), ['abcde e 2500', 'abcde e 2500', 'abedc e null']);
});

test('a short word moves nobody', () => {
  equal(play([[1000, ['e']], [2400, []], [2600, ['e']], [3900, ['e']]]).map((each) => each.split(' ')[0]), ['abcde', 'abcde', 'abcde', 'abcde']);
});

test('whoever was silent longest gives up the place', () => {
  const steps = [[0, ['c']], [1000, ['b']], [2000, ['a']], [3000, ['d']], [3000 + SPEAKS_MS, ['d']]];
  equal(play(steps).at(-1).split(' ')[0], 'abdce');
});

test('there is at most one move in three seconds', () => {
  const found = play([[0, ['d', 'e']], [SPEAKS_MS, ['d', 'e']], [SPEAKS_MS + 10, ['d', 'e']], [SPEAKS_MS + MOVE_MS, ['d', 'e']]]);
  equal(found.map((each) => each.split(' ')[0]), ['abcde', 'abdce', 'abdce', 'aedcb']);
  equal(found[1].split(' ')[2], String(SPEAKS_MS + MOVE_MS), 'it wakes for the second one');
});

test('nobody moves if all on the first page speak, or if everybody is on it', () => {
  const all = ['a', 'b', 'c', 'd'];
  equal(play([[0, all], [5000, all]]).at(-1).split(' ')[0], 'abcde');
  equal(play([[0, ['e']], [5000, ['e']]], 5).at(-1).split(' ')[0], 'abcde');
});

test('participants join at the end and leave their place', () => {
  equal(play([[0, [], ['b', 'c', 'd', 'e', 'f']]])[0].split(' ')[0], 'bcdef');
});

test('the speaker who is shown large changes with hysteresis', () => {
  const large = (steps) => play(steps, 5).map((each) => each.split(' ')[1]);
  equal(large([[0, ['a']], [100, ['b']], [1500, ['b']], [3100, ['b']]]), ['a', 'a', 'a', 'b'], 'not before three seconds');
  equal(large([[0, ['a']], [9000, ['b']], [9100, ['a']], [10_600, ['b']]]), ['a', 'a', 'a', 'a'], 'a short word');
  equal(large([[0, ['a']], [5000, []]]), ['a', 'a'], 'it stays while nobody speaks');
  equal(large([[0, ['a']], [1, [], ['b', 'c']]]), ['a', 'null'], 'until it leaves');
});
