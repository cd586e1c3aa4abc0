// What this browser remembers. Browsers may refuse storage, as in private windows: then nothing is remembered.

/** @param {'localStorage' | 'sessionStorage'} which @param {string} name @param {string} value */
function store(which, name, value) {
  try {
    globalThis[which].setItem(`aq.${name}`, value);
  } catch { /* see above */ }
}

/** @param {'localStorage' | 'sessionStorage'} which @param {string} name @returns {string | null} */
function stored(which, name) {
  try {
    return globalThis[which].getItem(`aq.${name}`);
  } catch {
    return null;
  }
}

/** For all later visits. @param {string} name @param {unknown} value */
export const remember = (name, value) => store('localStorage', name, JSON.stringify(value));

/** @template T @param {string} name @param {T} otherwise @returns {T} */
export function remembered(name, otherwise) {
  const text = stored('localStorage', name);
  if (text === null) return otherwise;
  try {
    const value = JSON.parse(text);
    return typeof value === typeof otherwise ? value : otherwise;
  } catch {
    return otherwise;
  }
}

/** As long as this tab is open. @param {string} name @param {string} value */
export const keepInTab = (name, value) => store('sessionStorage', name, value);

/** @param {string} name */
export const keptInTab = (name) => stored('sessionStorage', name);
