/** A plain client of the public API: bearer token, problems (RFC 9457), pages, event streams. */
import { random, toHex } from './bytes.js';

/** The exchange refused, and said why and what to do next. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `status ${status}`);
    this.status = status;
    this.slug = String(document.type ?? '').split('/').pop();
    this.next = document.next ?? '';
    this.trace = document.trace_id ?? '';
    this.errors = document.errors ?? [];
    this.document = document;
  }
}

/** The exchange could not be reached at all. */
export class Unreachable extends Error {}

export class Api {
  /** `token()` gives the bearer token in force; it may log in first. */
  constructor(token = async () => null) {
    this.token = token;
  }

  get(path) {
    return this.#ask('GET', path);
  }

  /** A request that creates: one idempotency key, so that repeating it has one effect. */
  async create(path, body, { open = false } = {}) {
    const headers = { 'Idempotency-Key': toHex(random(16)).slice(2) };
    try {
      return await this.#ask('POST', path, { body, headers, open });
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      return this.#ask('POST', path, { body, headers, open });
    }
  }

  /** A request without a token. */
  open(method, path, body) {
    return this.#ask(method, path, { body, open: true });
  }

  /** Every item of a paged list. */
  async all(path) {
    const items = [];
    for (let cursor = null; ; ) {
      const joint = path.includes('?') ? '&' : '?';
      const page = await this.get(cursor === null ? path : `${path}${joint}cursor=${encodeURIComponent(cursor)}`);
      items.push(...page.items);
      if (!page.next) return items;
      cursor = page.next;
    }
  }

  /** The bytes of an answer, as they came. */
  async bytes(path) {
    const answer = await this.#send('GET', path, {});
    return new Uint8Array(await answer.arrayBuffer());
  }

  /**
   * Server-sent events through fetch, since an EventSource cannot carry a token. Calls
   * `told({id, event, data})` for each; returns when the stream ends.
   */
  async events(path, told, { last = null, signal } = {}) {
    const headers = last === null ? {} : { 'Last-Event-ID': String(last) };
    const answer = await this.#send('GET', path, { headers, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) {
        const event = read(block);
        if (event.data !== undefined) told(event);
      }
    }
  }

  async #ask(method, path, options = {}) {
    const answer = await this.#send(method, path, options);
    return answer.status === 204 ? {} : answer.json();
  }

  async #send(method, path, { body, headers = {}, open = false, signal }) {
    const token = open ? null : await this.token();
    const sent = { ...headers };
    if (token) sent.Authorization = `Bearer ${token}`;
    if (body !== undefined) sent['Content-Type'] = 'application/json';
    let answer;
    try {
      answer = await fetch(path, {
        method,
        headers: sent,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        credentials: 'omit',
      });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Unreachable(error.message);
    }
    if (answer.ok) return answer;
    const isJson = (answer.headers.get('content-type') ?? '').includes('json');
    throw new Problem(answer.status, isJson ? await answer.json() : {});
  }
}

function read(block) {
  const event = {};
  for (const line of block.split('\n')) {
    const [name, value] = [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trimStart()];
    if (name === 'id') event.id = Number(value);
    if (name === 'event') event.event = value;
    if (name === 'data') event.data = JSON.parse(value);
  }
  return event;
}

/**
 * What the address bar carries after `#`, removed from it at once: secrets in a link stay out of the
 * history, and never reach a server.
 */
export function takeFragment(...names) {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = Object.fromEntries(names.map((name) => [name, given.get(name)]));
  if (Object.values(found).some((value) => value !== null)) {
    history.replaceState(null, '', location.pathname + location.search);
  }
  return found;
}
