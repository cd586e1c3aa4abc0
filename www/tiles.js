// The tiles: the grid has one for each participant, the stage larger ones for shared screens and a pinned participant.

import { icon, setIcon } from './icons.js';

// The smallest width of a tile, in CSS pixels. A face is not recognizable in less, so the grid scrolls instead.
const NARROWEST = 132;
const GAP = 10;

// Tracks that have shown a participant. If an m-line then carries another participant's track, frames that arrive
// within IN_FLIGHT_MS may still show the previous one.
const SHOWN = new WeakSet();
const IN_FLIGHT_MS = 100;

// Looks of `pulse.js` without a new frame after which a picture counts as frozen.
const FROZEN_LOOKS = 3;

// An element is resumed at most RESUMES times within RESUMES_MS. After that the user gets a button.
const RESUMES = 5;
const RESUMES_MS = 5000;

// The values of `limit` in `quality` that the tile shows: `title` as a tooltip on the mark, `words` on a tile without
// video. `after` delays both by so many milliseconds, if the limit is usual for a moment.
const SLOW = {
  bandwidth: {
    title: 'Your connection is too slow for a sharper picture',
    words: 'Your connection is too slow for this picture.',
  },
  server: {
    title: 'The server has too much to do for a sharper picture',
    words: 'The server has too much to do for this picture.',
  },
  keyframe: {
    title: 'No picture has come yet with which the video, or a sharper one, can start',
    words: 'Waiting for a picture with which the video can start.',
    after: 3000,
  },
  oversized: {
    title: 'Parts of this video come in packets that are too large to be forwarded',
    words: 'This video comes in packets that are too large to be forwarded.',
  },
};

export class Tiles {
  // root contains #stage and #grid. blocked(): the browser plays no sound before a click; changed(): another tile is
  // pinned; moderate(action, id): this moderator's action on a participant.
  constructor(root, { blocked, changed, moderate }) {
    this.root = root;
    this.moderate = moderate;
    this.stage = root.querySelector('#stage');
    this.grid = root.querySelector('#grid');
    this.blocked = blocked;
    this.changed = changed;
    this.lastN = 0; // how many other participants the server sends at once (last-N); 0 for all
    this.pinned = null; // participant id
    this.people = new Map(); // participant id -> Tile
    this.screens = new Map(); // participant id -> Tile
    this.own = null;
    this.ownScreen = null;
    new ResizeObserver(() => this.layout()).observe(root);
  }

  open(name) {
    this.own = new Tile({ name, own: true });
    this.grid.append(this.own.element);
    this.layout();
  }

  close() {
    for (const tile of [...this.people.values(), ...this.screens.values(), this.own, this.ownScreen]) tile?.remove();
    this.people.clear();
    this.screens.clear();
    this.own = this.ownScreen = this.pinned = null;
  }

  // Shows exactly these participants. Tiles that exist already are kept.
  setPeople(people) {
    for (const id of [...this.people.keys()]) if (!people.has(id)) this.remove(id);
    for (const person of people.values()) this.add(person);
    this.layout();
  }

  add({ id, name }) {
    const known = this.people.get(id);
    if (known) {
      known.note('');
      return known.rename(name);
    }
    const pin = () => this.pin(this.pinned === id ? null : id);
    const tile = new Tile({ id, name, blocked: this.blocked, pin, moderate: (action) => this.moderate(action, id) });
    this.people.set(id, tile);
    this.grid.insertBefore(tile.element, this.own?.element ?? null);
    this.layout();
  }

  // Pins one participant, beside the shared screens, instead of the one pinned before; null for none.
  pin(id) {
    const focused = document.activeElement;
    const before = this.people.get(this.pinned);
    this.pinned = this.people.has(id) ? id : null;
    const tile = this.people.get(this.pinned);
    if (before) this.grid.insertBefore(before.element, this.own?.element ?? null);
    if (tile) this.stage.append(tile.element);
    before?.setPinned(false);
    tile?.setPinned(true);
    this.layout();
    focused?.focus(); // moving an element takes its focus away, and it cannot have it while the stage is hidden
    this.changed();
  }

  remove(id) {
    if (this.pinned === id) this.pinned = null;
    for (const tiles of [this.people, this.screens]) {
      tiles.get(id)?.remove();
      tiles.delete(id);
    }
    this.layout();
  }

  // lines: the entries of `tracks` for the other participants, each with the receiver's track.
  // people: participant id -> { name, muted: Set of sources }.
  // away: the state of the microphones is unknown, as while reconnecting.
  show(lines, people, away = false) {
    const carries = new Map(); // "id source kind" -> track
    for (const { id, source, kind, muted, track } of lines) {
      const silent = people.get(id)?.muted.has(source) ?? muted;
      if (track && !(silent && kind === 'video')) carries.set(`${id} ${source} ${kind}`, track);
    }
    const shares = new Set(lines.filter(({ source, kind, id }) => source === 'screen' && kind === 'video' && people.has(id)).map(({ id }) => id));
    for (const id of [...this.screens.keys()]) {
      if (shares.has(id)) continue;
      this.screens.get(id).remove();
      this.screens.delete(id);
    }
    for (const id of shares) {
      if (this.screens.has(id)) continue;
      const tile = new Tile({ id, name: people.get(id).name, screen: true, blocked: this.blocked });
      this.screens.set(id, tile);
      this.stage.append(tile.element);
    }
    // All tiles give up the tracks they lose before any tile gets a new one.
    const wanted = [];
    for (const [source, tiles] of [['camera', this.people], ['screen', this.screens]]) {
      for (const [id, tile] of tiles) {
        const sound = source === 'camera' ? 'microphone' : 'screen';
        wanted.push([tile, carries.get(`${id} ${sound} audio`) ?? null, carries.get(`${id} ${source} video`) ?? null]);
      }
    }
    for (const [tile, audio, video] of wanted) tile.keepOnly(audio, video);
    for (const [tile, audio, video] of wanted) tile.setTracks(audio, video);
    const sent = new Set(lines.map((line) => line.id));
    for (const [id, tile] of this.people) {
      const speaks = lines.some((line) => line.id === id && line.source === 'microphone');
      // A missing microphone does not mean that it is off while reconnecting, nor for a participant without a seat.
      const isUnknown = away || (this.lastN > 0 && sent.size >= this.lastN && !sent.has(id));
      tile.setSilent((!speaks && !isUnknown) || people.get(id).muted.has('microphone'));
    }
    this.layout();
  }

  // The tiles of the other participants, by "id source".
  shown() {
    const shown = new Map();
    for (const [id, tile] of this.people) shown.set(`${id} camera`, tile.element);
    for (const [id, tile] of this.screens) shown.set(`${id} screen`, tile.element);
    return shown;
  }

  // ids: the participants who speak now; own: whether this one does.
  setSpeaking(ids, own) {
    for (const [id, tile] of this.people) tile.element.classList.toggle('speaking', ids.has(id));
    this.own?.element.classList.toggle('speaking', own);
  }

  showOwn(camera, screen, silent) {
    this.own?.setTracks(null, camera);
    this.own?.setSilent(silent);
    if (screen && !this.ownScreen) {
      this.ownScreen = new Tile({ name: 'Your screen', own: true, screen: true });
      this.stage.append(this.ownScreen.element);
    } else if (!screen) {
      this.ownScreen?.remove();
      this.ownScreen = null;
    }
    this.ownScreen?.setTracks(null, screen);
    this.layout();
  }

  // Shows a text on a tile, for example that this browser cannot decode the participant's video.
  note(id, source, words) {
    const tile = (source === 'screen' && this.screens.get(id)) || this.people.get(id);
    tile?.note(words);
  }

  // sent: whether the server sends the video; limit: what prevents a better quality.
  setQuality(id, source, sent, limit) {
    const tile = (source === 'screen' ? this.screens : this.people).get(id);
    tile?.setSlow(SLOW[limit], sent);
  }

  // Marks videos without new frames as frozen. isSilent: no packets arrive at all; only then is a still screen frozen.
  markFrozen(isSilent) {
    if (document.hidden) return;
    for (const tile of [...this.people.values(), ...this.screens.values()]) tile.markFrozen(isSilent);
  }

  // Resumes what was paused from outside the page.
  resume() {
    for (const tile of [...this.people.values(), ...this.screens.values(), this.own, this.ownScreen]) tile?.resume();
  }

  // Turns the sound on, which the browser allows only after a click.
  hear() {
    for (const tile of [...this.people.values(), ...this.screens.values()]) tile.hear();
  }

  layout() {
    const screens = this.stage.childElementCount;
    const people = this.grid.childElementCount;
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!people || !width || !height) return;
    this.stage.hidden = !screens;
    this.root.classList.toggle('staged', screens > 0);
    if (!screens) return fit(this.grid, people, width, height, width < height ? 0.9 : 4 / 3);
    const beside = width > height;
    this.root.classList.toggle('beside', beside);
    // The participants get a strip, wide enough to recognize faces and narrow enough to keep the screen readable.
    if (beside) {
      const strip = Math.min(280, Math.max(150, width * 0.2));
      fit(this.stage, screens, width - strip - GAP, height, 16 / 10);
      fit(this.grid, people, strip, height, 16 / 9);
    } else {
      // In a portrait window a shared screen has the window's width, and needs only the height that goes with it.
      const h = Math.min(height * 0.65, screens * width * 10 / 16);
      fit(this.stage, screens, width, h, 16 / 10);
      fit(this.grid, people, width, height - h - GAP, 4 / 3);
    }
  }
}

// Sets the largest size at which n tiles fit into the box. Their ratio of width to height is between `tallest` and
// 16:9: in this range faces are cropped little and the box is filled well.
function fit(box, n, width, height, tallest) {
  let best = { w: 0, h: 0, area: 0 };
  for (let columns = 1; columns <= n; columns++) {
    const rows = Math.ceil(n / columns);
    let w = (width - GAP * (columns - 1)) / columns;
    let h = (height - GAP * (rows - 1)) / rows;
    if (w < 1 || h < 1) continue;
    if (w / h > 16 / 9) w = h * 16 / 9;
    if (w / h < tallest) h = w / tallest;
    if (w * h > best.area) best = { w, h, area: w * h };
  }
  const scrolls = best.w < Math.min(NARROWEST, width);
  if (scrolls) {
    const columns = Math.max(1, Math.floor((width + GAP) / (NARROWEST + GAP)));
    best.w = (width - GAP * (columns - 1)) / columns;
    best.h = best.w * 9 / 16;
  }
  box.classList.toggle('scrolls', scrolls);
  box.style.width = `${Math.floor(width)}px`;
  box.style.height = `${Math.floor(height)}px`;
  box.style.setProperty('--tile-width', `${Math.floor(best.w)}px`);
  box.style.setProperty('--tile-height', `${Math.floor(best.h)}px`);
}

class Tile {
  audio = null;
  video = null;
  stream = null;
  silent = false;

  constructor({ id, name, own = false, screen = false, blocked = () => {}, pin = null, moderate = null }) {
    this.isOwn = own;
    this.isScreen = screen;
    this.blocked = blocked;
    const element = this.element = document.createElement('article');
    element.className = 'tile' + (screen ? ' screen' : '') + (own ? (screen ? ' own' : ' self') : '');
    if (id) element.dataset[screen ? 'screenOf' : 'id'] = id;

    this.face = document.createElement('div');
    this.face.className = 'face';
    this.face.setAttribute('aria-hidden', 'true');
    this.picture = document.createElement('video');
    this.picture.autoplay = true;
    this.picture.playsInline = true;
    this.picture.muted = own;
    // A headset's key, the end of picture-in-picture or the system may pause it, and a tile has no play button.
    this.picture.onpause = () => this.resume();
    this.resumes = [];
    this.label = document.createElement('div');
    this.label.className = 'label';
    this.nameText = document.createElement('span');
    this.nameText.className = 'name';
    this.label.append(this.nameText);
    this.noteText = document.createElement('p');
    this.noteText.className = 'note';
    this.noteText.hidden = true;
    element.append(this.picture, this.face, this.noteText, this.label);

    if (screen && element.requestFullscreen) {
      const full = () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen());
      setWords(this.addButton('expand', full), 'Full screen');
    }
    if (pin) this.pinButton = this.addButton('pin', pin);
    if (moderate) {
      this.muteButton = this.addButton('mic-off', () => moderate('mute'));
      this.removeButton = this.addButton('remove', () => moderate('remove'));
      for (const button of [this.muteButton, this.removeButton]) button.classList.add('moderate');
    }
    this.rename(name);
  }

  addButton(shows, press) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'corner';
    setIcon(button, shows);
    button.onclick = press;
    this.element.append(button);
    return button;
  }

  setPinned(pinned) {
    this.element.classList.toggle('pinned', pinned);
    this.rename(this.name);
    if (this.stream) this.start(); // it was moved, which may stop the playback
  }

  rename(name) {
    this.name = name;
    this.element.dataset.name = name;
    const words = this.isOwn ? (this.isScreen ? name : `${name} (you)`) : this.isScreen ? `${name}’s screen` : name;
    this.nameText.textContent = words;
    this.setSilent(this.silent);
    // The label names the action of the next press.
    if (this.pinButton) setWords(this.pinButton, `${this.element.classList.contains('pinned') ? 'Unpin' : 'Pin'} ${name}`);
    if (this.muteButton) setWords(this.muteButton, `Turn off ${name}’s microphone`);
    if (this.removeButton) setWords(this.removeButton, `Remove ${name} from the room`);
    this.face.replaceChildren();
    if (this.isScreen) return this.face.append(icon('screen'));
    const circle = document.createElement('span');
    circle.textContent = initials(name);
    circle.style.setProperty('--hue', hue(name));
    this.face.append(circle);
  }

  setSilent(silent) {
    this.silent = silent;
    this.element.classList.toggle('silent', silent);
    const shown = this.label.querySelector(':scope > .icon');
    if (silent && !shown) this.label.prepend(icon('mic-off'));
    if (!silent) shown?.remove();
    const words = this.nameText.textContent;
    this.element.setAttribute('aria-label', silent ? `${words}, microphone off` : words);
  }

  note(words) {
    this.noteText.textContent = words;
    this.noteText.hidden = !words;
  }

  // slow: the entry of SLOW to show, or undefined; sent: whether the server sends the video at all.
  setSlow(slow, sent) {
    clearTimeout(this.slowTimer);
    if (slow?.after) this.slowTimer = setTimeout(() => this.showSlow(slow, sent), slow.after);
    this.showSlow(slow?.after ? null : slow, sent);
  }

  showSlow(slow, sent) {
    const shown = this.label.querySelector('.slow');
    if (slow && !shown) {
      const mark = document.createElement('span');
      mark.className = 'slow';
      mark.append(icon('slow'));
      this.label.append(mark);
    }
    if (!slow) shown?.remove();
    else this.label.querySelector('.slow').title = slow.title;
    const words = slow && !sent ? slow.words : '';
    const isOurs = Object.values(SLOW).some(({ words }) => words === this.noteText.textContent);
    if (words || isOurs) this.note(words);
  }

  keepOnly(audio, video) {
    this.setTracks(this.audio === audio ? audio : null, this.video === video ? video : null);
  }

  setTracks(audio, video) {
    if (this.audio === audio && this.video === video) return;
    if (this.video && this.video !== video) this.video.onmute = this.video.onunmute = null;
    if (!video) this.setSlow(null, true);
    this.audio = audio;
    this.video = video;
    if (video && !this.isOwn) video.onmute = video.onunmute = () => this.play();
    this.play();
  }

  // Audio and video go into one stream, so that one element plays both. Video is added only when its packets arrive
  // (`unmute`): Chromium holds back the audio of an element that waits for its first frame.
  play() {
    const picture = this.video && (this.isOwn || !this.video.muted) ? this.video : null;
    const tracks = [this.audio, picture].filter(Boolean);
    const had = this.stream?.getTracks() ?? [];
    if (tracks.length === had.length && tracks.every((track) => had.includes(track))) return;
    if (!picture || !had.includes(picture)) this.showPicture(picture);
    if (!tracks.length) {
      this.stream = this.picture.srcObject = null;
      return;
    }
    if (this.stream) {
      for (const track of had) if (!tracks.includes(track)) this.stream.removeTrack(track);
      for (const track of tracks) if (!had.includes(track)) this.stream.addTrack(track);
    } else {
      this.stream = this.picture.srcObject = new MediaStream(tracks);
    }
    this.start();
  }

  // Removes the placeholder with the first frame, not before: until then an element shows black, or the last frame of
  // the participant that its track showed before.
  showPicture(track) {
    this.element.classList.remove('has-video');
    this.awaited = track;
    this.setFrozen(false);
    this.still = 0;
    if (!track) return;
    const from = SHOWN.has(track) ? performance.now() + IN_FLIGHT_MS : 0;
    SHOWN.add(track);
    const { picture } = this;
    const shown = (now, { receiveTime = now } = {}) => {
      if (this.awaited !== track) return;
      if (receiveTime < from) return picture.requestVideoFrameCallback(shown);
      this.element.classList.add('has-video');
      this.note('');
    };
    if (picture.requestVideoFrameCallback) picture.requestVideoFrameCallback(shown);
    else picture.addEventListener('timeupdate', () => shown(Infinity), { once: true });
  }

  markFrozen(isSilent) {
    const frames = this.picture.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
    this.still = frames === this.frames ? (this.still ?? 0) + 1 : 0;
    this.frames = frames;
    const isShown = this.element.classList.contains('has-video');
    this.setFrozen(isShown && this.still >= FROZEN_LOOKS && (isSilent || !this.isScreen));
  }

  setFrozen(frozen) {
    if (this.element.classList.contains('frozen') === frozen) return;
    this.element.classList.toggle('frozen', frozen);
    this.stall?.remove();
    this.stall = null;
    if (!frozen) return;
    this.stall = document.createElement('p');
    this.stall.className = 'stall';
    this.stall.textContent = 'Picture frozen';
    this.element.append(this.stall);
  }

  resume() {
    if (!this.stream || !this.picture.paused || !this.element.isConnected || document.hidden) return;
    const now = performance.now();
    this.resumes = this.resumes.filter((at) => now - at < RESUMES_MS);
    if (this.resumes.length >= RESUMES) return this.blocked();
    this.resumes.push(now);
    this.start();
  }

  start() {
    this.picture.play().catch((error) => {
      if (error.name !== 'NotAllowedError' || this.picture.muted) return;
      // The browser plays no sound before a click, but it plays the video alone.
      this.picture.muted = true;
      this.picture.play().catch(() => {});
      this.blocked();
    });
  }

  hear() {
    if (this.isOwn) return;
    this.picture.muted = false;
    this.picture.play().catch(() => {});
  }

  remove() {
    this.setTracks(null, null);
    this.element.remove();
  }
}

function setWords(button, words) {
  button.title = words;
  button.setAttribute('aria-label', words);
}

function initials(name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0]).join('').toUpperCase() || '?';
}

// The same name has the same color everywhere and always.
function hue(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 36_007;
  return hash % 360;
}
