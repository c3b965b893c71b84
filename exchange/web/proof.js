/**
 * Checks of the log, made in the browser: signatures, inclusion, and the whole tree with every
 * subject's two chains. What a chain holds is not asked here; `python -m ledger` does that.
 */
import { equal, fromHex, toHex, toNumber } from './bytes.js';
import { isConsistent, isIncluded, leafHash, rootOf } from './merkle.js';
import { isSignedBy } from './sign.js';

const PAGE = 1000;

/** Steps of checking one leaf: told as `{key, holds, values}`, in order, until one fails. */
export async function checkLeaf(api, deployment, index, told) {
  const { items } = await api.get('/v1/checkpoints?limit=1');
  if (items.length === 0) return told({ key: 'checkpoint', holds: false, values: {} });
  const [checkpoint] = items;
  if (!signed(checkpoint, deployment, told)) return undefined;
  const { skeletons } = await api.get(`/v1/leaves?from=${index}&to=${index + 1}`);
  if (skeletons.length !== 1 || index >= checkpoint.size) {
    return told({ key: 'leaf', holds: false, values: { index, size: checkpoint.size } });
  }
  const leaf = leafHash(fromHex(skeletons[0], 142));
  told({ key: 'leaf', holds: true, values: { index, hash: toHex(leaf).slice(0, 18) } });
  const proof = await api.get(`/v1/proofs/inclusion?index=${index}&size=${checkpoint.size}`);
  const hashes = proof.hashes.map((hash) => fromHex(hash, 32));
  const holds = isIncluded(leaf, index, checkpoint.size, hashes, fromHex(checkpoint.root, 32));
  return told({ key: 'inclusion', holds, values: { index, size: checkpoint.size, n: hashes.length } });
}

/** Steps of reading the whole log: its root, the older checkpoints, every subject's chains. */
export async function checkLog(api, deployment, told) {
  const { items } = await api.get('/v1/checkpoints?limit=20');
  if (items.length === 0) return told({ key: 'checkpoint', holds: false, values: {} });
  const [checkpoint] = items;
  if (!signed(checkpoint, deployment, told)) return undefined;
  const skeletons = [];
  while (skeletons.length < checkpoint.size) {
    const to = Math.min(skeletons.length + PAGE, checkpoint.size);
    const page = await api.get(`/v1/leaves?from=${skeletons.length}&to=${to}`);
    if (page.skeletons.length === 0) break;
    skeletons.push(...page.skeletons.map((text) => fromHex(text, 142)));
  }
  const hashes = skeletons.map(leafHash);
  const whole = hashes.length === checkpoint.size && equal(rootOf(hashes), fromHex(checkpoint.root, 32));
  told({ key: 'root', holds: whole, values: { size: checkpoint.size } });
  if (!whole) return undefined;
  const forked = firstFork(skeletons, hashes);
  told({ key: 'chains', holds: forked === null, values: { index: forked ?? '', n: subjectsIn(skeletons) } });
  const older = items.slice(1);
  for (const before of older) {
    const proof = await api.get(`/v1/proofs/consistency?first=${before.size}&second=${checkpoint.size}`);
    const holds = isSignedBy(deployment.exchange, 'Checkpoint', before, before.signature, deployment.deployment) &&
      isConsistent(before.size, checkpoint.size, proof.hashes.map((hash) => fromHex(hash, 32)),
        fromHex(before.root, 32), fromHex(checkpoint.root, 32));
    if (!holds) return told({ key: 'older', holds, values: { size: before.size } });
  }
  return told({ key: 'older', holds: true, values: { n: older.length } });
}

function signed(checkpoint, deployment, told) {
  const holds = isSignedBy(deployment.exchange, 'Checkpoint', checkpoint, checkpoint.signature, deployment.deployment);
  told({ key: 'signature', holds, values: { size: checkpoint.size, key: deployment.exchange.slice(0, 12) } });
  return holds;
}

/** Which chain a kind of leaf belongs to (D15): consent, access, or none. */
const chainOf = (kind) => (kind <= 15 ? 'consent' : kind <= 31 ? 'access' : null);

/** A skeleton's members: version, kind, at, handle, seq, prev, consent id, body hash. */
const read = (skeleton) => ({
  chain: chainOf(skeleton[1]),
  handle: toHex(skeleton.slice(10, 42)),
  seq: Number(toNumber(skeleton.slice(42, 46))),
  prev: skeleton.slice(46, 78),
});

/** The first leaf that does not follow the head of its subject's chain; null if all do. */
function firstFork(skeletons, hashes) {
  const heads = new Map();
  for (let index = 0; index < skeletons.length; index++) {
    const leaf = read(skeletons[index]);
    if (leaf.chain === null) continue;
    const key = `${leaf.chain}:${leaf.handle}`;
    const head = heads.get(key) ?? { seq: 0, hash: new Uint8Array(32) };
    if (leaf.seq !== head.seq || !equal(leaf.prev, head.hash)) return index;
    heads.set(key, { seq: leaf.seq + 1, hash: hashes[index] });
  }
  return null;
}

const subjectsIn = (skeletons) =>
  new Set(skeletons.map(read).filter((leaf) => leaf.chain === 'consent').map((leaf) => leaf.handle)).size;
