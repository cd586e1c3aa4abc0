// Offers a device that was plugged in during the visit.

import { dismiss, notify } from '../notices.js';
import { cameras, listDevices, microphones, newcomers, speakers } from './list.js';
import { canChooseSpeaker, chooseSpeaker } from './options.js';

/** @typedef {import('./local.js').Local} Local */
/** @typedef {import('./list.js').Device} Device */

const lists = () => ({ microphone: microphones.peek(), camera: cameras.peek(), speaker: speakers.peek() });

/** The set of devices has changed. @param {Local | null} local */
export async function followDevices(local) {
  const before = lists();
  await listDevices();
  const after = lists();
  const [microphone] = newcomers(before.microphone, after.microphone);
  const [camera] = newcomers(before.camera, after.camera);
  const speaker = canChooseSpeaker() ? newcomers(before.speaker, after.speaker).find(({ group }) => !microphone || group === microphone.group) : undefined;
  const found = microphone ?? speaker ?? camera;
  const isThere = offered && [...after.microphone, ...after.camera, ...after.speaker].some(({ id }) => id === offered?.id);
  if (offered && !isThere) dismiss('plugged');
  if (!found || !local || local.closed || found.label === inUse(local, found === camera)) return;
  offered = found;
  const use = () => {
    dismiss('plugged');
    if (microphone) take(local, 'microphone', microphone);
    if (speaker) chooseSpeaker(speaker.id);
    if (found === camera) take(local, 'camera', camera);
  };
  notify({
    id: 'plugged', kind: 'plain', icon: found === camera ? 'camera' : found === speaker ? 'volume' : 'mic',
    words: { key: 'device.plugged', params: { name: found.label } }, actions: [{ words: { key: 'device.use' }, run: use }], closes: true,
  });
}

/** @type {Device | null} */
let offered = null;

/** @param {Local} local @param {boolean} isCamera */
function inUse(local, isCamera) {
  const { camera, audio } = local.state.peek();
  return (isCamera ? camera : audio)?.label;
}

/** A device that nobody had is opened, too. @param {Local} local @param {import('./local.js').DeviceName} source @param {Device} device */
async function take(local, source, device) {
  const isMissing = local.problem.peek()?.cause === 'missing' && !inUse(local, source === 'camera');
  await local.choose(source, device.id);
  if (isMissing) await local.acquire(source);
}
