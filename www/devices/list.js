// The cameras, microphones and loudspeakers of this device, as far as the browser tells them.

import { signal } from '../store.js';

/** @typedef {{ id: string, label: string }} Device */

export const microphones = signal(/** @type {Device[]} */ ([]));
export const cameras = signal(/** @type {Device[]} */ ([]));
export const speakers = signal(/** @type {Device[]} */ ([]));

/** Lists the devices again. Without a permission browsers give no labels, and the lists are empty. */
export async function listDevices() {
  const all = await navigator.mediaDevices?.enumerateDevices?.().catch(() => []) ?? [];
  const of = (/** @type {string} */ kind) => all
    .filter((each) => each.kind === kind && each.label)
    .map(({ deviceId, label }) => ({ id: deviceId, label }));
  microphones.value = of('audioinput');
  cameras.value = of('videoinput');
  speakers.value = of('audiooutput');
}

/**
 * The device that was chosen: browsers change ids when they forget a permission, but not labels.
 * @param {readonly Device[]} devices @param {Device | null} chosen @returns {string | undefined} its id
 */
export function find(devices, chosen) {
  if (!chosen) return undefined;
  return (devices.find(({ id }) => id === chosen.id) ?? devices.find(({ label }) => label === chosen.label))?.id ?? chosen.id;
}
