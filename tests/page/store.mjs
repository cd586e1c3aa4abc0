import { computed, effect, flush, scope, signal, untracked } from '../../www/store.js';
import { equal, test } from './harness.mjs';

test('an effect runs at once, and once for all changes before it', () => {
  const [a, b] = [signal(1), signal(2)];
  const seen = [];
  const end = effect(() => { seen.push(a.value + b.value); });
  a.value = 10;
  b.value = 20;
  equal(seen, [3]);
  flush();
  equal(seen, [3, 30]);
  a.value = 10; // the same
  flush();
  equal(seen, [3, 30]);
  end();
  a.value = 11;
  flush();
  equal(seen, [3, 30]);
});

test('effects run in a microtask', async () => {
  const a = signal(1);
  const seen = [];
  effect(() => { seen.push(a.value); });
  a.value = 2;
  await null;
  equal(seen, [1, 2]);
});

test('a computed signal is derived when it is read, and stops a change that does not change it', () => {
  const a = signal(1);
  let derived = 0;
  const isEven = computed(() => { derived += 1; return a.value % 2 === 0; });
  equal(derived, 0);
  const seen = [];
  effect(() => { seen.push(isEven.value); });
  a.value = 3;
  flush();
  equal([derived, seen], [2, [false]]);
  a.value = 4;
  equal(isEven.value, true, 'read before the effects');
  flush();
  equal([derived, seen], [3, [false, true]]);
});

test('no effect sees a computed signal beside an older source', () => {
  const a = signal(1);
  const twice = computed(() => a.value * 2);
  const seen = [];
  effect(() => { seen.push([a.value, twice.value]); });
  a.value = 2;
  flush();
  equal(seen, [[1, 2], [2, 4]]);
});

test('an effect follows only what it read last', () => {
  const [which, a, b] = [signal('a'), signal(1), signal(1)];
  let runs = 0;
  effect(() => { runs += 1; void (which.value === 'a' ? a.value : b.value); });
  b.value = 2;
  flush();
  equal(runs, 1);
  which.value = 'b';
  flush();
  a.value = 2;
  flush();
  equal(runs, 2);
  b.value = 3;
  flush();
  equal(runs, 3);
});

test('inner effects and cleanups end with the outer one', () => {
  const [outer, inner] = [signal(1), signal(1)];
  const seen = [];
  const end = effect(() => {
    const at = outer.value;
    effect(() => { seen.push(`${at}:${inner.value}`); return () => seen.push(`end ${at}`); });
  });
  outer.value = 2;
  flush();
  inner.value = 2;
  flush();
  equal(seen, ['1:1', 'end 1', '2:1', 'end 2', '2:2']);
  end();
  inner.value = 3;
  flush();
  equal(seen.at(-1), 'end 2');
  equal(inner.readers.size + outer.readers.size, 0, 'nobody follows them');
});

test('a scope ends its effects and computed signals', () => {
  const a = signal(1);
  let runs = 0;
  const end = scope(() => {
    const twice = computed(() => a.value * 2);
    effect(() => { runs += 1; void twice.value; });
  });
  a.value = 2;
  flush();
  equal(runs, 2);
  end();
  a.value = 3;
  flush();
  equal([runs, a.readers.size], [2, 0]);
});

test('untracked and peek do not follow', () => {
  const [a, b] = [signal(1), signal(1)];
  let runs = 0;
  effect(() => { runs += 1; void (untracked(() => a.value) + b.peek()); });
  a.value = b.value = 2;
  flush();
  equal(runs, 1);
});

test('effects may change signals, and a circle of them is found', () => {
  const a = signal(0);
  const end = effect(() => { if (a.value < 5) a.value += 1; });
  flush();
  equal(a.value, 5);
  end();
  const b = signal(0);
  const circle = effect(() => { b.value += 1; });
  let found = '';
  try { flush(); } catch (error) { found = error.message; }
  circle();
  equal(found, 'effects change each other without end');
});
