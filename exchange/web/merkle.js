/** RFC 6962 proofs, checked in the browser (twin of ledger.merkle). Hashes are 32 bytes. */
import { sha256 } from './vendor/noble-hashes/sha2.js';
import { concat, equal } from './bytes.js';

export const leafHash = (skeleton) => sha256(concat(Uint8Array.of(0), skeleton));
const node = (left, right) => sha256(concat(Uint8Array.of(1), left, right));

/** The root that a proof leads to from a leaf (RFC 9162 §2.1.3.2); null if the proof does not fit. */
export function rootFrom(leaf, index, size, proof) {
  if (!(index >= 0 && index < size)) return null;
  let [fn, sn, root] = [index, size - 1, leaf];
  for (const sibling of proof) {
    if (sn === 0) return null;
    if (fn % 2 === 1 || fn === sn) {
      root = node(sibling, root);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
    } else {
      root = node(root, sibling);
    }
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 ? root : null;
}

/** Whether the leaf is in the tree with that root. */
export function isIncluded(leaf, index, size, proof, root) {
  const found = rootFrom(leaf, index, size, proof);
  return found !== null && equal(found, root);
}

/** Whether the tree of `first` leaves is a prefix of the tree of `second` (RFC 9162 §2.1.4.2). */
export function isConsistent(first, second, proof, firstRoot, secondRoot) {
  if (first < 1 || first > second) return false;
  if (first === second) return proof.length === 0 && equal(firstRoot, secondRoot);
  const path = Number.isInteger(Math.log2(first)) ? [firstRoot, ...proof] : [...proof];
  if (path.length === 0) return false;
  let [fn, sn] = [first - 1, second - 1];
  while (fn % 2 === 1) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  let [older, newer] = [path[0], path[0]];
  for (const sibling of path.slice(1)) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      older = node(sibling, older);
      newer = node(sibling, newer);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
    } else {
      newer = node(newer, sibling);
    }
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && equal(older, firstRoot) && equal(newer, secondRoot);
}

/** The root over all leaf hashes: a log that was read whole needs no proof. */
export function rootOf(hashes) {
  if (hashes.length === 0) return sha256(new Uint8Array());
  if (hashes.length === 1) return hashes[0];
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  return node(rootOf(hashes.slice(0, split)), rootOf(hashes.slice(split)));
}
