// How to allow a device after its permission was refused: each browser has this setting in another place.

/** @typedef {import('../words/index.js').Key} Key */
/** @typedef {{ one: Key, two: Key }} WayOut where to press, and what to allow there */
/** @typedef {{ userAgent: string, brands: readonly string[], touchPoints: number }} Browser `brands` is empty where the browser has no user agent data */

/** @type {Record<Way, WayOut>} */
const STEPS = {
  chrome: { one: 'blocked.chrome-one', two: 'blocked.chrome-two' },
  android: { one: 'blocked.android-one', two: 'blocked.android-two' },
  edge: { one: 'blocked.edge-one', two: 'blocked.allow' },
  firefox: { one: 'blocked.firefox-one', two: 'blocked.firefox-two' },
  safari: { one: 'blocked.safari-one', two: 'blocked.safari-two' },
  iphone: { one: 'blocked.iphone-one', two: 'blocked.safari-two' },
  system: { one: 'blocked.system-one', two: 'blocked.system-two' },
  other: { one: 'blocked.other-one', two: 'blocked.allow' },
};

/** @typedef {'chrome' | 'android' | 'edge' | 'firefox' | 'safari' | 'iphone' | 'system' | 'other'} Way */

/**
 * @param {Browser} browser @param {string} [message] of the error: in Chromium it says whether the operating system refused
 * @returns {Way}
 */
export function wayOut({ userAgent, brands, touchPoints }, message = '') {
  if (/by system/i.test(message)) return 'system';
  const has = (/** @type {RegExp} */ name) => name.test(userAgent);
  // An iPad calls itself a Mac. Every browser on iOS uses Safari's engine; only Safari itself has the permission in its page menu.
  if (has(/iPhone|iPad|iPod/) || (has(/Macintosh/) && touchPoints > 1)) return has(/CriOS|FxiOS|EdgiOS|OPiOS|DuckDuckGo|GSA\//) ? 'system' : 'iphone';
  if (has(/Firefox\//)) return has(/Android/) ? 'other' : 'firefox';
  if (has(/OPR\/|SamsungBrowser|Vivaldi|YaBrowser/)) return 'other';
  if (has(/Edg\//) || brands.some((brand) => brand.endsWith('Edge'))) return has(/Android/) ? 'other' : 'edge';
  if (has(/Chrome\//)) return has(/Android/) ? 'android' : 'chrome';
  return has(/Macintosh/) && has(/Version\/.*Safari/) ? 'safari' : 'other';
}

/** @param {string} [message] @returns {WayOut} */
export function wayOutHere(message) {
  const { userAgent = '', maxTouchPoints = 0 } = globalThis.navigator ?? {};
  const { brands = [] } = /** @type {any} */ (globalThis.navigator)?.userAgentData ?? {};
  return STEPS[wayOut({ userAgent, brands: brands.map((/** @type {{ brand: string }} */ { brand }) => brand), touchPoints: maxTouchPoints }, message)];
}
