// What the page shows of the others' pictures. The server is told, of each person and not of the line that carries
// them: it sends no video that nobody looks at, and where there are fewer lines than people it knows who is in sight.

// A page that is put aside for a moment goes on as it was.
const HIDDEN_AFTER = 3000;
const SETTLED_AFTER = 200;

export class View {
  // send(message): false if there is nobody to tell.
  constructor(send) {
    this.send = send;
    this.elements = new Map(); // "id source" -> the tile that shows it
    this.seen = new Map(); // tile -> whether any of it is within the window
    this.told = new Map(); // "id source" -> what the server knows
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

  // elements: "id source" -> the tile that shows it, with or without a picture.
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

  // Another connection knows nothing yet.
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
      // Who is not among those that are sent comes for 2 and more.
      const priority = element.matches('.screen, .pinned') ? 2 : 1;
      const view = { id, source, width: pixels(width), height: pixels(height), priority };
      const words = JSON.stringify(view);
      if (this.told.get(key) !== words) views.push([key, words, view]);
    }
    if (!views.length || !this.send({ event: 'view', views: views.map(([, , view]) => view) })) return;
    for (const [key, words] of views) this.told.set(key, words);
  }
}
