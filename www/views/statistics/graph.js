// A graph of the last minute.

import { curve } from '../../session/statistics.js';
import { effect } from '../../store.js';
import { h } from '../dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [300, 48];
/** The least that fills the height, in bits per second: less is drawn as less. */
const LEAST = 100_000;

/** @param {() => string} title @param {() => string} value @param {() => { at: number, value: number }[]} points */
export function graph(title, value, points) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true'); // the figure beside the title says it
  const [area, line] = ['area', 'line'].map((name) => {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', name);
    svg.append(path);
    return path;
  });
  effect(() => {
    const shown = points();
    const most = Math.max(LEAST, ...shown.map((point) => point.value));
    const path = curve(shown, { width: WIDTH, height: HEIGHT, most, now: performance.now() });
    line.setAttribute('d', path);
    const start = /^M([\d.-]+)/.exec(path)?.[1];
    const end = path.slice(path.lastIndexOf('L') + 1).split(' ')[0];
    area.setAttribute('d', path && `${path}L${end} ${HEIGHT}L${start} ${HEIGHT}z`);
  });
  return h('div', { class: 'graph' }, h('p', null, h('span', null, title), h('strong', null, value)), svg);
}
