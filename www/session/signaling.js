// The WebSocket to the server, and its reconnects after the network or the server was unavailable.
//
// One Signaling is one stay in one room: it lasts across reconnects and ends with `leave`, or with a refusal that a
// retry would not change.

/** @typedef {import('../words/index.js').Words} Words */
/** @typedef {import('../room.js').Message} Message */
/** @typedef {{ words: Words, attempt: number, delay: number }} Loss `delay` is in milliseconds until the next attempt */
/**
 * @typedef {{
 *   message: (message: Message) => void,
 *   lost: (loss: Loss) => void,
 *   refused: (words: Words, code: string) => void,
 * }} Listener
 */

// The backoff doubles from the first value to the last. A lower first value would flood a server that restarts; a
// higher last one would keep users waiting for a server that is back.
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 15_000;

// The time limit of an upgrade: some proxies never answer it, and the browser's own limit is minutes.
const UPGRADE_TIMEOUT_MS = 10_000;

// A longer Retry-After is shortened to this: no user waits longer.
const RETRY_AFTER_MAX_MS = 60_000;

// Clients spread their reconnects after `closing` over this time. With less, they would all reach a server at once
// that has just started; with more, users would wait longer.
const CLOSING_SPREAD_MS = 1500;

// The time that a server is assumed to take to restart.
const RESTART_MS = 1000;

// Codes of a refused answer: all that a user can do is to join again.
const ANSWER_REFUSED = ['bad-answer', 'unsupported-answer', 'unexpected-answer'];

// Codes of a close that a person caused. Their messages need no introduction, as the server's other reasons do.
const CAUSED_BY_PERSON = ['replaced', 'removed', 'not-admitted', 'ended'];

export class Signaling {
  /** @type {WebSocket | null} */
  socket = null;
  /** @type {ReturnType<typeof setTimeout> | null} */
  timer = null;
  /** @type {string | null} */
  resume = null;
  attempt = 0;
  planned = false; // `closing` has set the timer, which `online` must not cut short
  due = 0;
  ended = false;
  /** @type {Message | null} */
  lastError = null;
  checkRequest = {}; // the latest request to `check`; responses to earlier ones are ignored
  attemptId = ''; // identifies the upgrade in a later request to `check`

  /**
   * @param {{ room: string, name: string, token: string | null }} query
   * @param {Listener} on
   * @param {string} page the page's URL
   */
  constructor(query, on, page) {
    this.query = query;
    this.on = on;
    this.page = new URL(page);
    this.home = this.base = new URL('websocket', this.page);
    this.connect();
  }

  /** @param {Message} message @returns {boolean} whether there is a connection */
  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /**
   * Called when the call works. Opening the WebSocket is not enough: a connection that always closes
   * right after that would be retried at the shortest interval without end.
   */
  resetBackoff() {
    this.attempt = 0;
  }

  /** Retries at once instead of after the backoff, for example when the network is back or the user asks for it. */
  retryNow() {
    if (this.timer && !this.planned) this.connect();
  }

  /** Leaves the room. Without `leave`, the server would keep the participant for 30 s, for a reconnect. */
  leave() {
    this.send({ event: 'leave' });
    this.drop();
    this.ended = true;
  }

  connect() {
    this.drop();
    this.lastError = null;
    this.attemptId = Math.random().toString(36).slice(2);
    const socket = this.socket = new WebSocket(this.url('websocket'));
    let opened = false;
    this.timer = setTimeout(() => this.onFailedUpgrade(), UPGRADE_TIMEOUT_MS);
    // Each handler ignores a socket that is not the current one: dropped sockets may still fire events.
    socket.onopen = () => {
      if (socket !== this.socket) return;
      opened = true;
      this.clearTimer();
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.onMessage(data);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      if (opened) this.onClose(event);
      else this.onFailedUpgrade();
    };
  }

  /** @param {string} data */
  onMessage(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return console.warn('not JSON', data);
    }
    if (message.event === 'welcome') this.resume = message.resume ?? null;
    if (message.event === 'error') this.lastError = message;
    if (message.event === 'closing') this.onClosing(message);
    this.on.message(message);
  }

  /**
   * The server shuts down: calls continue until it closes the connection or this page reconnects. The reconnects are
   * spread over CLOSING_SPREAD_MS only, however long the shutdown takes: meanwhile the participants are in no call.
   * @param {{ retry_ms?: number, url?: string }} message
   */
  onClosing({ retry_ms: retry = 1000, url }) {
    const next = url && successor(url, this.page);
    if (next) this.base = next;
    this.planned = true;
    this.due = Date.now() + retry;
    this.scheduleReconnect(retry);
  }

  /** @param {number} after the least delay in milliseconds @returns {number} the delay */
  scheduleReconnect(after) {
    this.clearTimer();
    const delay = after + Math.random() * CLOSING_SPREAD_MS;
    this.timer = setTimeout(() => this.connect(), delay);
    return delay;
  }

  /** @param {{ code: number, reason: string }} event */
  onClose({ code, reason }) {
    this.socket = null;
    if (this.planned) {
      // The server may close before the announced time.
      const delay = this.scheduleReconnect(Math.max(0, Math.min(RESTART_MS, this.due - Date.now())));
      return this.on.lost({ words: { key: 'lost.restarting' }, attempt: 1, delay });
    }
    const error = this.lastError;
    // 1008 is "policy violation": the reason is an error code, and `retry` of its `error` event says whether to retry.
    if (code === 1008 && !(error?.code === reason && error.retry)) return this.refuse(ending(reason, error), reason);
    this.retryLater({ key: 'lost.connection' });
  }

  /** Browsers hide why an upgrade was refused, so this asks `check`, which responds with the same refusal. */
  async onFailedUpgrade() {
    this.drop();
    const request = this.checkRequest = {};
    const url = this.url('check');
    // If this attempt went to the successor of a closing server, the next attempt goes to the page's own server.
    this.base = this.home;
    let response;
    let error = /** @type {{ code?: string, message?: string }} */ ({});
    try {
      response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout?.(UPGRADE_TIMEOUT_MS) });
      error = await response.json().catch(() => ({}));
    } catch { /* no response: the network or the server is unavailable */ }
    if (this.ended || this.checkRequest !== request) return;
    // 502 and 504 come from a proxy whose server is unavailable: they count as no response.
    if (!response || response.ok || [502, 504].includes(response.status)) {
      const blocked = response?.ok && this.attempt > 1; // at first the server may just be starting
      return this.retryLater({ key: blocked ? 'lost.no-websocket' : 'lost.unreachable' });
    }
    const { code = '', message } = error;
    const words = code || message ? { code, message } : { key: /** @type {const} */ ('refused.status'), params: { status: response.status } };
    if (![429, 503].includes(response.status)) return this.refuse(words, code);
    this.retryLater(words, retryAfter(response));
  }

  /** @param {Words} words @param {number} [atLeast] milliseconds */
  retryLater(words, atLeast = 0) {
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.attempt);
    this.attempt += 1;
    // Half of it is random, so that the participants of a room do not all return in the same instant.
    const delay = atLeast + backoff * (0.5 + Math.random() / 2);
    this.clearTimer();
    this.timer = setTimeout(() => this.connect(), delay);
    this.on.lost({ words, attempt: this.attempt, delay });
  }

  /** @param {Words} words @param {string} code */
  refuse(words, code) {
    this.leave();
    this.on.refused(words, code);
  }

  drop() {
    this.clearTimer();
    this.checkRequest = {};
    this.planned = false;
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }

  clearTimer() {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }

  /**
   * The URL of `file` next to the page, or next to the successor's page, with this participant's parameters.
   * @param {'websocket' | 'check'} file
   */
  url(file) {
    const url = new URL(file, this.base);
    const secure = ['https:', 'wss:'].includes(url.protocol);
    url.protocol = (file === 'check' ? 'http' : 'ws') + (secure ? 's:' : ':');
    url.search = '';
    url.hash = '';
    const { room, name, token } = this.query;
    url.searchParams.set('room', room);
    if (name) url.searchParams.set('name', name);
    url.searchParams.set('simulcast', '1');
    url.searchParams.set('renew', '1');
    url.searchParams.set('knock', '1'); // servers that know no waiting room refuse with `locked`
    url.searchParams.set('attempt', this.attemptId);
    // An upgrade has an `Origin` field and a same-origin GET has none: this parameter replaces it.
    if (file === 'check') url.searchParams.set('origin', this.page.origin);
    if (token) url.searchParams.set('token', token);
    if (this.resume) url.searchParams.set('resume', this.resume);
    return url.href;
  }
}

/**
 * Why the server closed a connection for good.
 * @param {string} reason @param {Message | null} error @returns {Words}
 */
function ending(reason, error) {
  if (ANSWER_REFUSED.includes(reason)) return { key: 'ended.disagreed' };
  if (CAUSED_BY_PERSON.includes(reason)) return { code: reason };
  return { key: 'ended.by-server', params: { words: { code: reason, message: error?.code === reason ? error.message : reason } } };
}

/** @param {Response} response @returns {number} milliseconds */
function retryAfter(response) {
  const seconds = Number(response.headers.get('Retry-After')) || 0;
  return Math.min(RETRY_AFTER_MAX_MS, Math.max(0, seconds * 1000));
}

/**
 * The URL of `closing` if it is acceptable, else null. It must be encrypted, since the token goes there; the only
 * exception is the same host, if the page itself came unencrypted.
 * @param {string} text @param {URL} page
 */
function successor(text, page) {
  let url;
  try {
    url = new URL(text, page);
  } catch {
    return null;
  }
  const secure = url.protocol === 'https:';
  const plain = url.protocol === 'http:' && page.protocol === 'http:' && url.hostname === page.hostname;
  return secure || plain ? url : null;
}
