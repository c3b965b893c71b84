/** Bytes as the exchange writes them: lower-case 0x-hex, big-endian numbers, base32 codes. */

export const utf8 = (text) => new TextEncoder().encode(text);

export function toHex(bytes) {
  let text = '0x';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** Reads lower-case 0x-hex, of `size` bytes if given. Throws RangeError for anything else. */
export function fromHex(text, size) {
  if (typeof text !== 'string' || !/^0x([0-9a-f]{2})*$/.test(text)) throw new RangeError('not 0x-hex');
  const bytes = new Uint8Array((text.length - 2) / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 + 2 * i, 4 + 2 * i), 16);
  if (size !== undefined && bytes.length !== size) throw new RangeError(`not ${size} bytes of hex`);
  return bytes;
}

export function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export const equal = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** A number (or bigint) as `size` bytes, big-endian. Throws RangeError if it does not fit. */
export function uint(value, size) {
  let rest = BigInt(value);
  if (rest < 0n || rest >> BigInt(8 * size)) throw new RangeError(`a number does not fit ${size} bytes`);
  const bytes = new Uint8Array(size);
  for (let i = size - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 255n);
    rest >>= 8n;
  }
  return bytes;
}

export const toNumber = (bytes) => bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);

export const random = (size) => crypto.getRandomValues(new Uint8Array(size));

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** Shows a code: RFC 4648 base32 without padding, groups of four joined by hyphens. */
export function codeToText(code) {
  let bits = 0n;
  for (const byte of code) bits = (bits << 8n) | BigInt(byte);
  const spare = (5 - ((code.length * 8) % 5)) % 5;
  bits <<= BigInt(spare);
  let text = '';
  for (let at = code.length * 8 + spare - 5; at >= 0; at -= 5) text += BASE32[Number((bits >> BigInt(at)) & 31n)];
  return text.match(/.{1,4}/g).join('-');
}

/** Reads a typed code; case, blanks and hyphens do not matter. Throws RangeError. */
export function codeFromText(text) {
  const plain = text.replace(/[\s-]/g, '').toUpperCase();
  let bits = 0n;
  for (const letter of plain) {
    const value = BASE32.indexOf(letter);
    if (value < 0) throw new RangeError('not a code');
    bits = (bits << 5n) | BigInt(value);
  }
  const size = Math.floor((plain.length * 5) / 8);
  if (size < 16) throw new RangeError('not a code');
  const code = uint(bits >> BigInt(plain.length * 5 - size * 8), size);
  if (codeToText(code).replaceAll('-', '') !== plain) throw new RangeError('not a code');
  return code;
}
