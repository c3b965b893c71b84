/** secp256k1 keys, ERC-2098 signatures, and the patient's derived keys (twin of ledger.signing). */
import { ecdsa, weierstrass } from './vendor/noble-curves/abstract/weierstrass.js';
import { expand, extract } from './vendor/noble-hashes/hkdf.js';
import { sha256 } from './vendor/noble-hashes/sha2.js';
import { keccak_256 } from './vendor/noble-hashes/sha3.js';
import { concat, random, toNumber, uint, utf8 } from './bytes.js';

// SEC 2, version 2, section 2.4.1.
const CURVE = {
  p: 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2fn,
  n: 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n,
  h: 1n,
  a: 0n,
  b: 7n,
  Gx: 0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  Gy: 0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
};
const secp256k1 = ecdsa(weierstrass(CURVE), sha256);
const PARITY = 1n << 255n;

const isScalar = (secret) => secret.length === 32 && toNumber(secret) > 0n && toNumber(secret) < CURVE.n;

/** The 20-byte address of an uncompressed public key. */
const addressOf = (point) => keccak_256(point.slice(1)).slice(12);

/** A signing key. Its secret can be erased, and never shows. */
export class Key {
  #secret;

  constructor(secret) {
    if (!isScalar(secret)) throw new RangeError('not a secp256k1 key');
    this.#secret = Uint8Array.from(secret);
    this.address = addressOf(secp256k1.getPublicKey(this.#secret, false));
  }

  static new() {
    for (;;) {
      const secret = random(32);
      if (isScalar(secret)) return new Key(secret);
    }
  }

  /** Signs 32 bytes: r, then s with the parity in its highest bit; low s, deterministic (RFC 6979). */
  signDigest(digest) {
    if (this.#secret === null) throw new RangeError('this key was erased');
    // `recovered` puts the recovery bit first: 1 + 32 + 32 bytes.
    const full = secp256k1.sign(digest, this.#secret, { prehash: false, format: 'recovered', lowS: true });
    const s = toNumber(full.slice(33)) | (full[0] & 1 ? PARITY : 0n);
    return concat(full.slice(1, 33), uint(s, 32));
  }

  /** Forgets the secret: what has been signed stays, nothing more can be. */
  erase() {
    this.#secret?.fill(0);
    this.#secret = null;
  }
}

/** The 20-byte address that signed these 32 bytes. Throws RangeError for a malleated signature. */
export function recover(digest, signature) {
  if (signature.length !== 64) throw new RangeError('a signature is 64 bytes (ERC-2098)');
  const vs = toNumber(signature.slice(32));
  const [s, parity] = [vs & (PARITY - 1n), vs >> 255n];
  if (s === 0n || s > CURVE.n / 2n) throw new RangeError('the signature is malleated or out of range');
  const full = concat(uint(parity, 1), signature.slice(0, 32), uint(s, 32));
  const point = secp256k1.recoverPublicKey(full, digest, { prehash: false });
  return addressOf(secp256k1.Point.fromBytes(point).toBytes(false));
}

function derive(secret, info) {
  const prk = extract(sha256, secret);
  let scalar = expand(sha256, prk, info, 32);
  for (let counter = 0; !isScalar(scalar); counter++) {
    scalar = expand(sha256, prk, concat(info, uint(counter, 1)), 32);
  }
  return new Key(scalar);
}

/** The key that an invitation's code stands for. */
export function codeKey(code) {
  if (code.length < 16) throw new RangeError('a code has at least 128 bits');
  return derive(code, utf8('assent code/1'));
}

/** The patient's key at one hospital: other hospitals see another, unlinkable one. */
export function identityKey(seed, org) {
  if (seed.length !== 32) throw new RangeError('a seed is 32 bytes');
  return derive(seed, concat(utf8('assent identity/1'), org));
}
