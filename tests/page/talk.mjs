import { asksBeforeLeaving, speechFinder } from '../../www/devices/talk.js';
import { understand } from '../../www/session/twin.js';
import { equal, ok, test } from './harness.mjs';

test('speech lasts longer than a cough', () => {
  const cough = speechFinder();
  ok(![0.9, 0.9, 0.9, 0, 0, 0, 0, 0, 0, 0, 0, 0].some(cough));
  const speech = speechFinder();
  ok([0.9, 0.2, 0.8, 0.7, 0.2, 0.8, 0.9, 0.6].some(speech));
});

test('only a call asks before it is left', () => {
  equal(['lobby', 'joining', 'joined', 'reconnecting', 'ended'].filter(asksBeforeLeaving), ['joined', 'reconnecting']);
});


test('tabs in one room notice each other', () => {
  const own = { room: 'garden', tab: '1' };
  equal(understand({ kind: 'hello', room: 'garden', tab: '2' }, own), { twin: true, answers: true });
  equal(understand({ kind: 'bye', room: 'garden', tab: '2' }, own), { twin: false });
  equal(understand({ kind: 'leave', room: 'garden', tab: '2' }, own), { leaves: true });
  equal(understand({ kind: 'hello', room: 'other', tab: '2' }, own), {});
  equal(understand({ kind: 'leave', room: 'garden', tab: '1' }, own), {});
});
