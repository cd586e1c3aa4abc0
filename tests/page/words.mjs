import ar from '../../www/words/ar.js';
import de from '../../www/words/de.js';
import en from '../../www/words/en.js';
import es from '../../www/words/es.js';
import fr from '../../www/words/fr.js';
import { chooseLanguage, NAMES, say, setLanguage, t, wordsLoaded } from '../../www/words/index.js';
import { proposeRoom } from '../../www/words/rooms.js';
import { equal, ok, test } from './harness.mjs';

const LANGUAGES = { ar, de, es, fr };
const parameters = (entry) => [...new Set(Object.values(typeof entry === 'string' ? { entry } : entry).join().match(/\{\w+\}/g) ?? [])].sort().join();

for (const [code, words] of Object.entries(LANGUAGES)) {
  test(`${code} has the keys of English, with the same parameters`, () => {
    equal(Object.keys(words).sort(), Object.keys(en).sort());
    for (const [key, entry] of Object.entries(en)) {
      equal(parameters(words[key]), parameters(entry), key);
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
