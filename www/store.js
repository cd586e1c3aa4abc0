// State that views follow: signals hold it, computed signals derive it, effects act on it.
//
// Effects run in a microtask after a change, each at most once for all changes before it. An effect that is created
// while another one runs, or within `scope`, ends with it.

/** @typedef {{ sources: Map<Source<any>, number>, stale: () => void }} Reader */

/** @type {Reader | null} */
let reader = null; // the effect or computed signal that runs now
/** @type {Set<() => void> | null} */
let owner = null; // collects functions that end what is created now
/** @type {Set<Effect>} */
const queue = new Set();
// More runs of effects in one flush mean that effects change each other's signals in a circle.
const MAX_RUNS = 10_000;

/** @template T */
class Source {
  version = 0;
  /** @type {Set<Reader>} */
  readers = new Set();

  /** @param {T} value */
  constructor(value) {
    this.held = value;
  }

  refresh() {}

  /** The value, without following it. */
  peek() {
    this.refresh();
    return this.held;
  }

  get value() {
    this.refresh();
    reader?.sources.set(this, this.version);
    if (reader) this.readers.add(reader);
    return this.held;
  }

  /** @param {T} value @returns {boolean} whether the value is another one */
  hold(value) {
    if (Object.is(this.held, value)) return false;
    this.held = value;
    this.version += 1;
    return true;
  }
}

/** @template T @extends {Source<T>} */
export class Signal extends Source {
  get value() {
    return super.value;
  }

  set value(value) {
    if (this.hold(value)) for (const each of [...this.readers]) each.stale();
  }
}

/** @template T @extends {Source<T>} */
class Computed extends Source {
  /** @type {Map<Source<any>, number>} */
  sources = new Map();
  isStale = true;

  /** @param {() => T} derive */
  constructor(derive) {
    super(/** @type {any} */ (undefined));
    this.derive = derive;
    owner?.add(() => forget(this));
  }

  stale() {
    if (this.isStale) return;
    this.isStale = true;
    for (const each of [...this.readers]) each.stale();
  }

  refresh() {
    if (!this.isStale) return;
    this.isStale = false;
    if (this.sources.size && !hasChanged(this)) return;
    this.hold(follow(this, this.derive));
  }
}

class Effect {
  /** @type {Map<Source<any>, number>} */
  sources = new Map();
  /** @type {Set<() => void>} */
  owned = new Set();
  ended = false;

  /** @param {() => void | (() => void)} act */
  constructor(act) {
    this.act = act;
    owner?.add(() => this.end());
    this.run();
  }

  stale() {
    if (!queue.size) queueMicrotask(flush);
    queue.add(this);
  }

  run() {
    endAll(this.owned);
    const outer = owner;
    owner = this.owned;
    try {
      const cleanup = follow(this, this.act);
      if (cleanup) this.owned.add(cleanup);
    } finally {
      owner = outer;
    }
  }

  end() {
    this.ended = true;
    queue.delete(this);
    forget(this);
    endAll(this.owned);
  }
}

/** @template T @param {T} value @returns {Signal<T>} */
export const signal = (value) => new Signal(value);

/** @template T @param {() => T} derive @returns {{ readonly value: T, peek(): T }} */
export const computed = (derive) => new Computed(derive);

/**
 * Runs `act` now and after each change of a signal that it read. A function that it returns is called before the next run.
 * @param {() => void | (() => void)} act @returns {() => void} ends the effect
 */
export function effect(act) {
  const made = new Effect(act);
  return () => made.end();
}

/** Runs `act` without following what it reads. @template T @param {() => T} act @returns {T} */
export function untracked(act) {
  const outer = reader;
  reader = null;
  try {
    return act();
  } finally {
    reader = outer;
  }
}

/**
 * Runs `act` and returns a function that ends all effects that it created.
 * @param {() => void} act @returns {() => void}
 */
export function scope(act) {
  const owned = new Set();
  const outer = owner;
  owner = owned;
  try {
    untracked(act);
  } finally {
    owner = outer;
  }
  const end = () => endAll(owned);
  owner?.add(end);
  return end;
}

/** Runs the effects that are due now instead of in a microtask. */
export function flush() {
  let runs = 0;
  for (const each of queue) {
    queue.delete(each);
    if (each.ended) continue;
    if ((runs += 1) > MAX_RUNS) throw new Error('effects change each other without end');
    try {
      if (hasChanged(each)) each.run();
    } catch (error) {
      (globalThis.reportError ?? console.error)(error); // the other effects run all the same
    }
  }
}

/** @param {Reader} which */
function hasChanged(which) {
  for (const [source, version] of which.sources) {
    source.refresh();
    if (source.version !== version) return true;
  }
  return false;
}

/** @template T @param {Reader} which @param {() => T} act @returns {T} */
function follow(which, act) {
  forget(which);
  const outer = reader;
  reader = which;
  try {
    return act();
  } finally {
    reader = outer;
  }
}

/** @param {Reader} which */
function forget(which) {
  for (const source of which.sources.keys()) source.readers.delete(which);
  which.sources.clear();
}

/** @param {Set<() => void>} owned */
function endAll(owned) {
  for (const end of [...owned]) {
    owned.delete(end);
    end();
  }
}
