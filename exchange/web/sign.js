/**
 * What people and hospitals sign, made in the browser: EIP-712 structs, and the walk from a consent
 * document to a submission. Twin of ledger.messages, ledger.terms and the patient's own client.
 */
import { keccak_256 } from './vendor/noble-hashes/sha3.js';
import { concat, equal, fromHex, random, toHex, uint, utf8 } from './bytes.js';
import { digestOf } from './canonical.js';
import { Key, recover } from './keys.js';

export const TYPES = {
  Terms:
    'Terms(string decision,bytes32 subject,string purpose,string requester,string categories,' +
    'uint64 from,uint64 until,uint64 signBy,bytes32 documentHash,bytes32 noticeHash,' +
    'bytes32 salt,address consentKey)',
  Grant: 'Grant(bytes32 commitment,uint32 untilDay)',
  Withdraw: 'Withdraw(bytes32 commitment,uint32 untilDay)',
  Lift: 'Lift(bytes32 commitment)',
  Redeemed: 'Redeemed(bytes32 subject,address identityKey)',
  Login: 'Login(bytes32 subject,bytes32 challenge,uint64 expiry)',
  Receipt: 'Receipt(uint64 index,bytes32 leafHash)',
  Checkpoint: 'Checkpoint(uint64 size,bytes32 root)',
  Document: 'Document(string kind,bytes32 documentHash)',
};
const NO_END = 2n ** 64n - 1n;
const NO_END_DAY = 2 ** 32 - 1;
const DOMAIN_TYPE = 'EIP712Domain(string name,string version,bytes32 salt)';
const SIGN_BY_SECONDS = 3600;
const GENERAL_RESEARCH = 'DUO:0000042';

const hash = (text) => keccak_256(utf8(text));
const members = (type) =>
  type.slice(type.indexOf('(') + 1, -1).split(',').map((member) => member.split(' '));

function word(kind, value) {
  if (kind === 'string') return hash(value);
  if (kind === 'bytes32') return fromHex(value, 32);
  if (kind === 'address') return concat(new Uint8Array(12), fromHex(value, 20));
  const bits = Number(kind.slice(4));
  return concat(new Uint8Array(32 - bits / 8), uint(value, bits / 8));
}

/** hashStruct of a message, 32 bytes. Members in hex, text or numbers; `until` null is no end. */
export function structHash(name, message) {
  const words = members(TYPES[name]).map(([kind, member]) =>
    word(kind, member === 'until' && message.until === null ? NO_END : message[member]),
  );
  return keccak_256(concat(hash(TYPES[name]), ...words));
}

/** The domain's separator; `deployment` is the deployment id in hex. */
export const separator = (deployment) =>
  keccak_256(concat(hash(DOMAIN_TYPE), hash('Assent'), hash('1'), fromHex(deployment, 32)));

/** The 32 bytes that are signed. */
export const digest = (name, message, deployment) =>
  keccak_256(concat(fromHex('0x1901'), separator(deployment), structHash(name, message)));

/** A signature in hex. */
export const sign = (key, name, message, deployment) =>
  toHex(key.signDigest(digest(name, message, deployment)));

/** A hospital's signature over a document, in hex; the kind stands in the document as well. */
export const signDocument = (key, document, deployment) =>
  sign(key, 'Document', { kind: document.kind, documentHash: toHex(digestOf(document)) }, deployment);

/** Whether `address` (hex) signed the message for this deployment. */
export function isSignedBy(address, name, message, signature, deployment) {
  try {
    return equal(recover(digest(name, message, deployment), fromHex(signature, 64)), fromHex(address, 20));
  } catch {
    // Whatever keeps a signature from being read, it is none.
    return false;
  }
}

/** Last day of the month in which a consent ends, in days since 1970-01-01 UTC. */
export function untilDay(ends) {
  if (ends === null) return NO_END_DAY;
  const at = new Date(ends * 1000);
  return Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1, 0) / 86_400_000;
}

/** The id under which the chain keeps a consent: keccak of consent key, commitment and last day. */
export const consentId = (terms) =>
  toHex(keccak_256(concat(
    fromHex(terms.consentKey, 20), structHash('Terms', terms), uint(untilDay(terms.until), 4),
  )));

const listed = (value) => (value === '*' ? '*' : [...value].sort().join(','));
const orAny = (values) => (values === null ? '*' : [...values].sort());

/** A consent document (`assent.consent/1`); null for any. Times in epoch seconds. */
export function consentDocument({ subject, decision, purposes, requesters, categories, actions, starts, ends,
  notice, locale }) {
  return {
    grammar: 'assent.consent/1',
    decision,
    subject,
    purpose: orAny(purposes),
    requester: orAny(requesters),
    categories: orAny(categories),
    actions: [...actions].sort(),
    dataUse: { code: GENERAL_RESEARCH, modifiers: [] },
    from: starts,
    until: ends,
    supersedes: null,
    locale,
    notice,
  };
}

/** The terms that belong to a document; every member says what the document says. */
export function termsOf(document, { signBy, consentKey, salt }) {
  return {
    decision: document.decision,
    subject: document.subject,
    purpose: listed(document.purpose),
    requester: listed(document.requester),
    categories: listed(document.categories),
    from: document.from,
    until: document.until,
    signBy,
    documentHash: toHex(digestOf(document)),
    noticeHash: document.notice,
    salt,
    consentKey,
  };
}

/**
 * Draws the single-use consent key and builds the terms, so that they can be shown before they are
 * signed. `sign(identity)` signs the terms, the grant and the withdrawal, once, and erases the key.
 */
export function prepare(document, deployment) {
  const consentKey = Key.new();
  const terms = termsOf(document, {
    signBy: Math.floor(Date.now() / 1000) + SIGN_BY_SECONDS,
    consentKey: toHex(consentKey.address),
    salt: toHex(random(32)),
  });
  const commitment = toHex(structHash('Terms', terms));
  return {
    document,
    terms,
    commitment,
    id: consentId(terms),
    erase: () => consentKey.erase(),
    sign(identity) {
      const message = { commitment, untilDay: untilDay(terms.until) };
      const grant = sign(consentKey, 'Grant', message, deployment);
      const withdraw = sign(consentKey, 'Withdraw', message, deployment);
      consentKey.erase();
      return {
        withdraw,
        submission: {
          terms,
          termsSignature: sign(identity, 'Terms', terms, deployment),
          document,
          grantSignature: grant,
          // An objection's withdrawal stays here: who held it could weaken the objection.
          withdrawSignature: document.decision === 'permit' ? withdraw : null,
        },
      };
    },
  };
}

/** The hospital's id inside a subject id: its first 8 bytes, in hex. */
export const orgOf = (subject) => subject.slice(0, 18);

