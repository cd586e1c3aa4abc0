// The page's language: sentences by key, in the language of the browser or of the settings.
//
// A language is a module with the same keys as en.js. An entry is a text with {parameters}, or texts by plural category
// of the parameter `count`. Numbers and dates are written as the language does.

import { remember, remembered } from '../settings.js';
import { signal } from '../store.js';

/** @typedef {keyof typeof import('./en.js').default} Key */
/** @typedef {string | { [category in Intl.LDMLPluralRule]?: string }} Entry */
/** @typedef {Record<Key, Entry>} Dictionary */
/** @typedef {Record<string, string | number | Date | Words | null | undefined>} Params */
/** @typedef {{ key: Key, params?: Params } | { code: string, message?: string }} Words a sentence, or an error of the server by its code */

/** @type {Record<string, () => Promise<{ default: Dictionary }>>} */
const LANGUAGES = {
  en: () => import('./en.js'),
  de: () => import('./de.js'),
  es: () => import('./es.js'),
  fr: () => import('./fr.js'),
  ar: () => import('./ar.js'),
};
const RIGHT_TO_LEFT = ['ar'];
// Letters written from right to left, and signs that change a direction. Only for a name of these does a sentence from left to
// right need an isolate: what is copied from it stays plain.
const OTHER_DIRECTION = /[\u0590-\u08ff\u200f\ufb1d-\ufdff\ufe70-\ufefc]|[\ud802\ud803\ud83a\ud83b]/;
const CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;
const DATE = /** @type {const} */ ({ dateStyle: 'medium', timeStyle: 'short' });

/** The names of the languages, each in itself. */
export const NAMES = { en: 'English', de: 'Deutsch', es: 'Español', fr: 'Français', ar: 'العربية' };

export const language = signal('en');
/** Of the language, in the region of the browser: how numbers and dates are written. */
let locale = 'en';
/** @type {Dictionary | null} */
let dictionary = null;

/** The first language that the page has. @param {readonly string[]} wanted such as those of the browser */
export function chooseLanguage(wanted) {
  const known = wanted.map((each) => each.toLowerCase().split('-')[0]).find((each) => Object.hasOwn(LANGUAGES, each));
  return known ?? 'en';
}

/** The language as the browser wants it, such as "de-CH". @param {string} code @param {readonly string[]} wanted */
export function localeOf(code, wanted) {
  const found = wanted.find((each) => each.toLowerCase().split('-')[0] === code);
  try {
    return found ? Intl.getCanonicalLocales(found)[0] : code;
  } catch {
    return code; // such as "en-US@posix"
  }
}

/** @param {string} code */
async function load(code) {
  dictionary = (await LANGUAGES[code]()).default;
  locale = localeOf(code, globalThis.navigator?.languages ?? []);
  language.value = code;
  if (typeof document === 'undefined') return;
  document.documentElement.lang = code;
  document.documentElement.dir = RIGHT_TO_LEFT.includes(code) ? 'rtl' : 'ltr';
}

/** Takes a language from now on and on later visits. @param {string} code */
export function setLanguage(code) {
  remember('language', code);
  return load(code);
}

/** Resolves when the page can write. */
export const wordsLoaded = load(chooseLanguage([remembered('language', ''), ...(globalThis.navigator?.languages ?? [])]));

/** The sentence in the current language; an effect that calls this follows the language. @param {Key} key @param {Params} [params] @returns {string} */
export function t(key, params = {}) {
  const code = language.value;
  const entry = dictionary?.[key] ?? key;
  const text = typeof entry === 'string' ? entry : entry[new Intl.PluralRules(code).select(Number(params.count ?? 0))] ?? entry.other ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => write(params[name]));
}

/** @param {Words | null} words @returns {string} */
export function say(words) {
  if (!words) return '';
  if ('key' in words) return t(words.key, words.params);
  const key = /** @type {Key} */ (`error.${words.code}`);
  language.value;
  return dictionary && Object.hasOwn(dictionary, key) ? t(key) : words.message || words.code;
}

/** @param {number} value @param {Intl.NumberFormatOptions} [how] */
export function number(value, how) {
  language.value;
  return new Intl.NumberFormat(locale, how).format(value);
}

/** A time of day such as "14:03:22", in hours and minutes. @param {string} time */
export function clock(time) {
  language.value;
  const at = new Date(`2000-01-01T${time}`);
  return Number.isNaN(at.getTime()) ? time : at.toLocaleTimeString(locale, { timeStyle: 'short' });
}

/** @param {Params[string]} value */
function write(value) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return number(value);
  if (value instanceof Date) return value.toLocaleString(locale, DATE);
  return typeof value === 'object' ? say(value) : isolated(value, RIGHT_TO_LEFT.includes(language.value));
}

/** A name within a sentence, which keeps its direction and does not change that of the sentence. @param {string} text @param {boolean} isRightToLeft the sentence */
export function isolated(text, isRightToLeft) {
  const plain = text.replace(CONTROLS, '');
  const isAddress = /^https?:/.test(plain); // it is copied by hand, and begins and ends with letters from left to right
  return plain && !isAddress && (isRightToLeft || OTHER_DIRECTION.test(plain)) ? `\u2068${plain}\u2069` : plain;
}
