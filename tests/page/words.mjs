import ar from '../../www/words/ar.js';
import de from '../../www/words/de.js';
import en from '../../www/words/en.js';
import es from '../../www/words/es.js';
import fr from '../../www/words/fr.js';
import { chooseLanguage, clock, isolated, localeOf, NAMES, say, setLanguage, t, wordsLoaded } from '../../www/words/index.js';
import { proposeRoom } from '../../www/words/rooms.js';
import { equal, ok, test } from './harness.mjs';

const LANGUAGES = { ar, de, es, fr };
const parameters = (text) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();
/** Forms of one number, which may leave it out, as in "one person". */
const SINGLE = ['zero', 'one', 'two'];

/** The forms of an entry that lack a parameter of English, or have one too many. */
function forms(entry, english) {
  const wanted = parameters(english.other ?? english);
  return Object.entries(typeof entry === 'string' ? { other: entry } : entry).filter(([category, text]) => {
    const found = parameters(text);
    const isDue = (each) => each !== '{count}' || !SINGLE.includes(category);
    return wanted.some((each) => isDue(each) && !found.includes(each)) || found.some((each) => !wanted.includes(each));
  }).map(([category]) => category);
}

for (const [code, words] of Object.entries(LANGUAGES)) {
  test(`${code} has the keys of English, with the same parameters`, () => {
    equal(Object.keys(words).sort(), Object.keys(en).sort());
    for (const [key, entry] of Object.entries(en)) {
      equal(forms(words[key], entry), [], key);
      equal(typeof words[key], typeof entry, `${key}: plurals`);
    }
  });
  test(`${code} has every plural category of its language`, () => {
    const categories = new Intl.PluralRules(code).resolvedOptions().pluralCategories;
    for (const [key, entry] of Object.entries(words)) {
      if (typeof entry !== 'string') for (const category of categories) ok(category in entry, `${key}: ${category}`);
    }
  });
}

test('each plural form has the parameters of English, but may leave out the number where it is one', () => {
  const english = { one: '{name} and {count} other', other: '{name} and {count} others' };
  equal(forms({ one: '{name} und noch jemand', other: '{name} und {count} andere' }, english), []);
  equal(forms({ one: '{name} und {count} anderer', other: '{name} und andere' }, english), ['other']);
  equal(forms({ one: 'noch {count}', few: '{name} {count} {place}', other: '{name} {count}' }, english), ['one', 'few']);
  for (const [key, entry] of Object.entries(en)) equal(forms(entry, entry), [], key);
});

test('keys are in order', () => {
  const subject = (key) => key.split('.')[0];
  const subjects = Object.keys(en).map(subject).filter((each, at, all) => each !== all[at - 1]);
  equal(new Set(subjects).size, subjects.length, 'the keys of a subject stand together');
});

test('a language is chosen by the first that the page has', () => {
  equal(chooseLanguage(['', 'fi', 'de-AT', 'en']), 'de');
  equal(chooseLanguage([]), 'en');
  equal(chooseLanguage(['constructor']), 'en');
  equal(Object.keys(NAMES).sort(), ['en', ...Object.keys(LANGUAGES)].sort(), 'every language has a name');
});

test('numbers and dates follow the region of the language', async () => {
  for (const [code, wanted, expected] of [
    ['de', ['fr-FR', 'de-CH', 'de'], 'de-CH'], ['en', ['en-GB', 'en-US'], 'en-GB'], ['es', ['en-GB'], 'es'], ['en', ['en-US@posix'], 'en'], ['ar', [], 'ar'],
  ]) equal(localeOf(code, wanted), expected, `${code} of ${wanted}`);
  equal(clock('25 h'), '25 h', 'what is no time stays as it is');
  await wordsLoaded;
  await setLanguage('de');
  equal(clock('14:03:22'), '14:03');
  await setLanguage('en');
  ok(/2:03\sPM|14:03/.test(clock('14:03:22')), `as the region of English writes it: ${clock('14:03:22')}`);
  equal(new Intl.NumberFormat(localeOf('en', ['en-IN'])).format(1234567), '12,34,567');
});

test('a name keeps its direction within a sentence, and does not change that of the sentence', async () => {
  for (const [text, isRightToLeft, expected] of [
    ['Ann', false, 'Ann'],
    ['ليلى', false, '\u2068ليلى\u2069'],
    ['דנה 3', false, '\u2068דנה 3\u2069'],
    ['Ann (3)', true, '\u2068Ann (3)\u2069'],
    ['\u202eAnn\u2069', false, 'Ann'],
    ['\u2069ليلى\u202e', true, '\u2068ليلى\u2069'],
    ['http://example.org/?room=a', true, 'http://example.org/?room=a'],
    ['', true, ''],
  ]) equal(isolated(text, isRightToLeft), expected, text);
  await wordsLoaded;
  await setLanguage('ar');
  equal(t('said.joined', { name: 'Bob (1)' }).includes('\u2068Bob (1)\u2069'), true);
  await setLanguage('en');
  equal(t('said.joined', { name: 'ليلى' }), '\u2068ليلى\u2069 joined');
});

test('sentences are filled in, with plurals, numbers and other sentences', async () => {
  await wordsLoaded;
  await setLanguage('en');
  equal(t('call.count', { count: 1 }), '1 person');
  equal(t('call.count', { count: 1200 }), '1,200 people');
  equal(say({ key: 'device.rest', params: { words: { key: 'device.missing-camera' } } }), 'No camera was found. Plug one in, then switch it on. You can watch, listen and chat.');
  equal(say({ code: 'locked', message: 'x' }), 'This room is locked. A moderator can unlock it.');
  equal(say({ code: 'of-a-newer-server', message: 'The words of the server.' }), 'The words of the server.');
  equal(say({ code: 'of-a-newer-server' }), 'of-a-newer-server');
  equal(say(null), '');
  await setLanguage('de');
  equal(t('call.count', { count: 1200 }), '1.200 Personen');
  equal(say({ code: 'locked' }), 'Dieser Raum ist gesperrt. Wer moderiert, kann ihn entsperren.');
  await setLanguage('ar');
  equal([1, 2, 3, 11, 100].map((count) => t('call.count', { count }).replace(/[\d٠-٩]+ /, '')), ['شخص واحد', 'شخصان', 'أشخاص', 'شخصًا', 'شخص']);
  await setLanguage('en');
});

test('rooms are proposed that can be read out', () => {
  for (let at = 0; at < 100; at += 1) ok(/^[a-z]+-[a-z]+-\d{3}$/.test(proposeRoom()), 'a name of letters and a number');
});
