import { readInvitation, restriction } from '../../www/session/invitation.js';
import { readPresence } from '../../www/session/presence.js';
import { Pulse } from '../../www/session/pulse.js';
import { View } from '../../www/session/view.js';
import { equal, test } from './harness.mjs';

const token = (claims) => `a.${btoa(JSON.stringify(claims)).replaceAll('+', '-').replaceAll('/', '_')}.c`;
const NOW = 1_700_000_000_000;

test('an invitation fills in the form and says when it is not valid', () => {
  const { name, room, rights, words } = readInvitation(token({ name: ' Bob ', room: 'garden', publish: false, exp: NOW / 1000 + 9 }), NOW);
  equal([name, room, rights.publish, rights.subscribe, words], ['Bob', 'garden', false, true, null]);
  equal(readInvitation(token({ exp: NOW / 1000 - 9 }), NOW).words.key, 'invitation.expired');
  equal(readInvitation(token({ nbf: NOW / 1000 + 9 }), NOW).words.key, 'invitation.early');
  for (const bad of [null, '', 'a.b', 'a.bnVsbA.c', token([])]) equal(readInvitation(bad, NOW).name, '', String(bad));
});

test('who is in a room is read from the answer of `check`, if it says so', () => {
  equal(readPresence({ ok: true, participants: 3, waiting: true }), { people: 3, waits: true });
  equal(readPresence({ ok: true, participants: 0 }), { people: 0, waits: false });
  equal([readPresence({ ok: true }), readPresence(null), readPresence({ participants: 'many' })], [null, null, null], 'an older server');
});

test('what the rights do not allow is said', () => {
  const of = (publish, subscribe) => restriction({ publish, subscribe, moderate: false })?.key ?? null;
  equal([of(true, true), of(false, true), of(true, false), of(false, false)], [null, 'rights.watch', 'rights.send', 'rights.chat']);
});

test('views are told on change, and all again on a new connection', () => {
  const sent = [];
  let isConnected = true;
  const view = new View((message) => { if (isConnected) sent.push(message.views.map(({ id, width, priority }) => `${id} ${width} ${priority}`)); return isConnected; });
  const show = (sizes) => {
    view.show(new Map(Object.entries(sizes).map(([id, width]) => [`${id} camera`, { width, height: width, priority: 1 }])));
    view.report();
  };
  show({ a: 640, b: 320 });
  show({ a: 640, b: 0 });
  isConnected = false;
  show({ a: 100, b: 0 });
  isConnected = true;
  view.report();
  view.setAway(true);
  view.setAway(false);
  view.forget();
  view.report();
  view.close();
  equal(sent, [['a 640 1', 'b 320 1'], ['b 0 1'], ['a 100 1'], ['a 0 1'], ['a 100 1'], ['a 100 1', 'b 0 1']]);
});

test('silence is found after three looks without packets, if packets flowed before and are due', async () => {
  let packets = 0;
  const pulse = new Pulse({ getStats: async () => new Map([['1', { type: 'transport', packetsReceived: packets }]]) }, () => true, () => {});
  pulse.close(); // the looks are made here
  const look = async (came, isDue = true) => {
    packets += came;
    await pulse.look(isDue);
    return pulse.isSilent;
  };
  equal([await look(0), await look(0), await look(0), await look(0)], [false, false, false, false], 'nothing flowed yet');
  equal([await look(9), await look(9), await look(0), await look(0), await look(0)], [false, false, false, false, true]);
  equal([await look(9), await look(9)], [true, false], 'two looks with packets end it');
  equal([await look(9), await look(0), await look(0), await look(0, false)], [false, false, false, false], 'nothing is due');
  pulse.doubt();
  equal([pulse.isDoubted, pulse.isProven], [true, false]);
  await look(9);
  await look(9);
  equal([pulse.isDoubted, pulse.isProven], [false, true], 'packets disprove the doubt');
});
