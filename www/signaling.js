// The WebSocket to the server, and its reconnects after the network or the server was unavailable.
//
// One Signaling is one stay in one room: it lasts across reconnects and ends with `leave`, or with a refusal that a
// retry would not change.

// The backoff doubles from the first value to the last. A lower first value would flood a server that restarts; a
// higher last one would keep users waiting for a server that is back.
const BACKOFF_FIRST_MS = 500;
const BACKOFF_LAST_MS = 15_000;

// The time limit of an upgrade: some proxies hold it for ever, and the browser's own limit is minutes.
const UPGRADE_TIMEOUT_MS = 10_000;

// A longer Retry-After is cut to this: no user watches the page for longer.
const RETRY_AFTER_LAST_MS = 60_000;

// Clients spread their reconnects after `closing` over this time. Less would bring them all at once to a server that
// has just started; more would keep users waiting.
const CLOSING_SPREAD_MS = 1500;

// The time that a server is assumed to take to restart.
const RESTART_MS = 1000;

export class Signaling {
  // on: opened(), message(object), lost(words, delay_ms), refused(words)
  constructor({ room, name, token }, on) {
    this.query = { room, name, token };
    this.on = on;
    this.home = this.base = new URL('websocket', document.baseURI);
    this.resume = null;
    this.attempt = 0;
    this.socket = null;
    this.timer = null;
    this.planned = false; // `closing` has set the timer, which `online` must not cut short
    this.ended = false;
    this.lastError = null;
    this.online = () => this.timer && !this.planned && this.connect();
    addEventListener('online', this.online);
    this.connect();
  }

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  // The call works: resets the backoff. The opening of the WebSocket alone does not, or a connection that always closes
  // right after it would be retried at the shortest interval for ever.
  settled() {
    this.attempt = 0;
  }

  // Closes the connection and opens a new one after the backoff.
  reconnect(words) {
    this.drop();
    this.wait(words);
  }

  // Leaves the room. Without `leave`, the server would keep the participant for 30 s, for a reconnect.
  leave() {
    this.send({ event: 'leave' });
    this.drop();
    removeEventListener('online', this.online);
    this.ended = true;
  }

  connect() {
    this.drop();
    this.lastError = null;
    this.name = Math.random().toString(36).slice(2); // names this attempt in a later request to `check`
    const socket = this.socket = new WebSocket(this.url('websocket'));
    let opened = false;
    this.timer = setTimeout(() => this.onFailedUpgrade(), UPGRADE_TIMEOUT_MS);
    // Each handler ignores a socket that is not the current one: dropped sockets may still fire events.
    socket.onopen = () => {
      if (socket !== this.socket) return;
      opened = true;
      this.clearTimer();
      this.on.opened();
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

  // The server shuts down: calls continue until it closes the connection or this page reconnects. The reconnects are
  // spread over CLOSING_SPREAD_MS only, however long the shutdown takes: meanwhile the participants are in no call.
  onClosing({ retry_ms: retry = 1000, url }) {
    const there = url && successor(url);
    if (there) this.base = there;
    this.planned = true;
    this.due = Date.now() + retry;
    this.knock(retry);
  }

  knock(after) {
    this.clearTimer();
    this.timer = setTimeout(() => this.connect(), after + Math.random() * CLOSING_SPREAD_MS);
  }

  onClose({ code, reason }) {
    this.socket = null;
    if (this.planned) {
      // The server may close before the announced time.
      this.knock(Math.max(0, Math.min(RESTART_MS, this.due - Date.now())));
      return this.on.lost('The server restarts. Reconnecting…', 0);
    }
    const error = this.lastError;
    // 1008 is "policy violation": the reason is an error code, and `retry` of its `error` event says whether to retry.
    if (code === 1008 && !(error?.code === reason && error.retry)) {
      const words = error?.code === reason ? error.message : REASONS[reason] ?? `(${reason || 'no reason given'})`;
      return this.refuse(['replaced', 'removed'].includes(reason) ? words : `You were removed from the call. ${words}`);
    }
    this.wait('The connection was lost. Reconnecting…');
  }

  // Browsers hide why an upgrade was refused, so this asks `check`, which responds with the same refusal.
  async onFailedUpgrade() {
    this.drop();
    const asked = this.asked = {};
    const url = this.url('check');
    // If it was the successor of a closing server, the next attempt goes to the page's own server.
    this.base = this.home;
    let response, error = {};
    try {
      response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout?.(UPGRADE_TIMEOUT_MS) });
      error = await response.json().catch(() => ({}));
    } catch { /* no response: the network or the server is unavailable */ }
    if (this.ended || this.asked !== asked) return;
    // 502 and 504 come from a proxy whose server is unavailable: they count as no response.
    if (!response || response.ok || [502, 504].includes(response.status)) {
      const blocked = response?.ok && this.attempt > 1; // at first the server may just be starting
      return this.wait(blocked
        ? 'The server answers, but something in between blocks WebSockets; see docs/hosting. Trying again…'
        : 'The server can’t be reached. Trying again…');
    }
    const words = error.message || `The server refuses the connection (status ${response.status}).`;
    if (![429, 503].includes(response.status)) return this.refuse(words);
    this.wait(`${words} Trying again…`, retryAfter(response));
  }

  wait(words, atLeast = 0) {
    const backoff = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** this.attempt);
    this.attempt += 1;
    // Half of it is random, so that the participants of a room do not all return in the same instant.
    const delay = atLeast + backoff * (0.5 + Math.random() / 2);
    this.clearTimer();
    this.timer = setTimeout(() => this.connect(), delay);
    this.on.lost(words, delay);
  }

  refuse(words) {
    this.leave();
    this.on.refused(words);
  }

  drop() {
    this.clearTimer();
    this.asked = null;
    this.planned = false;
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }

  clearTimer() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  // The URL of `file` next to the page, or next to the successor's page, with this participant's parameters.
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
    url.searchParams.set('attempt', this.name);
    // An upgrade has an `Origin` field and a same-origin GET has none: this parameter replaces it.
    if (file === 'check') url.searchParams.set('origin', location.origin);
    if (token) url.searchParams.set('token', token);
    if (this.resume) url.searchParams.set('resume', this.resume);
    return url.href;
  }
}

const REASONS = {
  replaced: 'You joined from another window: this one was closed.',
  'room-full': 'The room is full.',
  'server-full': 'The server is full.',
  'bad-room': 'The server does not accept this room name.',
};

function retryAfter(response) {
  const seconds = Number(response.headers.get('Retry-After')) || 0;
  return Math.min(RETRY_AFTER_LAST_MS, Math.max(0, seconds * 1000));
}

// Returns the URL of `closing` if it is acceptable, else null. It must be encrypted, since the token goes there; the
// only exception is the same host, if the page itself came unencrypted.
function successor(text) {
  let url;
  try {
    url = new URL(text, document.baseURI);
  } catch {
    return null;
  }
  const secure = url.protocol === 'https:';
  const plain = url.protocol === 'http:' && location.protocol === 'http:' && url.hostname === location.hostname;
  return secure || plain ? url : null;
}
