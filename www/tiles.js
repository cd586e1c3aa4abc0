// What each picture of the call shows, from the state of the room: a pure step between messages and tiles.

import { key } from './room.js';

/**
 * @typedef {{
 *   key: string, id: string, source: 'camera' | 'screen', own: boolean, name: string,
 *   audio: MediaStreamTrack | null, video: MediaStreamTrack | null,
 *   silent: boolean, speaking: boolean, lost: boolean, undecodable: boolean, hand: number, reaction: { emoji: string } | null,
 *   quality: import('./room.js').Quality | null, volume: number, unwatched: boolean,
 * }} TileModel `volume` is in percent; `unwatched`: there is a video, which this person does not want to see; `hand` is the place in the queue from 1, or 0
 * @typedef {{
 *   room: import('./room.js').Room, lines: readonly import('./session/call.js').Received[],
 *   camera: MediaStreamTrack | null, microphone: boolean, away: boolean,
 *   volumes?: ReadonlyMap<string, number>, unwatched?: ReadonlySet<string>,
 * }} Seen `away`: the state of the microphones is unknown, as while reconnecting
 */

/** The pictures of all participants, then of the shared screens, then the own one. @param {Seen} seen @returns {TileModel[]} */
export function tileModels({ room, lines, camera, microphone, away, volumes = new Map(), unwatched = new Set() }) {
  const { me, people, limits } = room;
  if (!me) return [];
  const { rights } = me;
  /** @type {Map<string, MediaStreamTrack>} */
  const carries = new Map(); // "id source kind" -> track
  for (const { id, source, kind, muted, track } of lines) {
    const silent = people.get(id)?.muted.has(source) ?? muted;
    if (track && !(silent && kind === 'video')) carries.set(`${key(id, source)} ${kind}`, track);
  }
  const speaking = new Set(rights.subscribe ? room.speaking : []);
  const sent = new Set(lines.map(({ id }) => id));
  const spoken = new Set(lines.filter(({ source }) => source === 'microphone').map(({ id }) => id));
  const isBlind = away || !rights.subscribe;
  /** @type {(id: string, source: 'camera' | 'screen', audio: string) => Pick<TileModel, 'key' | 'id' | 'source' | 'own' | 'audio' | 'video' | 'undecodable' | 'quality' | 'volume' | 'unwatched'>} */
  const picture = (id, source, audio) => {
    const of = key(id, source);
    const sent = carries.get(`${of} video`) ?? null;
    const isUnwatched = Boolean(sent && unwatched.has(of));
    const video = isUnwatched ? null : sent;
    const [undecodable, quality] = [room.undecodable.has(of), (video && room.quality.get(of)) ?? null];
    const heard = carries.get(`${key(id, audio)} audio`) ?? null;
    return { key: of, id, source, own: false, audio: heard, video, undecodable, quality, volume: volumes.get(of) ?? 100, unwatched: isUnwatched };
  };
  const gestures = (/** @type {string} */ id) => ({ hand: room.hands.indexOf(id) + 1, reaction: room.reactions.get(id) ?? null });
  const faces = [...people.values()].map(({ id, name, muted, media }) => {
    // A missing microphone does not mean that it is off while reconnecting, nor for a participant without a seat.
    const isUnknown = isBlind || (limits.last_n > 0 && sent.size >= limits.last_n && !sent.has(id));
    const silent = (!spoken.has(id) && !isUnknown) || muted.has('microphone');
    return { ...picture(id, 'camera', 'microphone'), name, silent, speaking: speaking.has(id), lost: media === 'lost', ...gestures(id) };
  });
  const screens = sharers(room, lines).map((id) => (
    { ...picture(id, 'screen', 'screen'), name: people.get(id)?.name ?? '', silent: false, speaking: false, lost: false, hand: 0, reaction: null }));
  const own = {
    key: key(me.id, 'camera'), id: me.id, source: /** @type {const} */ ('camera'), own: true, name: me.name, audio: null, video: camera,
    silent: !microphone && rights.publish, speaking: room.speaking.includes(me.id), lost: false, undecodable: false, quality: null, volume: 100, unwatched: false,
    ...gestures(me.id),
  };
  return [...faces, ...screens, own];
}

/** The participants who share a screen. @param {import('./room.js').Room} room @param {Seen['lines']} lines */
export function sharers({ people }, lines) {
  return lines.filter(({ id, source, kind }) => source === 'screen' && kind === 'video' && people.has(id)).map(({ id }) => id);
}

/** @param {TileModel} one @param {TileModel | undefined} other */
export function isSame(one, other) {
  if (!other) return false;
  for (const field of /** @type {(keyof TileModel)[]} */ (Object.keys(one))) if (!Object.is(one[field], other[field])) return false;
  return true;
}
