// The chat panel. Messages are plain text: they reach the page only as text nodes, never as markup.

// The most chat messages on the page. Older ones are removed, so that a room open for days does not fill the memory.
const LINES = 1000;

// A chat message this soon after another one of the same participant is shown without the name.
const TOGETHER_MS = 120_000;

export class Chat {
  // on: send(text) returns whether the message was sent; unread(count), problem(words)
  constructor({ panel, log, form, input }, on) {
    Object.assign(this, { panel, log, form, input, on });
    this.limit = 4096;
    this.reset();
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    input.addEventListener('keydown', (event) => {
      // Enter may select a word in an input method instead of sending; Safari marks that only by the key code 229.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.submit();
    });
  }

  get isOpen() {
    return !this.panel.hidden;
  }

  reset() {
    this.seen = new Set();
    this.ownIds = new Set(); // ids since the reset: their messages are shown when sent
    this.last = null;
    this.log.replaceChildren();
    this.input.value = '';
    this.setUnread(0);
  }

  open(open) {
    this.panel.hidden = !open;
    if (!open) return;
    this.setUnread(0);
    this.scroll();
    this.input.focus();
  }

  // id: this participant's id from now on; earlier: the ids that this tab had before. `history` also contains the
  // messages of this participant: those of ids set here are shown already, those of `earlier` ids are not.
  setOwn(id, bytes, earlier = []) {
    this.ownIds.add(id);
    this.earlierIds = new Set(earlier);
    if (bytes) this.limit = bytes;
  }

  history(lines) {
    for (const line of lines) if (!this.ownIds.has(line.from)) this.receive(line, true);
    this.scroll();
  }

  receive(line, old = false) {
    // Message ids restart with the server: only id, sender and time together identify a chat message.
    const key = `${line.id} ${line.from} ${line.time}`;
    if (line.id !== undefined && this.seen.has(key)) return;
    this.seen.add(key);
    const time = old ? line.time : timeOfDay();
    if (old && this.earlierIds?.has(line.from)) this.append({ text: line.message, name: 'You', from: '', time, own: true });
    else this.append({ text: line.message, name: line.name || 'Somebody', from: line.from ?? line.name, time });
    if (!old && !this.isOpen) this.setUnread(this.unread + 1);
  }

  submit() {
    const text = this.input.value.trim();
    if (!text) return;
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > this.limit) return this.on.problem(`This message is too long: ${bytes} bytes, at most ${this.limit} go out.`);
    if (!this.on.send(text)) return this.on.problem('Not connected right now: the message was not sent.');
    this.input.value = '';
    // The server does not send a chat message back to its sender.
    this.append({ text, name: 'You', from: '', time: timeOfDay(), own: true });
    this.scroll();
  }

  // Marks a chat message as not sent. The server does not say which one it refused: take the last unmarked one.
  refused() {
    const lines = this.log.querySelectorAll('.line.own:not(.refused)');
    const line = lines[lines.length - 1];
    if (!line) return;
    line.classList.add('refused');
    const mark = document.createElement('p');
    mark.className = 'mark';
    mark.textContent = 'Not sent';
    line.append(mark);
  }

  append({ text, name, from, time, own = false }) {
    const stick = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
    const line = document.createElement('article');
    line.className = own ? 'line own' : 'line';
    const at = Date.now();
    if (this.last && this.last.from === from && at - this.last.at < TOGETHER_MS) line.classList.add('more');
    this.last = { from, at };
    const head = document.createElement('header');
    const who = document.createElement('span');
    who.className = 'who';
    who.textContent = name;
    const when = document.createElement('time');
    when.textContent = (time ?? '').slice(0, 5);
    when.title = time ?? '';
    head.append(who, when);
    const body = document.createElement('p');
    body.className = 'text';
    body.append(...linked(text));
    line.append(head, body);
    this.log.append(line);
    while (this.log.childElementCount > LINES) this.log.firstElementChild.remove();
    if (stick) this.scroll();
  }

  scroll() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  setUnread(count) {
    this.unread = count;
    this.on.unread(count);
  }
}

// New chat messages show this device's time; those of the history have only the server's.
function timeOfDay() {
  const now = new Date();
  return [now.getHours(), now.getMinutes(), now.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

// Returns the text as nodes, with http and https URLs as links.
export function linked(text) {
  return text.split(/(\bhttps?:\/\/[^\s<>"“”«»„]+)/i).map((part, i) => {
    if (i % 2 === 0) return document.createTextNode(part);
    const address = withoutTail(part);
    const rest = part.slice(address.length);
    let url;
    try {
      url = new URL(address);
    } catch {
      return document.createTextNode(part);
    }
    if (!['http:', 'https:'].includes(url.protocol)) return document.createTextNode(part);
    const link = document.createElement('a');
    link.href = url.href;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    link.textContent = address;
    const both = document.createDocumentFragment();
    both.append(link, rest);
    return both;
  });
}

// Removes what follows a URL in a sentence: punctuation, and a closing bracket whose opening one is before the URL.
function withoutTail(address) {
  const closed = { ')': '(', ']': '[', '}': '{' };
  const count = (letter) => address.split(letter).length;
  for (let last; (last = address.at(-1)); address = address.slice(0, -1)) {
    const isTail = closed[last] ? count(last) > count(closed[last]) : /[.,;:!?'’‘…。、，！？；：）】」』]/.test(last);
    if (!isTail) break;
  }
  return address;
}
