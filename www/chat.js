// The chat panel. Whatever people write is text: it reaches the page by textContent alone.

// What the page keeps: older lines go, or a room that is open for days would fill the memory.
const LINES = 1000;

// One person's lines within this time stand under one name.
const TOGETHER_MS = 120_000;

export class Chat {
  // send(text) tells whether it went out; unread(count), problem(words)
  constructor({ panel, log, form, input }, on) {
    Object.assign(this, { panel, log, form, input, on });
    this.limit = 4096;
    this.reset();
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    input.addEventListener('keydown', (event) => {
      // An Enter that picks a word in an input method is not ours; Safari says so by 229 alone.
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
    this.ownIds = new Set(); // those whose messages are shown since they were sent
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

  // id: ours from now on; earlier: those that this tab had in stays that are over. Our messages come back in `history`:
  // the id tells which they are, and whether they are shown already.
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
    // Ids start again with the server: only together with sender and time do they name a line.
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
    // The server never sends our own lines back.
    this.append({ text, name: 'You', from: '', time: timeOfDay(), own: true });
    this.scroll();
  }

  // The server refused a line; it does not say which: the last one that is not marked yet.
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

// Lines that come now show the reader's time, all by one clock; those of the history have the server's only.
function timeOfDay() {
  const now = new Date();
  return [now.getHours(), now.getMinutes(), now.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

// The text as nodes, with its http and https addresses as links.
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

// What follows an address in a sentence is not part of it: punctuation, and a bracket that was opened before it.
function withoutTail(address) {
  const closed = { ')': '(', ']': '[', '}': '{' };
  const count = (letter) => address.split(letter).length;
  for (let last; (last = address.at(-1)); address = address.slice(0, -1)) {
    const isTail = closed[last] ? count(last) > count(closed[last]) : /[.,;:!?'’‘…。、，！？；：）】」』]/.test(last);
    if (!isTail) break;
  }
  return address;
}
