import { linkParts } from '../../www/links.js';
import { equal, test } from './harness.mjs';

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
];

test('addresses become links, and the text stays the same', () => {
  for (const [text, wanted] of LINKS) {
    const parts = linkParts(text);
    equal([parts.map((part) => part.text).join(''), parts.flatMap(({ href }) => href ?? [])], [text, wanted]);
  }
});
