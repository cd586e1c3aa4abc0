// The http and https addresses in a text.

/** @typedef {{ text: string, href?: string }} Part */

/** Divides a text into plain parts and links. @param {string} text @returns {Part[]} */
export function linkParts(text) {
  /** @type {Part[]} */
  const parts = [];
  text.split(/(\bhttps?:\/\/[^\s<>"“”«»„]+)/i).forEach((part, at) => {
    const address = at % 2 ? withoutTail(part) : '';
    const url = address && URL.canParse(address) ? new URL(address) : null;
    if (!url || !['http:', 'https:'].includes(url.protocol)) parts.push({ text: part });
    else parts.push({ text: address, href: url.href }, { text: part.slice(address.length) });
  });
  return parts.filter((part) => part.text);
}

/**
 * Removes what follows a URL in a sentence: punctuation, and a closing bracket whose opening one is before the URL.
 * @param {string} address
 */
function withoutTail(address) {
  /** @type {Record<string, string>} */
  const closed = { ')': '(', ']': '[', '}': '{' };
  const count = (/** @type {string} */ letter) => address.split(letter).length;
  for (let last; (last = address.at(-1)); address = address.slice(0, -1)) {
    const isTail = closed[last] ? count(last) > count(closed[last]) : /[.,;:!?'’‘…。、，！？；：）】」』]/.test(last);
    if (!isTail) break;
  }
  return address;
}
