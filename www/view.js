// Reports the size at which the page shows each video, so that the server sends none that is not visible. The reports
// name participants, not m-lines: with fewer seats than participants (last-N), they also say which ones are visible.

// A page that is hidden for less than this, in milliseconds, counts as visible.
const HIDDEN_AFTER = 3000;
// Changes within this time, in milliseconds, are reported together.
const SETTLED_AFTER = 200;

export class View {
  // send(message) returns false if there is no connection.
  constructor(send) {
    this.send = send;
    this.elements = new Map(); // "id source" -> the tile that shows it
    this.seen = new Map(); // tile -> whether any part of it is in the viewport
    this.told = new Map(); // "id source" -> the last report, as JSON
    this.away = false;
    this.observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) this.seen.set(target, isIntersecting);
      this.soon();
    });
    this.sizes = new ResizeObserver(() => this.soon());
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.leaving);
      if (!document.hidden) return this.setAway(false);
      this.leaving = setTimeout(() => this.setAway(!document.pictureInPictureElement), HIDDEN_AFTER);
    });
  }

  // elements: "id source" -> the tile that shows it, with or without video.
  show(elements) {
    const shown = new Set(elements.values());
    for (const element of this.seen.keys()) {
      if (shown.has(element)) continue;
      this.observer.unobserve(element);
      this.sizes.unobserve(element);
      this.seen.delete(element);
    }
    for (const key of this.told.keys()) if (!elements.has(key)) this.told.delete(key);
    for (const element of shown) {
      if (this.seen.has(element)) continue;
      this.seen.set(element, true);
      this.observer.observe(element);
      this.sizes.observe(element);
    }
    this.elements = new Map(elements);
    this.soon();
  }

  // Makes the next report complete, for a new media connection.
  forget() {
    this.told.clear();
  }

  setAway(away) {
    this.away = away;
    this.tell();
  }

  soon() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tell(), SETTLED_AFTER);
  }

  tell() {
    const views = [];
    for (const [key, element] of this.elements) {
      const [id, source] = key.split(' ');
      const { width, height } = element.getBoundingClientRect();
      const isSeen = !this.away && this.seen.get(element);
      const pixels = (length) => (isSeen ? Math.round(length * devicePixelRatio) : 0);
      // With last-N, priorities of 2 and higher give participants a seat right after those who speak.
      const priority = element.matches('.screen, .pinned') ? 2 : 1;
      const view = { id, source, width: pixels(width), height: pixels(height), priority };
      const words = JSON.stringify(view);
      if (this.told.get(key) !== words) views.push([key, words, view]);
    }
    if (!views.length || !this.send({ event: 'view', views: views.map(([, , view]) => view) })) return;
    for (const [key, words] of views) this.told.set(key, words);
  }
}
