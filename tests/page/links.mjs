import { linkParts } from '../../www/links.js';
import { equal, ok, test } from './harness.mjs';

/** A chat message, and the addresses that become links in it. */
const LINKS = [
  ['https://example.org/a_(b)', ['https://example.org/a_(b)']],
  ['see https://example.org/a_(b).', ['https://example.org/a_(b)']],
  ['(see https://example.org/a_(b))', ['https://example.org/a_(b)']],
  ['[https://example.org/a[0]]', ['https://example.org/a[0]']],
  ['HTTPS://example.org/A', ['https://example.org/A']],
  ['“https://example.org/a”', ['https://example.org/a']],
  ['https://example.org/a!? https://example.org/b…', ['https://example.org/a', 'https://example.org/b']],
  ['<https://example.org/a>', ['https://example.org/a']],
  ['javascript:alert(1) ftp://example.org xhttps://example.org', []],
  ['https:// https://)', []],
  ['https://bank.example@evil.example/ https://a:b@c.example', []],
  ['https://bank.example/\u202egpj.exe', ['https://bank.example/']],
];

test('addresses become links, and the text stays the same', () => {
  for (const [text, wanted] of LINKS) {
    const parts = linkParts(text);
    equal([parts.map((part) => part.text).join(''), parts.flatMap(({ href }) => href ?? [])], [text, wanted]);
  }
});

test('a long message takes little time', () => {
  const begin = performance.now();
  const [link, tail] = linkParts(`http://a${')'.repeat(4_088)}`);
  equal([link.href, tail.text.length], ['http://a/', 4_088]);
  ok(performance.now() - begin < 20, `${performance.now() - begin} ms`);
});
