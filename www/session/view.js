// Reports the size at which the page shows each video, so that the server sends none that is not visible. The reports
// name participants, not m-lines: with fewer seats than participants (last-N), they also say which ones are visible.

/** @typedef {{ width: number, height: number, priority: number }} Shown in device pixels */

// A page that is hidden for less than this, in milliseconds, counts as visible.
const HIDDEN_AFTER = 3000;
// Changes within this time, in milliseconds, are reported together.
const SETTLED_AFTER = 200;

export class View {
  /** @type {ReadonlyMap<string, Shown>} */
  shown = new Map(); // by "id source"
  /** @type {Map<string, string>} */
  told = new Map(); // "id source" -> the last report, as JSON
  away = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  settling = undefined;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  leaving = undefined;

  /** @param {(message: import('../room.js').Message) => boolean} send returns whether there is a connection */
  constructor(send) {
    this.send = send;
  }

  /** @param {ReadonlyMap<string, Shown>} shown all pictures; the size of one that is not visible is 0 x 0 */
  show(shown) {
    for (const key of this.told.keys()) if (!shown.has(key)) this.told.delete(key);
    this.shown = shown;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tell(), SETTLED_AFTER);
  }

  /** Makes the next report complete, for a new media connection. */
  forget() {
    this.told.clear();
  }

  /** The page is hidden or visible. @param {boolean} hidden */
  hide(hidden) {
    clearTimeout(this.leaving);
    if (!hidden) return this.setAway(false);
    this.leaving = setTimeout(() => this.setAway(true), HIDDEN_AFTER);
  }

  close() {
    clearTimeout(this.settling);
    clearTimeout(this.leaving);
  }

  /** @param {boolean} away */
  setAway(away) {
    this.away = away;
    this.tell();
  }

  tell() {
    /** @type {Map<string, string>} */
    const news = new Map();
    const views = [];
    for (const [key, { width, height, priority }] of this.shown) {
      const [id, source] = key.split(' ');
      const size = this.away ? { width: 0, height: 0 } : { width: Math.round(width), height: Math.round(height) };
      const view = { id, source, ...size, priority };
      const words = JSON.stringify(view);
      if (this.told.get(key) === words) continue;
      news.set(key, words);
      views.push(view);
    }
    if (!views.length || !this.send({ event: 'view', views })) return;
    for (const [key, words] of news) this.told.set(key, words);
  }
}
