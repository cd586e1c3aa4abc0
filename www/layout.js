// The layout of the pictures: computes rectangles and pages from participants, shares, pins and the available space.
//
// Coordinates are measured from the top and from the inline start; the stage mirrors them for right-to-left scripts.

/**
 * @typedef {{ x: number, y: number, width: number, height: number }} Box
 * @typedef {{ width: number, height: number }} Size
 * @typedef {'tile' | 'large' | 'share' | 'strip' | 'self'} Role
 * @typedef {Box & { key: string, role: Role }} Placed
 * @typedef {'top-start' | 'top-end' | 'bottom-start' | 'bottom-end'} Corner
 * @typedef {'shown' | 'chip' | 'hidden'} SelfView
 * @typedef {{
 *   people: readonly string[], own: string, shares?: readonly string[], pinned?: string | null,
 *   speaker?: string | null, mode?: 'grid' | 'spotlight', space: Size, phone?: boolean, page?: number,
 *   corner?: Corner, self?: SelfView, aspect?: number, aspects?: ReadonlyMap<string, number>,
 * }} Scene
 *   People, shares and the speaker are participant ids; `own` is this participant's; `pinned` is the key of a picture;
 *   `aspects` are those of shared screens, by key; `aspect` is the default for shares without one.
 * @typedef {{
 *   kind: 'none' | 'alone' | 'duo' | 'grid' | 'large', tiles: Placed[], page: number, pages: number,
 *   pager: (Box & { upright: boolean }) | null, caption: Box | null, slots: number,
 * }} Layout
 *   `slots` is how many other participants the first page shows.
 */

export const GAP = 8;
const PAGER = 44;
const CAPTION = 44;
const MAX_PER_PAGE = 25;
/** Size of the own picture when it is made small. */
const CHIP = { width: 148, height: 44 };
/** In smaller tiles, faces cannot be recognized. */
const MIN_TILE = { width: 200, height: 110 };
const MIN_TILE_ON_PHONE = { width: 140, height: 100 };
/** Under a shared screen on an upright phone, where the screen matters more than the faces. */
const MIN_TILE_UNDER_SHARE = { width: 90, height: 64 };
/** In a space of less height, the strip has three tiles, and a share's caption is above the strip. */
const LOW = 420;
/** Tiles of at least this share of the largest possible size count as equally large: the grid that fills the space best is taken. */
const NEARLY_LARGEST = 0.95;
/** The share of the space that tiles should fill. */
const GOOD_USE = 0.8;
/** If they fill less than that, tiles of at least this fraction of the largest possible size are considered too. */
const STILL_LARGE = 0.8;

const clamp = (/** @type {number} */ least, /** @type {number} */ value, /** @type {number} */ most) => Math.max(least, Math.min(value, most));

/** @param {Scene} scene @returns {Layout} */
export function layout(scene) {
  const { people, own, space, page = 0 } = scene;
  const me = `${own} camera`;
  if (space.width < 1 || space.height < 1) return layoutOf('none', [], { slots: people.length });
  const large = subject(scene);
  if (large) return withLarge(scene, large);
  if (!people.length) return layoutOf('alone', [{ key: me, role: 'tile', ...gridBoxes(1, space)[0] }], { slots: 0 });
  if (people.length === 1) return duo(scene);
  return grid(people.map((id) => `${id} camera`), me, space, minTile(scene), page);
}

/** The picture that is shown large, if any. @param {Scene} scene @returns {string | null} */
function subject({ people, shares = [], pinned, speaker, mode }) {
  const isShare = (/** @type {string} */ key) => shares.some((id) => key === `${id} screen`);
  const isFace = (/** @type {string} */ key) => people.some((id) => key === `${id} camera`);
  if (pinned && (isShare(pinned) || (isFace(pinned) && (people.length > 1 || shares.length)))) return pinned;
  if (shares.length) return `${shares[shares.length - 1]} screen`;
  if (mode !== 'spotlight' || people.length < 2) return null;
  return `${speaker && people.includes(speaker) ? speaker : people[0]} camera`;
}

/** @param {Layout['kind']} kind @param {Placed[]} tiles @param {Partial<Layout>} more @returns {Layout} */
function layoutOf(kind, tiles, more) {
  return { kind, tiles, page: 0, pages: 1, pager: null, caption: null, slots: 0, ...more };
}

/** @param {Scene} scene */
const minTile = ({ phone = false }) => (phone ? MIN_TILE_ON_PHONE : MIN_TILE);

/** @param {Size} size @param {Size} least */
const isAtLeast = (size, least) => size.width >= least.width && size.height >= least.height;

/** @param {Size} space */
const isUpright = ({ width, height }) => width < height;

/**
 * One to one: the other participant fills the space, the own picture is in a corner.
 * @param {Scene} scene @returns {Layout}
 */
function duo({ people, own, space, corner = 'bottom-end', self = 'shown' }) {
  const other = { key: `${people[0]} camera`, role: /** @type {Role} */ ('large'), x: 0, y: 0, ...space };
  if (self === 'hidden') return layoutOf('duo', [other], { slots: 1 });
  const upright = isUpright(space);
  const preferred = upright ? 0.3 * space.width : 0.19 * space.width;
  const isChip = self === 'chip';
  const width = Math.min(isChip ? CHIP.width : upright ? clamp(96, preferred, 224) : clamp(112, preferred, 320), space.width / 2);
  const height = Math.min(isChip ? CHIP.height : upright ? (width * 4) / 3 : (width * 10) / 16, space.height / 2);
  const edge = Math.min(12, space.width - width, space.height - height);
  const x = corner.endsWith('end') ? space.width - width - edge : edge;
  const y = corner.startsWith('bottom') ? space.height - height - edge : edge;
  return layoutOf('duo', [other, { key: `${own} camera`, role: 'self', x, y, width, height }], { slots: 1 });
}

/**
 * A speaker or a shared screen large, the others in a strip or below.
 * @param {Scene} scene @param {string} large @returns {Layout}
 */
function withLarge(scene, large) {
  const { people, shares = [], space, aspects } = scene;
  scene = { ...scene, aspect: aspects?.get(large) ?? scene.aspect };
  const rest = [...shares.map((id) => `${id} screen`), ...people.map((id) => `${id} camera`)].filter((key) => key !== large);
  if (!isUpright(space)) return beside(scene, large, rest);
  return large.endsWith(' screen') ? underShare(scene, large, rest) : underSpeaker(scene, large, rest);
}

/** A shared screen above a grid of all. @param {Scene} scene @param {string} large @param {string[]} rest @returns {Layout} */
function underShare({ own, space, page = 0, aspect = 16 / 9 }, large, rest) {
  const height = Math.min(space.width / aspect, (space.height - CAPTION) * 0.6);
  const top = CAPTION + height + GAP;
  const below = { width: space.width, height: Math.max(1, space.height - top) };
  const under = grid(rest, `${own} camera`, below, MIN_TILE_UNDER_SHARE, page, 3);
  for (const box of [...under.tiles, under.pager]) if (box) box.y += top;
  const width = Math.min(space.width, height * aspect);
  const x = (space.width - width) / 2;
  const caption = { x: 0, y: 0, width: space.width, height: CAPTION };
  return { ...under, kind: 'large', caption, tiles: [placedAt(large, 'share', x, CAPTION, width, height), ...under.tiles] };
}

/** A speaker above a strip of three. @param {Scene} scene @param {string} large @param {string[]} rest @returns {Layout} */
function underSpeaker({ own, space, page = 0 }, large, rest) {
  const isPaged = rest.length + 1 > 3;
  const height = clamp(96, 0.2 * space.height, 160);
  const top = space.height - height - (isPaged ? PAGER + GAP : 0);
  const width = (space.width - GAP * 2) / 3;
  const { keys, ...pages } = keysOfPage(rest, `${own} camera`, 3, page);
  const start = (space.width - keys.length * width - (keys.length - 1) * GAP) / 2;
  const strip = keys.map((key, at) => placedAt(key, 'strip', start + at * (width + GAP), top, width, height));
  const pager = isPaged ? { x: 0, y: space.height - PAGER, width: space.width, height: PAGER, upright: false } : null;
  return layoutOf('large', [placedAt(large, 'large', 0, 0, space.width, top - GAP), ...strip], { ...pages, pager });
}

/** The large picture, with a strip at the end side. @param {Scene} scene @param {string} large @param {string[]} rest @returns {Layout} */
function beside({ own, space, page = 0, aspect = 16 / 9 }, large, rest) {
  const isShare = large.endsWith(' screen');
  const isLow = space.height < LOW;
  const width = clamp(128, 0.17 * space.width, Math.min(288, space.width / 2));
  const left = space.width - width - GAP;
  const inStrip = isShare && isLow ? CAPTION : 0; // the caption is at the top of the strip
  const slots = isLow ? 3 : 5;
  const isPaged = rest.length + 1 > slots;
  const { keys, ...pages } = keysOfPage(rest, `${own} camera`, slots, page);
  const tall = space.height - inStrip - (isPaged ? PAGER + GAP : 0);
  const height = Math.min((tall - GAP * (slots - 1)) / slots, width * 0.75);
  const strip = keys.map((key, at) => placedAt(key, 'strip', left + GAP, inStrip + at * (height + GAP), width, height));
  const pager = isPaged ? { x: left + GAP, y: space.height - PAGER, width, height: PAGER, upright: false } : null;
  if (!isShare) return layoutOf('large', [placedAt(large, 'large', 0, 0, left, space.height), ...strip], { ...pages, pager });
  if (inStrip) {
    const caption = { x: left + GAP, y: 0, width, height: CAPTION };
    return layoutOf('large', [placedAt(large, 'share', 0, 0, left, space.height), ...strip], { ...pages, pager, caption });
  }
  const shown = Math.min(space.height - CAPTION, left / aspect);
  const wide = Math.min(left, shown * aspect);
  const x = (left - wide) / 2;
  const y = (space.height - CAPTION - shown) / 2;
  const caption = { x, y, width: left - x, height: CAPTION };
  return layoutOf('large', [placedAt(large, 'share', x, y + CAPTION, wide, shown), ...strip], { ...pages, pager, caption });
}

/** @param {string} key @param {Role} role @param {number} x @param {number} y @param {number} width @param {number} height @returns {Placed} */
const placedAt = (key, role, x, y, width, height) => ({ key, role, x, y, width: Math.max(1, width), height: Math.max(1, height) });

/**
 * The keys of one page. The own picture is the last one on each page.
 * @param {readonly string[]} rest @param {string} me @param {number} slots tiles of a page @param {number} wanted
 */
function keysOfPage(rest, me, slots, wanted) {
  const each = Math.max(1, slots - 1);
  const pages = Math.max(1, Math.ceil(rest.length / each));
  const page = clamp(0, wanted, pages - 1);
  return { keys: [...rest.slice(page * each, (page + 1) * each), me], page, pages, slots: Math.min(each, rest.length) };
}

/**
 * A grid over as many pages as it needs.
 * @param {readonly string[]} rest @param {string} me @param {Size} space @param {Size} tile the minimum size of a tile
 * @param {number} page @param {number} [columns] the maximum number of columns @returns {Layout}
 */
function grid(rest, me, space, tile, page, columns) {
  const count = rest.length + 1;
  const fits = (/** @type {number} */ n, /** @type {Size} */ within, /** @type {Size} */ least) => isAtLeast(gridBoxes(n, within, least, columns)[0], least);
  /** @type {(key: string, box: Box) => Placed} */
  const at = (key, box) => ({ key, role: 'tile', ...box });
  // Upright tiles of the same size are allowed if they avoid paging or fill the space better.
  const turned = { width: tile.height, height: tile.width };
  const found = [tile, turned].filter((each) => count <= 2 || fits(count, space, each)).map((each) => gridBoxes(count, space, each, columns));
  if (count <= MAX_PER_PAGE && found.length) {
    const boxes = found.find(([{ width, height }]) => count * width * height >= GOOD_USE * space.width * space.height) ?? found[0];
    return layoutOf('grid', [...rest, me].map((key, n) => at(key, boxes[n])), { slots: rest.length });
  }
  const isLow = !isUpright(space) && space.height < LOW;
  const within = isLow
    ? { width: space.width - PAGER - GAP, height: space.height }
    : { width: space.width, height: space.height - PAGER - GAP };
  if (within.width < 1 || within.height < 1) return layoutOf('grid', [at(me, gridBoxes(1, space)[0])], { slots: 0 });
  let slots = Math.min(MAX_PER_PAGE, count);
  while (slots > 2 && !fits(slots, within, tile)) slots -= 1;
  const { keys, ...pages } = keysOfPage(rest, me, slots, page);
  const boxes = gridBoxes(keys.length, within, tile, columns);
  const pager = isLow
    ? { x: space.width - PAGER, y: 0, width: PAGER, height: space.height, upright: true }
    : { x: 0, y: space.height - PAGER, width: space.width, height: PAGER, upright: false };
  return layoutOf('grid', keys.map((key, n) => at(key, boxes[n])), { ...pages, pager });
}

/**
 * The boxes of `count` tiles in a grid without paging. The number of columns is the one with the largest tiles, or, of
 * several nearly equal ones, the one that fills the space best. Tiles fill their cells, but are at most twice as wide as
 * high and at most twice as high as wide. The last row is centred.
 * @param {number} count @param {Size} space @param {Size} [least] the minimum size of a tile, if possible
 * @param {number} [maxColumns] @returns {Box[]}
 */
function gridBoxes(count, space, least = { width: 1, height: 1 }, maxColumns = count) {
  const face = isUpright(space) ? 1 : 4 / 3;
  /** @type {(Size & { columns: number, rows: number, size: number, use: number })[]} */
  const choices = [];
  for (let columns = 1; columns <= Math.min(count, maxColumns); columns += 1) {
    const rows = Math.ceil(count / columns);
    if (columns > 1 && Math.ceil(count / (columns - 1)) === rows && columns * rows - count >= rows) continue; // a column would be empty without saving a row
    const cell = { width: (space.width - GAP * (columns - 1)) / columns, height: (space.height - GAP * (rows - 1)) / rows };
    if (cell.width < 1 || cell.height < 1) continue;
    const width = Math.min(cell.width, cell.height * 2);
    const height = Math.min(cell.height, cell.width * 2);
    choices.push({ columns, rows, width, height, size: Math.min(width, height * face), use: count * width * height });
  }
  if (!choices.length) return Array.from({ length: count }, () => ({ x: 0, y: 0, width: 1, height: 1 }));
  const large = choices.filter((each) => isAtLeast(each, least));
  const usable = large.length ? large : choices;
  const best = Math.max(...usable.map(({ size }) => size));
  const near = usable.filter(({ size }) => size >= best * NEARLY_LARGEST);
  /** @type {(one: typeof choices[0], other: typeof choices[0]) => typeof choices[0]} */
  const fuller = (one, other) => (other.use > one.use + 1 ? other : one);
  const first = near.reduce(fuller);
  const isGood = first.use >= GOOD_USE * space.width * space.height;
  const { columns, rows, width, height } = isGood ? first : usable.filter(({ size }) => size >= best * STILL_LARGE).reduce(fuller);
  const top = (space.height - rows * height - (rows - 1) * GAP) / 2;
  return Array.from({ length: count }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const start = (space.width - inRow * width - (inRow - 1) * GAP) / 2;
    return { x: start + (at % columns) * (width + GAP), y: top + row * (height + GAP), width, height };
  });
}
