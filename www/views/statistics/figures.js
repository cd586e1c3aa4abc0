// Figures as the language writes them.

import { number } from '../../words/index.js';

/** A bitrate. @param {number} bps */
export function bits(bps) {
  const [value, unit] = bps >= 1e6 ? [bps / 1e6, 'megabit-per-second'] : [Math.round(bps / 1000), 'kilobit-per-second'];
  return number(value, { style: 'unit', unit, maximumFractionDigits: 1 });
}

/** A time in seconds. @param {number | null | undefined} seconds */
export function milliseconds(seconds) {
  return seconds === null || seconds === undefined ? '' : number(Math.round(seconds * 1000), { style: 'unit', unit: 'millisecond' });
}

/** @param {number} value from 0 to 1 */
export const share = (value) => number(value, { style: 'percent', maximumFractionDigits: 1 });

/** Latin text within any script keeps its order. @param {string} text */
export const alone = (text) => `\u2066${text}\u2069`;

/** Stays in one piece and in its order, whatever the direction of the script. @param {number} width @param {number} height */
export const size = (width, height) => alone(`${width}\u00a0×\u00a0${height}`);
