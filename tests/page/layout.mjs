import { GAP, layout } from '../../www/layout.js';
import { equal, ok, test } from './harness.mjs';

const SIZES = [[320, 480], [360, 640], [360, 740], [480, 320], [568, 320], [740, 360], [768, 1024], [1024, 768], [1280, 720], [1280, 800], [1366, 768], [1920, 1080], [2560, 1080], [1080, 1920], [3840, 2160]];
const COUNTS = [...Array.from({ length: 30 }, (_, at) => at + 1), 36, 49, 50, 64, 75, 99, 100];

const names = (count) => Array.from({ length: count - 1 }, (_, at) => `p${at}`);
/** What is left for the tiles of a window: see "Layout in numbers" of the page's principles. */
function spaceOf(width, height) {
  if (width < 600) return { width: width - 2 * GAP, height: height - 44 - 68 };
  if (height < 480) return { width: width - 2 * GAP - 64, height: height - 2 * GAP };
  return { width: width - 2 * GAP, height: height - GAP - 68 };
}
const isPhone = (width, height) => width < 600 || height < 480;
const overlap = (a, b) => a.x + a.width > b.x + 0.01 && b.x + b.width > a.x + 0.01 && a.y + a.height > b.y + 0.01 && b.y + b.height > a.y + 0.01;

function each(scenes, check) {
  for (const [width, height] of SIZES) {
    for (const count of COUNTS) {
      const scene = { people: names(count), own: 'me', space: spaceOf(width, height), phone: isPhone(width, height), ...scenes };
      for (const first = layout(scene), all = new Set(), pages = { at: 0 }; pages.at < first.pages; pages.at += 1) {
        check(layout({ ...scene, page: pages.at }), { ...scene, width, height, count, words: `${count} at ${width}x${height}, page ${pages.at + 1}` }, all);
      }
    }
  }
}

function isSound({ tiles, pager, caption, kind }, { space, words }) {
  const boxes = [...tiles, ...[pager, caption].filter(Boolean).map((box) => ({ ...box, key: 'controls' }))];
  for (const box of boxes) {
    ok(box.x >= -0.01 && box.y >= -0.01 && box.x + box.width <= space.width + 0.01 && box.y + box.height <= space.height + 0.01, `${words}: ${JSON.stringify(box)} leaves ${JSON.stringify(space)}`);
    ok(box.width >= 1 && box.height >= 1, `${words}: an empty box`);
  }
  boxes.forEach((a, at) => boxes.slice(at + 1).forEach((b) => {
    const isCorner = kind === 'duo' && (a.role === 'self' || b.role === 'self');
    ok(isCorner || !overlap(a, b), `${words}: ${JSON.stringify(a)} lies over ${JSON.stringify(b)}`);
  }));
  equal(new Set(tiles.map(({ key }) => key)).size, tiles.length, `${words}: a picture stands twice`);
  equal(tiles.at(-1).key, 'me camera', `${words}: oneself is last`);
}

for (const [name, scene] of Object.entries({
  'a grid': {},
  'a spotlight': { mode: 'spotlight', speaker: 'p1' },
  'a shared screen': { shares: ['p0'] },
  'two shared screens': { shares: ['p0', 'p1'] },
  'a pinned participant': { pinned: 'p2 camera' },
  'an upright share': { shares: ['p0'], aspect: 9 / 16 },
})) {
  test(`${name} keeps within the space, without overlap, and shows everybody`, () => {
    const shown = new Map();
    each(scene, (found, about) => {
      if (about.count < 3) return;
      isSound(found, about);
      const key = `${about.count} ${about.width}`;
      const all = shown.get(key) ?? new Set();
      for (const tile of found.tiles) all.add(tile.key);
      shown.set(key, all);
      if (found.page === found.pages - 1) {
        equal(all.size, about.count + (scene.shares?.length ?? 0), `${about.words}: everybody is on a page`);
        shown.delete(key);
      }
    });
  });
}

test('faces fill at least 80 % with 2, 4 and 9 people at every size', () => {
  each({}, ({ tiles, pages, kind }, { count, space, words }) => {
    if (![2, 4, 9].includes(count)) return;
    const use = kind === 'duo' ? 1 : tiles.reduce((sum, { width, height }) => sum + width * height, 0) / (space.width * space.height);
    ok(use >= 0.8 || pages > 1, `${words}: ${use.toFixed(2)}`);
  });
});

test('a page is turned when tiles would get too small, and at most 25 are on one', () => {
  each({}, ({ tiles, kind }, { phone, words, space }) => {
    if (kind !== 'grid') return;
    const least = phone ? [140, 100] : [200, 110];
    const tiny = space.width < 2 * 140 + GAP || space.height < 2 * 100 + GAP + 52;
    const [long, short] = [Math.max, Math.min].map((of) => (a, b) => of(a, b));
    ok(tiny || tiles.every(({ width, height }) => long(width, height) >= long(...least) && short(width, height) >= short(...least)), `${words}: ${tiles[0].width} x ${tiles[0].height}`);
    ok(tiles.length <= 25, words);
    ok(tiles.every(({ width, height }) => width <= 2 * height + 0.01 && height <= 2 * width + 0.01), `${words}: the shape of a tile`);
  });
  const of = (count, width, height) => layout({ people: names(count), own: 'me', space: spaceOf(width, height), phone: isPhone(width, height) });
  equal([of(25, 1280, 800).pages, of(25, 1280, 800).tiles.length], [1, 25]);
  equal([of(25, 360, 740).pages > 2, of(25, 360, 740).tiles.length >= 6], [true, true]);
  equal(of(26, 1920, 1080).pages, 2);
});

test('one to one, the other fills the space and oneself stands in a corner', () => {
  const space = { width: 1264, height: 724 };
  const scene = { people: ['bob'], own: 'me', space };
  const { kind, tiles: [other, self] } = layout(scene);
  equal([kind, other], ['duo', { key: 'bob camera', role: 'large', x: 0, y: 0, ...space }]);
  equal([self.x + self.width, self.y + self.height], [1264 - 12, 724 - 12]);
  equal(Math.round(self.width), 240);
  const [, moved] = layout({ ...scene, corner: 'top-start' }).tiles;
  equal([moved.x, moved.y], [12, 12]);
  equal(layout({ ...scene, self: 'hidden' }).tiles.length, 1);
  const [, chip] = layout({ ...scene, self: 'chip' }).tiles;
  equal([chip.role, chip.width, chip.height, chip.x + chip.width, chip.y + chip.height], ['self', 148, 44, space.width - 12, space.height - 12], 'a chip');
  equal(layout({ ...scene, pinned: 'bob camera' }).kind, 'duo', 'the only other one is large anyway');
});

test('whoever is pinned, shares or speaks is large, in this order', () => {
  const scene = { people: ['a', 'b', 'c'], own: 'me', space: { width: 1264, height: 724 } };
  const large = (more) => layout({ ...scene, ...more }).tiles[0].key;
  equal(layout(scene).kind, 'grid');
  equal(large({ mode: 'spotlight' }), 'a camera', 'before anybody spoke');
  equal(large({ mode: 'spotlight', speaker: 'c' }), 'c camera');
  equal(large({ mode: 'spotlight', speaker: 'gone' }), 'a camera');
  equal(large({ mode: 'spotlight', speaker: 'c', shares: ['a', 'b'] }), 'b screen', 'the latest share');
  equal(large({ shares: ['a', 'b'], pinned: 'a screen' }), 'a screen');
  equal(large({ shares: ['a', 'b'], pinned: 'c camera' }), 'c camera');
  equal(large({ shares: ['a'], pinned: 'gone camera' }), 'a screen');
  const strip = layout({ ...scene, shares: ['a', 'b'], pinned: 'c camera' }).tiles.map(({ key }) => key);
  equal(strip, ['c camera', 'a screen', 'b screen', 'a camera', 'b camera', 'me camera'], 'shares come first in the strip');
});

test('a share is shown whole, below its caption, beside a strip', () => {
  const { tiles: [share, ...strip], caption } = layout({ people: ['a', 'b'], own: 'me', shares: ['a'], space: { width: 1264, height: 724 } });
  equal([share.role, Math.round((share.width / share.height) * 9)], ['share', 16]);
  equal(caption.y + caption.height, share.y);
  equal(strip.map(({ role }) => role), ['strip', 'strip', 'strip']);
  ok(strip.every(({ x, width }) => x > share.x + share.width && width >= 128 && width <= 288), 'the strip is at the end side');
});

test('without space there is nothing', () => {
  equal(layout({ people: ['a', 'b'], own: 'me', space: { width: 0, height: 0 } }).tiles, []);
});

test('a share has its own aspect, and one of several is large by choice', () => {
  const space = { width: 1200, height: 700 };
  const scene = { people: ['a', 'b'], own: 'me', space, shares: ['a', 'b'], aspects: new Map([['a screen', 2], ['b screen', 0.5]]) };
  const large = (more = {}) => layout({ ...scene, ...more }).tiles[0];
  const [last, chosen] = [large(), large({ pinned: 'a screen' })];
  equal([last.key, last.role, chosen.key, chosen.role], ['b screen', 'share', 'a screen', 'share']);
  equal([chosen.width / chosen.height, large({ aspects: new Map(), pinned: 'a screen' }).width / large({ aspects: new Map() }).height], [2, 16 / 9]);
  equal(layout({ ...scene, pinned: 'a screen' }).tiles[1], layout({ ...scene, pinned: 'a screen' }).tiles.find(({ key }) => key === 'b screen'), 'the other one is first in the strip');
});
