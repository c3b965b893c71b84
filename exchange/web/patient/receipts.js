/** What a patient can take home: signed receipts, and what lifting an objection needs. */
import { html, useState } from '../vendor/preact.js';
import { Icon } from '../icons.js';
import { Badge, Command, Notice, Trouble, save } from '../parts.js';
import { count, t } from '../text.js';

/** The leaves that speak of this patient. */
const leavesOf = (consents, accesses) =>
  [...new Set([
    ...consents.flatMap((one) => [one.leaf, one.recordedLeaf, one.endedLeaf]),
    ...accesses.flatMap((one) => [one.leaf]),
  ])].filter((leaf) => leaf !== null && leaf !== undefined).sort((a, b) => a - b);

export function Receipts({ session, consents, accesses, changed }) {
  // What was asked for when the button was pressed: entries may arrive while it is being checked.
  const [run, setRun] = useState(null);
  const [wrong, setWrong] = useState(0);
  const [error, setError] = useState(null);
  const [taken, setTaken] = useState(null);
  const leaves = leavesOf(consents, accesses);
  const fetchAll = async () => {
    setError(null);
    setRun({ done: 0, all: leaves.length });
    setWrong(0);
    const receipts = [];
    try {
      for (const leaf of leaves) {
        const { receipt, holds } = await session.receipt(leaf);
        if (!holds) setWrong((before) => before + 1);
        receipts.push(receipt);
        setRun({ done: receipts.length, all: leaves.length });
      }
    } catch (problem) {
      setError(problem);
      setRun(null);
      return;
    }
    const { deployment, exchange } = session.deployment;
    save('assent-receipts.json', `${JSON.stringify({
      version: 'assent.receipts/1', deployment, exchange, subject: session.subject, made: new Date().toISOString(),
      receipts, consents, accesses, withdrawals: session.keptHere(),
    }, null, 1)}\n`);
  };
  const takeBack = async (event) => {
    setError(null);
    try {
      const given = JSON.parse(await event.target.files[0].text());
      if (given.subject !== session.subject) throw new RangeError(t('receipts.other'));
      session.takeKept(given.withdrawals ?? {});
      setTaken(Object.keys(given.withdrawals ?? {}).length);
      changed(null);
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<section aria-labelledby="receipts-title">
    <h2 id="receipts-title">${t('receipts.title')}</h2>
    <p class="muted">${t('receipts.lead')}</p>
    <div class="two">
      <div class="card">
        <h3><${Icon} name="download" /> ${t('receipts.get')}</h3>
        <p>${count('receipts.count', leaves.length)}</p>
        <button type="button" class="main" disabled=${leaves.length === 0 || (run !== null && run.done < run.all)}
          onClick=${fetchAll}>${t('receipts.go')}</button>
        <p aria-live="polite">${run !== null && html`<${Badge} tone=${wrong ? 'bad' : 'good'} icon=${wrong ? 'alert' : 'shieldCheck'}>
          ${wrong ? count('receipts.wrong', wrong) : t('receipts.checked', { n: run.done, all: run.all })}</${Badge}>`}</p>
      </div>
      <div class="card">
        <h3><${Icon} name="key" /> ${t('receipts.back')}</h3>
        <p>${t('receipts.back.text')}</p>
        <label for="kept">${t('receipts.back.label')}</label>
        <input id="kept" type="file" accept="application/json" onChange=${takeBack} />
        <p aria-live="polite">${taken !== null && count('receipts.taken', taken)}</p>
      </div>
    </div>
    <${Trouble} error=${error} />
    <${Notice} icon="shieldCheck" title=${t('receipts.alone')}>
      <p>${t('receipts.alone.text')}</p>
      <${Command} text=${`assent patient history --json`} label=${t('receipts.command')} />
    </${Notice}>
  </section>`;
}
