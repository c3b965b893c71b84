/**
 * A hospital or an auditor at this exchange, who came with a link (a bearer token, which can only look)
 * or with their own key file (which logs in by itself, and signs for a hospital).
 */
import { Api, Problem, Unreachable, takeFragment } from './api.js';
import { fromHex, random, toHex, utf8 } from './bytes.js';
import { Key } from './keys.js';
import { signDocument } from './sign.js';

const EARLY_MS = 30_000;
const ASSERTION_SECONDS = 240;
const ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

const place = (role) => `assent.${role}`;
const ended = (token) =>
  fetch('/v1/sessions', { method: 'DELETE', headers: { Authorization: `Bearer ${token}` } });

/** Whoever comes with a token, which is kept for this tab alone. */
export class Visitor {
  constructor(role, token) {
    this.role = role;
    this.token = token;
    this.api = new Api(async () => token);
    this.signs = false;
    this.org = null;
    sessionStorage.setItem(place(role), token);
  }

  /** Forgets the token, which may still be handed in elsewhere. */
  forget() {
    sessionStorage.removeItem(place(this.role));
  }

  /** Hands the token back and forgets it. */
  leave() {
    this.forget();
    return ended(this.token);
  }
}

/** Whoever opened their key file: its keys are in this tab's memory, and gone when the page is left. */
export class Holder {
  #auth;
  #signing;
  #token = null;
  #until = 0;
  #asking = null;

  constructor({ id, auth, signing }) {
    this.org = id;
    this.signs = signing !== null;
    this.api = new Api(() => this.#bearer());
    this.#auth = auth;
    this.#signing = signing;
  }

  /** The hospital's signature over a document, in hex. */
  sign(document, deployment) {
    return signDocument(this.#signing, document, deployment);
  }

  /** Erases the keys and hands the token back. */
  leave() {
    this.#signing?.erase();
    return this.#token === null ? Promise.resolve() : ended(this.#token);
  }

  #bearer() {
    if (this.#token !== null && Date.now() < this.#until - EARLY_MS) return this.#token;
    this.#asking ??= this.#logIn().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #logIn() {
    const body = new URLSearchParams({
      grant_type: 'client_credentials',
      client_assertion_type: ASSERTION,
      client_assertion: await assertion(this.org, this.#auth),
    });
    let answer;
    try {
      answer = await fetch('/v1/token', { method: 'POST', body, credentials: 'omit' });
    } catch (error) {
      throw new Unreachable(error.message);
    }
    const told = await answer.json();
    // OAuth says it in words of its own (RFC 6749 §5.2).
    if (!answer.ok) throw new Problem(answer.status, { ...told, detail: told.error_description ?? told.detail });
    this.#token = told.access_token;
    this.#until = Date.now() + 1000 * told.expires_in;
    return this.#token;
  }
}

const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** A `private_key_jwt` (RFC 7523) for this exchange. */
async function assertion(id, auth) {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: id, sub: id, aud: `${location.origin}/v1/token`, iat: now, exp: now + ASSERTION_SECONDS,
    jti: toHex(random(16)).slice(2),
  };
  const text = [{ alg: 'ES256', kid: id, typ: 'JWT' }, claims]
    .map((part) => base64url(utf8(JSON.stringify(part)))).join('.');
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, auth, utf8(text));
  return `${text}.${base64url(new Uint8Array(signature))}`;
}

/**
 * Reads a key file: a hospital's `identity.json`, or an auditor's private JWK. Takes the log-in key and
 * the signing key out of it, nothing else. Throws RangeError where it is no such file.
 */
export async function openKeyFile(text) {
  try {
    const given = JSON.parse(text);
    const { kty, crv, x, y, d, kid } = given.auth ?? given;
    const auth = await crypto.subtle.importKey(
      'jwk', { kty, crv, x, y, d }, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'],
    );
    const signing = given.signing === undefined ? null : new Key(fromHex(`0x${given.signing}`, 32));
    if (typeof kid !== 'string' || kid === '') throw new RangeError('no name');
    return new Holder({ id: kid, auth, signing });
  } catch {
    // Whatever is wrong with it: what stands in a key file belongs into no message.
    throw new RangeError('not a key file');
  }
}

/** Who came with the link, or had come to this tab before; null if nobody. */
export function arrived(role) {
  const { token } = takeFragment('token');
  const known = token || sessionStorage.getItem(place(role));
  return known ? new Visitor(role, known) : null;
}
