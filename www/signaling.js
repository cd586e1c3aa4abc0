// The WebSocket to the server, and how it comes back after the network or the server was away.
//
// One Signaling is one stay in one room: it lives across reconnects and ends with `leave`, or with a
// refusal that trying again would not change.

// Doubles from the first to the last. A lower first hammers a server that restarts; a higher last
// lets people wait in front of a server that is back.
const BACKOFF_FIRST_MS = 500;
const BACKOFF_LAST_MS = 15_000;

// An upgrade without an answer: some proxies hold it for ever, and the browser's own limit is minutes.
const UPGRADE_TIMEOUT_MS = 10_000;

// A Retry-After beyond this is cut: nobody watches a page for longer.
const RETRY_AFTER_LAST_MS = 60_000;

// A lower one lets everybody knock on a server that has just started at once; a higher one lets people wait.
const CLOSING_SPREAD_MS = 1500;

// A server that ends is back after so long.
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
    this.planned = false; // `closing` set the timer: nothing else may
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

  // The call works: the next loss starts again from the shortest wait. Not done on open already, or a
  // connection that opens and dies at once would be retried without a pause for ever.
  settled() {
    this.attempt = 0;
  }

  // Gives the connection up and makes a new one after a wait.
  reconnect(words) {
    this.drop();
    this.wait(words);
  }

  // Says goodbye: without it the server keeps the place for 30 s, for a connection that comes back.
  leave() {
    this.send({ event: 'leave' });
    this.drop();
    removeEventListener('online', this.online);
    this.ended = true;
  }

  connect() {
    this.drop();
    this.lastError = null;
    this.name = Math.random().toString(36).slice(2); // of this attempt, to ask `check` about it
    const socket = this.socket = new WebSocket(this.url('websocket'));
    let opened = false;
    this.timer = setTimeout(() => this.onFailedUpgrade(), UPGRADE_TIMEOUT_MS);
    // Each handler asks whether it is still about the current socket: a dropped one may yet speak.
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

  // The server drains: calls go on until it closes, or until we go elsewhere, and everybody comes back spread over a
  // moment. However long the drain was, that moment is short: nobody is in a call during it.
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
      // It may end before it said.
      this.knock(Math.max(0, Math.min(RESTART_MS, this.due - Date.now())));
      return this.on.lost('The server restarts. Reconnecting…', 0);
    }
    const error = this.lastError;
    // 1008 is "policy": the reason is an error code, which says whether trying again makes sense.
    if (code === 1008 && !(error?.code === reason && error.retry)) {
      const words = error?.code === reason ? error.message : REASONS[reason] ?? `(${reason || 'no reason given'})`;
      return this.refuse(['replaced', 'removed'].includes(reason) ? words : `You were removed from the call. ${words}`);
    }
    this.wait('The connection was lost. Reconnecting…');
  }

  // A browser hides why an upgrade was refused; `check` tells.
  async onFailedUpgrade() {
    this.drop();
    const asked = this.asked = {};
    const url = this.url('check');
    // A successor that does not let us in is none.
    this.base = this.home;
    let response, error = {};
    try {
      response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout?.(UPGRADE_TIMEOUT_MS) });
      error = await response.json().catch(() => ({}));
    } catch { /* no answer at all: the network or the server is away */ }
    if (this.ended || this.asked !== asked) return;
    // 502 and 504 come from a proxy whose server is away: that is "no answer" as well.
    if (!response || response.ok || [502, 504].includes(response.status)) {
      const blocked = response?.ok && this.attempt > 1; // once may be a server that starts just now
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
    // Half of it is jitter, so that a full room does not come back in one instant.
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

  // `file` beside the page (or beside the successor's WebSocket), with who we are.
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
    // A GET of the same origin has no `Origin`, and an upgrade has one.
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

// Where `closing` sends us: never from a page that came encrypted to a server that is not, and anywhere but on
// the same host it must be encrypted, since the token goes there.
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
