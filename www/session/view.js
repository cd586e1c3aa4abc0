// Reports the size at which the page shows each video, so that the server sends none that is not visible. The reports
// name participants, not m-lines: with fewer seats than participants (last-N), they also say which ones are visible.

/** @typedef {{ width: number, height: number, priority: number }} Shown in device pixels */

// A page that is hidden for less than this, in milliseconds, counts as visible.
const HIDDEN_AFTER = 3000;
// Changes within this time, in milliseconds, are reported together.
const REPORT_AFTER = 200;

export class View {
  /** @type {ReadonlyMap<string, Shown>} */
  shown = new Map(); // by "id source"
  /** @type {Map<string, string>} */
  reported = new Map(); // "id source" -> the last report, as JSON
  away = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  reportTimer = undefined;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  hideTimer = undefined;

  /** @param {(message: import('../room.js').Message) => boolean} send returns whether there is a connection */
  constructor(send) {
    this.send = send;
  }

  /** @param {ReadonlyMap<string, Shown>} shown all pictures; the size of one that is not visible is 0 x 0 */
  show(shown) {
    for (const key of this.reported.keys()) if (!shown.has(key)) this.reported.delete(key);
    this.shown = shown;
    clearTimeout(this.reportTimer);
    this.reportTimer = setTimeout(() => this.report(), REPORT_AFTER);
  }

  /** Makes the next report complete, for a new media connection. */
  forget() {
    this.reported.clear();
  }

  /** The page is hidden or visible. @param {boolean} hidden */
  hide(hidden) {
    clearTimeout(this.hideTimer);
    if (!hidden) return this.setAway(false);
    this.hideTimer = setTimeout(() => this.setAway(true), HIDDEN_AFTER);
  }

  close() {
    clearTimeout(this.reportTimer);
    clearTimeout(this.hideTimer);
  }

  /** @param {boolean} away */
  setAway(away) {
    this.away = away;
    this.report();
  }

  report() {
    /** @type {Map<string, string>} */
    const news = new Map();
    const views = [];
    for (const [key, { width, height, priority }] of this.shown) {
      const [id, source] = key.split(' ');
      const size = this.away ? { width: 0, height: 0 } : { width: Math.round(width), height: Math.round(height) };
      const view = { id, source, ...size, priority };
      const text = JSON.stringify(view);
      if (this.reported.get(key) === text) continue;
      news.set(key, text);
      views.push(view);
    }
    if (!views.length || !this.send({ event: 'view', views })) return;
    for (const [key, text] of news) this.reported.set(key, text);
  }
}
