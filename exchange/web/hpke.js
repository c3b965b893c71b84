/**
 * HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: opens what the
 * exchange seals to a key of this page. Twin of exchange.sealing.open_sealed.
 */
import { expand, extract } from './vendor/noble-hashes/hkdf.js';
import { sha256 } from './vendor/noble-hashes/sha2.js';
import { concat, toHex, uint, utf8 } from './bytes.js';

const X25519 = { name: 'X25519' };
const POINT = 32;
const EMPTY = new Uint8Array();
const VERSION = utf8('HPKE-v1');
const KEM = concat(utf8('KEM'), uint(0x0020, 2));
const SUITE = concat(utf8('HPKE'), uint(0x0020, 2), uint(0x0001, 2), uint(0x0002, 2));

/** A key pair for one answer: the private half never leaves the browser's own store. */
export async function newReceiveKey() {
  const { publicKey, privateKey } = await crypto.subtle.generateKey(X25519, false, ['deriveBits']);
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', publicKey));
  return { privateKey, raw, publicKey: toHex(raw) };
}

const labeledExtract = (suite, salt, label, ikm) =>
  extract(sha256, concat(VERSION, suite, utf8(label), ikm), salt);

const labeledExpand = (suite, prk, label, info, length) =>
  expand(sha256, prk, concat(uint(length, 2), VERSION, suite, utf8(label), info), length);

/** The plaintext of an envelope (`enc ‖ ciphertext`). Throws if it is not sealed to this key and `info`. */
export async function openSealed(key, sealed, info) {
  const [enc, ciphertext] = [sealed.slice(0, POINT), sealed.slice(POINT)];
  const sender = await crypto.subtle.importKey('raw', enc, X25519, true, []);
  const shared = await crypto.subtle.deriveBits({ ...X25519, public: sender }, key.privateKey, 256);
  const prk = labeledExtract(KEM, EMPTY, 'eae_prk', new Uint8Array(shared));
  const secret = labeledExpand(KEM, prk, 'shared_secret', concat(enc, key.raw), 32);
  const context = concat(
    Uint8Array.of(0),
    labeledExtract(SUITE, EMPTY, 'psk_id_hash', EMPTY),
    labeledExtract(SUITE, EMPTY, 'info_hash', info),
  );
  const schedule = labeledExtract(SUITE, secret, 'secret', EMPTY);
  const raw = labeledExpand(SUITE, schedule, 'key', context, 32);
  const iv = labeledExpand(SUITE, schedule, 'base_nonce', context, 12);
  const opening = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['decrypt']);
  return new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, opening, ciphertext));
}
