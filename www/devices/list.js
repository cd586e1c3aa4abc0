// The cameras, microphones and loudspeakers of this device, as far as the browser tells them.

import { signal } from '../store.js';

/** @typedef {{ id: string, label: string, group?: string }} Device `group` is that of the parts of one device */

export const microphones = signal(/** @type {Device[]} */ ([]));
export const cameras = signal(/** @type {Device[]} */ ([]));
export const speakers = signal(/** @type {Device[]} */ ([]));

/** Lists the devices again. Without a permission browsers give no labels, and the lists are empty. */
export async function listDevices() {
  const all = await navigator.mediaDevices?.enumerateDevices?.().catch(() => []) ?? [];
  const of = (/** @type {string} */ kind) => all
    .filter((each) => each.kind === kind && each.label)
    .map(({ deviceId, label, groupId }) => ({ id: deviceId, label, group: groupId }));
  microphones.value = of('audioinput');
  cameras.value = of('videoinput');
  speakers.value = of('audiooutput');
}

/** The loudspeakers after that of the system. @param {string} label of the system's @returns {Device[]} */
export const withSystem = (label) => [{ id: '', label }, ...speakers.value.filter(({ id }) => id !== 'default')];

/**
 * The device that was chosen: browsers change ids when they forget a permission, but not labels.
 * @param {readonly Device[]} devices @param {Device | null} chosen @returns {string | undefined} its id
 */
export function find(devices, chosen) {
  if (!chosen) return undefined;
  return (devices.find(({ id }) => id === chosen.id) ?? devices.find(({ label }) => label === chosen.label))?.id ?? chosen.id;
}

/** Entries that stand for another device. */
const ALIASES = ['default', 'communications'];

/** The device after this one. @param {readonly Device[]} devices @param {string | undefined} id @returns {Device | undefined} */
export function nextOf(devices, id) {
  const next = devices[(devices.findIndex((each) => each.id === id) + 1) % devices.length];
  return next?.id === id ? undefined : next;
}

/**
 * Devices that were plugged in between two lists. An empty list is one that the browser did not tell yet.
 * @param {readonly Device[]} before @param {readonly Device[]} after
 */
export function newcomers(before, after) {
  if (!before.length) return [];
  const known = new Set(before.map(({ id }) => id));
  return after.filter(({ id }) => !known.has(id) && !ALIASES.includes(id));
}

/**
 * Whether one button switches between the cameras: on phones. Elsewhere the menu names them.
 * @param {{ cameras: number, facing: string | undefined, isTouch: boolean }} about
 */
export const canFlip = ({ cameras: count, facing, isTouch }) => count > 1 && (Boolean(facing) || isTouch);
