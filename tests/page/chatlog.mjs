import { addHistory, EMPTY_LOG, MAX_ENTRIES, read, receive, refuse, send, setOwn } from '../../www/chatlog.js';
import { equal, ok, test } from './harness.mjs';

const line = (id, from, message, name = from) => ({ id, from, name, message, time: '14:30:45' });
const shown = ({ entries }) => entries.map(({ name, text, own }) => `${own ? 'own' : name}: ${text}`);

test('own messages are entered when they are sent, and not again by the history', () => {
  let log = send(setOwn(EMPTY_LOG, 'me', []), 'before', 0);
  log = receive(log, line(2, 'b', 'between', 'Bob'), false, 0);
  log = addHistory(setOwn(log, 'me2', []), [line(1, 'me', 'before', 'Ann'), line(2, 'b', 'between', 'Bob'), line(3, 'b', 'after', 'Bob')], 0);
  equal(shown(log), ['own: before', 'Bob: between', 'Bob: after']);
});

test('after a reload, messages of this tab\'s earlier ids are own', () => {
  const log = addHistory(setOwn(EMPTY_LOG, 'me3', ['me', 'me2']), [line(1, 'me', 'one', 'Ann'), line(2, 'b', 'two', 'Bob'), line(3, 'me2', 'three', 'Ann')], 0);
  equal(shown(log), ['own: one', 'Bob: two', 'own: three']);
  equal(log.unread, 0);
});

test('a message comes once, and is unread until the chat is open', () => {
  let log = receive(EMPTY_LOG, line(1, 'b', 'hi'), false, 0);
  log = receive(log, line(1, 'b', 'hi'), false, 0);
  log = receive(log, { message: 'of an old server', time: '1' }, false, 0);
  equal([log.entries.length, log.unread, read(log).unread], [2, 2, 0]);
  equal(receive(read(log), line(2, 'b', 'ho'), true, 0).unread, 0);
});

test('messages that soon follow one of the same participant stand together', () => {
  let log = receive(EMPTY_LOG, line(1, 'b', 'one'), true, 0);
  log = receive(log, line(2, 'b', 'two'), true, 119_999);
  log = receive(log, line(3, 'c', 'three'), true, 120_000);
  log = receive(log, line(4, 'c', 'four'), true, 240_001);
  equal(log.entries.map(({ more }) => more), [false, true, false, false]);
});

test('the last own message is marked as refused', () => {
  let log = send(send(EMPTY_LOG, 'one', 0), 'two', 0);
  log = refuse(refuse(refuse(log)));
  equal(log.entries.map(({ refused }) => refused), [true, true]);
});

test('the log is bounded', () => {
  let log = EMPTY_LOG;
  for (let at = 0; at < MAX_ENTRIES + 5; at += 1) log = receive(log, line(at, 'b', `${at}`), true, 0);
  equal([log.entries.length, log.entries[0].text], [MAX_ENTRIES, '5']);
  const begin = performance.now();
  for (let at = 0; at < 500; at += 1) log = receive(log, line(MAX_ENTRIES + 5 + at, 'b', 'later'), true, 0);
  ok(performance.now() - begin < 500, 'the time for a message does not grow with the messages before');
});
