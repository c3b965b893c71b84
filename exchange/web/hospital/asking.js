/** What a hospital signs on this page: a request for records, and a count. Twin of exchange.hospital.request. */
import { Problem } from '../api.js';
import { concat, fromHex, random, toHex, utf8 } from '../bytes.js';
import { newReceiveKey, openSealed } from '../hpke.js';

export const ENDED = ['done', 'failed', 'refused', 'stopped'];
const now = () => Math.floor(Date.now() / 1000);
const nonce = () => toHex(random(16));

/** A request for the records of a dataset version. `receiveKey` is the hospital's own, from its card. */
export const requestDocument = (item, { org, purpose, receiveKey }) => ({
  kind: 'assent.request/1',
  requester: org,
  dataset: item.dataset,
  version: item.version,
  purpose,
  categories: [...item.categories].sort(),
  action: 'disclose',
  receiveKey,
  nonce: nonce(),
  at: now(),
});

/** A count over a dataset version: a query that computes inside and hands no record over. */
export const countDocument = (item, { org, purpose, receiveKey, filters }) => ({
  kind: 'assent.job/1',
  job: 'query',
  requester: org,
  dataset: item.dataset,
  version: item.version,
  purpose,
  categories: [...item.categories].sort(),
  action: 'use',
  model: null,
  parameters: { filters, want: 'count' },
  slots: null,
  receiveKey,
  nonce: nonce(),
  at: now(),
});

/** Signs a request and hands it in; the answer, a denial included: `{release, decision, permitted, withheld}`. */
export async function ask(member, deployment, item, purpose) {
  const own = deployment.orgs.find((org) => org.org === member.org);
  const request = requestDocument(item, { org: member.org, purpose, receiveKey: own.receiveKey });
  const signature = member.sign(request, deployment.deployment);
  try {
    return await member.api.create('/v1/requests', { request, signature });
  } catch (error) {
    if (error instanceof Problem && error.slug === 'denied') return error.document;
    throw error;
  }
}

/** Signs a count, follows it, and opens its answer here. `told(job)` hears of every step. */
export async function countInside(member, deployment, item, { purpose, filters }, told) {
  const key = await newReceiveKey();
  const spec = countDocument(item, { org: member.org, purpose, receiveKey: key.publicKey, filters });
  const signature = member.sign(spec, deployment.deployment);
  let job = await member.api.create('/v1/queries', { spec, signature });
  told(job);
  if (!ENDED.includes(job.status)) {
    await member.api.events(`/v1/jobs/${job.job}/events`, (event) => {
      job = event.data;
      told(job);
    });
  }
  if (!ENDED.includes(job.status)) job = await member.api.get(`/v1/jobs/${job.job}`);
  if (job.status !== 'done') return { job, answer: null };
  const sealed = await member.api.bytes(`/v1/jobs/${job.job}/result`);
  const info = concat(utf8('assent result/1'), fromHex(job.job, 16));
  const plain = await openSealed(key, sealed, info);
  return { job, answer: JSON.parse(new TextDecoder().decode(plain)) };
}
