/**
 * One patient at this exchange. The seed stays in this tab (`sessionStorage`) and is sent to nobody;
 * withdrawals of objections are kept on this device (`localStorage`), since they exist nowhere else.
 */
import { Api } from '../api.js';
import { codeFromText, fromHex, random, toHex } from '../bytes.js';
import { codeKey, identityKey } from '../keys.js';
import { isSignedBy, orgOf, sign } from '../sign.js';

const TAB = 'assent.patient';
const KEPT = 'assent.withdrawals';
const EARLY_MS = 30_000;
const RETRY_MS = 1500;

/** What was kept for the tab: `{seed, subject}` in hex, or null. */
export function recall() {
  const text = sessionStorage.getItem(TAB);
  return text === null ? null : JSON.parse(text);
}

export const forget = () => sessionStorage.removeItem(TAB);

function remember(seed, subject) {
  sessionStorage.setItem(TAB, JSON.stringify({ seed, subject }));
}

/** Reads a recovery key, or a link that holds one: `{seed, subject}`, or null. */
export function readRecovery(text) {
  const plain = text.toLowerCase().replace(/\s+/g, ' ');
  const subject = plain.match(/0x((?:[0-9a-f] ?){64})/);
  const rest = subject ? plain.replace(subject[0], ' ') : plain;
  const seed = rest.match(/(?:^|[^0-9a-fx])((?:[0-9a-f] ?){64})(?![0-9a-f])/);
  if (!subject || !seed) return null;
  return { seed: seed[1].replaceAll(' ', ''), subject: `0x${subject[1].replaceAll(' ', '')}` };
}

/** Redeems a hospital's code with a new seed. Answers `{seed, subject, hospital}`. */
export async function enrol(code, deployment) {
  const api = new Api();
  const key = codeKey(codeFromText(code));
  const invitation = await api.open('GET', `/v1/invitations/${toHex(key.address)}`);
  const seed = toHex(random(32)).slice(2);
  const { subject } = invitation;
  const identity = identityKey(fromHex(`0x${seed}`, 32), fromHex(orgOf(subject), 8));
  const identityAddress = toHex(identity.address);
  // Kept before the code is spent: a seed that is lost would take the subject with it.
  remember(seed, subject);
  try {
    await api.create('/v1/enrolments', {
      subject,
      identityKey: identityAddress,
      redeemed: sign(key, 'Redeemed', { subject, identityKey: identityAddress }, deployment.deployment),
    }, { open: true });
  } catch (error) {
    // Only a refusal says that nothing happened; a broken connection does not.
    if (error.status !== undefined && error.status < 500) forget();
    throw error;
  }
  return { seed, subject, hospital: invitation.name };
}

export class Session {
  #identity;
  #token = null;
  #until = 0;
  #login = null;

  constructor({ seed, subject }, deployment) {
    this.subject = subject;
    this.deployment = deployment;
    this.#identity = identityKey(fromHex(`0x${seed}`, 32), fromHex(orgOf(subject), 8));
    this.api = new Api(() => this.#bearer());
    remember(seed, subject);
  }

  me() {
    return this.api.get('/v1/me');
  }

  consents() {
    return this.api.all('/v1/consents?limit=200');
  }

  accesses() {
    return this.api.all('/v1/me/accesses?limit=200');
  }

  /** Hands in a consent that was prepared and shown. */
  async give(prepared) {
    const signed = prepared.sign(this.#identity);
    if (prepared.document.decision === 'deny') {
      keep(this.subject, prepared.id, { commitment: prepared.commitment, withdraw: signed.withdraw });
    }
    return this.api.create('/v1/consents', signed.submission);
  }

  /** Ends a permit: it counts when this returns. */
  withdraw(consent) {
    return this.api.create(`/v1/consents/${consent}/withdrawal`, {});
  }

  /** Whether this device holds what lifting an objection needs. */
  canLift(consent) {
    return consent in kept(this.subject);
  }

  /** Lifts an objection; it ends once the ledger has recorded it. */
  lift(consent) {
    const { commitment, withdraw } = kept(this.subject)[consent];
    return this.api.create(`/v1/consents/${consent}/withdrawal`, {
      signature: withdraw,
      lift: sign(this.#identity, 'Lift', { commitment }, this.deployment.deployment),
    });
  }

  /** The receipt of one of the subject's leaves, and whether the exchange's key signed it. */
  async receipt(index) {
    const receipt = await this.api.get(`/v1/receipts/${index}`);
    const { exchange, deployment } = this.deployment;
    const holds = receipt.index === index && isSignedBy(exchange, 'Receipt', receipt, receipt.signature, deployment);
    return { receipt, holds };
  }

  /** What a patient may keep: receipts, and the withdrawals of objections. */
  keptHere() {
    return kept(this.subject);
  }

  /** Takes back the withdrawals of objections that another device had kept. */
  takeKept(withdrawals) {
    for (const [consent, item] of Object.entries(withdrawals)) {
      keep(this.subject, toHex(fromHex(consent, 32)), {
        commitment: toHex(fromHex(item.commitment, 32)),
        withdraw: toHex(fromHex(item.withdraw, 64)),
      });
    }
  }

  /** Tells of every change as it happens, until `signal` ends it; `state(open)` says whether it listens. */
  async watch(told, state, signal) {
    let last = null;
    while (!signal.aborted) {
      try {
        state(true);
        await this.api.events('/v1/me/events', (event) => {
          last = event.id;
          told(event);
        }, { last, signal });
      } catch (error) {
        if (signal.aborted) return;
        // Said to the reader; the next round asks again.
        state(false, error);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  leave() {
    forget();
    return this.#token === null ? Promise.resolve() : fetch('/v1/sessions', {
      method: 'DELETE',
      headers: { Authorization: `Bearer ${this.#token}` },
    });
  }

  #bearer() {
    if (this.#token !== null && Date.now() < this.#until - EARLY_MS) return this.#token;
    // Several requests at once share one log-in.
    this.#login ??= this.#logIn().finally(() => {
      this.#login = null;
    });
    return this.#login;
  }

  async #logIn() {
    const { subject } = this;
    const asked = await this.api.open('POST', '/v1/challenges', { subject });
    const message = { subject, challenge: asked.challenge, expiry: asked.expires };
    const answer = await this.api.open('POST', '/v1/sessions', {
      ...message,
      signature: sign(this.#identity, 'Login', message, this.deployment.deployment),
    });
    this.#token = answer.token;
    this.#until = Date.now() + 1000 * answer.expires_in;
    return this.#token;
  }
}

const kept = (subject) => JSON.parse(localStorage.getItem(KEPT) ?? '{}')[subject] ?? {};

function keep(subject, consent, item) {
  const everything = JSON.parse(localStorage.getItem(KEPT) ?? '{}');
  everything[subject] = { ...everything[subject], [consent]: item };
  localStorage.setItem(KEPT, JSON.stringify(everything));
}
