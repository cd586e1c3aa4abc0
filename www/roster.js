// The list of people: raised hands first, in their order, then by name. Speakers are marked but do not move, so that
// no click hits the wrong row.

/** @typedef {import('./tiles.js').TileModel} TileModel */
/** @typedef {{ key: string, id: string, name: string, own: boolean, hand: number, speaking: boolean, silent: boolean, lost: boolean, moderator: boolean }} Entry */

/**
 * @param {readonly TileModel[]} models @param {import('./room.js').Room} room
 * @param {{ search: string, language: string, guest: string }} how `guest` stands for a name that is missing
 * @returns {Entry[]}
 */
export function roster(models, room, { search, language, guest }) {
  const wanted = fold(search.trim(), language);
  const entries = models.filter(({ source }) => source === 'camera').map((model) => {
    const { key, id, own, hand, speaking, silent, lost } = model;
    const moderator = own ? room.me?.rights.moderate ?? false : room.people.get(id)?.moderator ?? false;
    return { key, id, name: model.name || guest, own, hand, speaking: speaking && !silent, silent, lost, moderator };
  });
  const compare = new Intl.Collator(language, { numeric: true }).compare;
  const place = (/** @type {Entry} */ { hand }) => hand || Infinity;
  return entries.filter(({ name }) => fold(name, language).includes(wanted))
    .sort((one, other) => (place(one) === place(other) ? compare(one.name, other.name) : place(one) - place(other)));
}

/** For comparison: without case and accents. @param {string} text @param {string} language */
const fold = (text, language) => text.normalize('NFD').replace(/\p{M}/gu, '').toLocaleLowerCase(language);
