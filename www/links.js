// The http and https addresses in a text.

/** @typedef {{ text: string, href?: string }} Part */

// Controls that reverse the direction of text would make an address look like another one (UTS 39 section 4).
const ADDRESS = /(\bhttps?:\/\/[^\s<>"“”«»„\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+)/i;

const PUNCTUATION = /[.,;:!?'’‘…。、，！？；：）】」』]/;

/** Closing brackets and their opening ones. @type {Record<string, string>} */
const BRACKETS = { ')': '(', ']': '[', '}': '{' };

/** Divides a text into plain parts and links. @param {string} text @returns {Part[]} */
export function linkParts(text) {
  /** @type {Part[]} */
  const parts = [];
  text.split(ADDRESS).forEach((part, at) => {
    const address = at % 2 ? withoutTail(part) : '';
    const url = address && URL.canParse(address) ? new URL(address) : null;
    // A user name can look like the host: https://bank.example@evil.example
    if (!url || !['http:', 'https:'].includes(url.protocol) || url.username || url.password) parts.push({ text: part });
    else parts.push({ text: address, href: url.href }, { text: part.slice(address.length) });
  });
  return parts.filter((part) => part.text);
}

/**
 * Removes what follows a URL in a sentence: punctuation, and closing brackets whose opening ones are before the URL.
 * @param {string} address
 */
function withoutTail(address) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const letter of address) counts[letter] = (counts[letter] ?? 0) + 1;
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    const opening = BRACKETS[last];
    const isTail = opening ? counts[last] > (counts[opening] ?? 0) : PUNCTUATION.test(last);
    if (!isTail) break;
    counts[last] -= 1;
  }
  return address.slice(0, end);
}
