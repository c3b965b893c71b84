/** Canonical JSON: RFC 8785 without fractions, the one spelling of what is signed or hashed. */
import { sha256 } from './vendor/noble-hashes/sha2.js';
import { utf8 } from './bytes.js';

const DEPTH = 64;

/** The text of a value. Throws RangeError for what has no canonical spelling here. */
export function spell(value, depth = 0) {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new RangeError('only whole numbers below 2^53');
    return String(value === 0 ? 0 : value);
  }
  if (typeof value === 'string') {
    if (!value.isWellFormed()) throw new RangeError('a lone surrogate');
    return JSON.stringify(value);
  }
  if (depth >= DEPTH) throw new RangeError(`nested deeper than ${DEPTH}`);
  if (Array.isArray(value)) return `[${value.map((item) => spell(item, depth + 1)).join(',')}]`;
  if (typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    // sort() compares UTF-16 code units, as RFC 8785 §3.2.3 asks.
    const members = Object.keys(value).sort();
    return `{${members.map((key) => `${spell(key)}:${spell(value[key], depth + 1)}`).join(',')}}`;
  }
  throw new RangeError(`${typeof value} has no canonical spelling`);
}

export const canonical = (value) => utf8(spell(value));

/** SHA-256 of the canonical spelling, 32 bytes. */
export const digestOf = (value) => sha256(canonical(value));
