import { cornerAt, cornerTowards } from '../../www/views/tiles/corner.js';
import { equal, test } from './harness.mjs';

test('a dragged picture goes to the nearest corner', () => {
  const space = { width: 100, height: 60 };
  const at = (x, y, isMirrored = false) => cornerAt({ x, y }, space, isMirrored);
  equal([at(10, 10), at(90, 10), at(10, 50), at(90, 50)], ['top-start', 'top-end', 'bottom-start', 'bottom-end']);
  equal([at(10, 10, true), at(90, 50, true)], ['top-end', 'bottom-start'], 'from right to left');
});

test('arrow keys move it along the edges, and no further', () => {
  const go = (keys, isMirrored = false) => keys.split(' ').reduce((corner, key) => cornerTowards(corner, `Arrow${key}`, isMirrored) ?? `stays ${corner}`, 'bottom-end');
  equal([go('Left'), go('Up'), go('Left Up'), go('Left Up Right')], ['bottom-start', 'top-end', 'top-start', 'top-end']);
  equal([go('Right'), go('Down')], ['stays bottom-end', 'stays bottom-end']);
  equal([go('Right', true), go('Left', true)], ['bottom-start', 'stays bottom-end'], 'from right to left');
  equal(cornerTowards('bottom-end', 'Enter', false), null);
});
