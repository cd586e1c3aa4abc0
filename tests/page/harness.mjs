// Runs tests of the page's pure modules under Node's test runner, or in a browser that calls `run`.

const isNode = Boolean(globalThis.process?.versions?.node);

/** The tests that `run` runs in a browser. @type {[string, () => void | Promise<void>][]} */
const cases = [];

/** @type {(name: string, body: () => void | Promise<void>) => void} */
export const test = isNode ? (await import('node:test')).test : (name, body) => { cases.push([name, body]); };

/** Runs all tests and returns how many there were. The first failure is thrown. */
export async function run() {
  for (const [name, body] of cases) {
    try {
      await body();
    } catch (error) {
      throw new Error(`${name}: ${error}`, { cause: error });
    }
  }
  return cases.length;
}

/** @param {unknown} value @param {string} words */
export function ok(value, words) {
  if (!value) throw new Error(words);
}

/** Compares as JSON, with Maps and Sets as lists. @param {unknown} value @param {unknown} expected @param {string} [words] */
export function equal(value, expected, words = '') {
  const text = (/** @type {unknown} */ each) => JSON.stringify(each, (_, held) => (held instanceof Map || held instanceof Set ? [...held] : held));
  if (text(value) !== text(expected)) throw new Error(`${words} ${text(value)} instead of ${text(expected)}`);
}
