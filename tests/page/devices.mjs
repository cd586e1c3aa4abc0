import { canFlip, newcomers, nextOf } from '../../www/devices/list.js';
import { wayOut } from '../../www/devices/way-out.js';
import { equal, test } from './harness.mjs';

const MAC = 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit';
const PHONE = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)';
const ANDROID = 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)';
const WINDOWS = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64)';

test('each browser has its way out of a refused permission', () => {
  // way, user agent, touch points, brands, message of the error
  for (const [expected, userAgent, touchPoints = 0, brands = [], message = ''] of [
    ['chrome', `${WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`, 0, ['Chromium', 'Google Chrome']],
    ['chrome', `${WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36`],
    ['chrome', `${MAC}/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`],
    ['android', `${ANDROID} Chrome/140.0.0.0 Mobile Safari/537.36`, 5, ['Google Chrome']],
    ['edge', `${WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0`],
    ['edge', `${WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`, 0, ['Microsoft Edge']],
    ['firefox', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'],
    ['safari', `${MAC}/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15`],
    ['iphone', `${PHONE} Version/18.1 Mobile/15E148 Safari/604.1`, 5],
    ['iphone', `${MAC}/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15`, 5],
    ['system', `${PHONE} CriOS/140.0.0.0 Mobile/15E148 Safari/604.1`, 5],
    ['system', `${PHONE} FxiOS/140.0 Mobile/15E148 Safari/605.1.15`, 5],
    ['system', `${MAC}/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`, 0, [], 'Permission denied by system'],
    ['other', 'Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0', 5],
    ['other', `${ANDROID} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36`, 5],
    ['other', `${WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 OPR/120.0.0.0`],
    ['other', ''],
  ]) equal(wayOut({ userAgent, touchPoints, brands }, message), expected, userAgent);
});

test('one button switches cameras where they have sides, or on touch screens', () => {
  for (const [expected, cameras, facing, isTouch] of [
    [true, 2, 'user', false], [true, 2, undefined, true], [false, 2, undefined, false], [false, 1, 'environment', true],
  ]) equal(canFlip({ cameras, facing, isTouch }), expected, `${cameras} ${facing} ${isTouch}`);
  const [a, b] = [{ id: 'a', label: 'A' }, { id: 'b', label: 'B' }];
  equal([nextOf([a, b], 'a'), nextOf([a, b], 'b'), nextOf([a, b], 'gone'), nextOf([a], 'a') ?? null, nextOf([], 'a') ?? null], [b, a, a, null, null]);
});

test('a device that is plugged in is found, but not a list that was not known', () => {
  const of = (...ids) => ids.map((id) => ({ id, label: id.toUpperCase() }));
  for (const [before, after, expected] of [
    [of('a'), of('a', 'b'), ['b']], [of('a', 'b'), of('b'), []], [[], of('a', 'b'), []], [of('a'), of('default', 'communications', 'a'), []],
  ]) equal(newcomers(before, after).map(({ id }) => id), expected);
});
