/** Who may use what: every consent and objection in plain words, and the one tap that ends it. */
import { html, useState } from '../vendor/preact.js';
import { Icon } from '../icons.js';
import { Badge, Empty, Id, Notice, Trouble } from '../parts.js';
import { clock, count, date, t, word } from '../text.js';
import { sentence, stateOf } from '../words.js';

export function Overview({ session, me, consents, names, stopped, changed }) {
  const open = consents.filter((one) => one.status !== 'inactive' && !one.expired);
  const ended = consents.filter((one) => !open.includes(one));
  return html`
    <${Stopped} stopped=${stopped} />
    <section aria-labelledby="who-title">
      <div class="row"><h2 id="who-title">${t('who.title')}</h2>
        <a class="button main" href="#give"><${Icon} name="shieldCheck" size="18" />${t('who.give')}</a></div>
      ${open.length === 0
        ? html`<${Empty} icon="shield" title=${t('who.none')}>${t('who.none.text')}</${Empty}>`
        : html`<ul class="stack plain-list">${open.map((one) => html`
            <${Consent} key=${one.consent} consent=${one} ...${{ session, names, changed }} />`)}</ul>`}
      ${ended.length > 0 && html`<details class="more"><summary>${count('who.ended', ended.length)}</summary>
        <ul class="stack plain-list">${ended.map((one) => html`
          <${Consent} key=${one.consent} consent=${one} ...${{ session, names, changed }} />`)}</ul></details>`}
    </section>
    <section aria-labelledby="held-title">
      <h2 id="held-title">${t('held.title', { hospital: me.name })}</h2>
      ${me.held.length === 0
        ? html`<${Empty} icon="file" title=${t('held.none')}>${t('held.none.text')}</${Empty}>`
        : html`<ul class="cards plain-list">${me.held.map((item) => html`<li class="card held">
            <${Icon} name="file" size="22" />
            <div><h3>${item.title}</h3>
              <p>${count('held.records', item.records)} · ${word('kind', item.kind)} · ${t('held.version', { n: item.version })}</p>
              <p>${item.categories.map((code) => html`<${Badge}>${word('category', code)}</${Badge}> `)}</p></div>
          </li>`)}</ul>`}
    </section>`;
}

/** The live confirmation that a withdrawal has stopped everything it covered. */
function Stopped({ stopped }) {
  return html`<div aria-live="polite">
    ${stopped && html`<div class="notice good stopped">
      <${Icon} name="stop" size="26" />
      <div>
        <p class="notice-title">${t(stopped.confirmed ? 'stopped.title' : 'stopped.sent')}</p>
        <p>${t('stopped.text', { ms: stopped.ms, time: clock(stopped.at) })}</p>
        ${stopped.confirmed && html`<p class="small">${t('stopped.leaf', { leaf: stopped.leaf })}</p>`}
      </div></div>`}
  </div>`;
}

function Consent({ consent, session, names, changed }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const state = stateOf(consent);
  const permit = consent.decision === 'permit';
  const ends = permit ? ['draft', 'active'].includes(consent.status) && !consent.expired
    : consent.status === 'active' && !consent.lifting && !consent.expired;
  const canLift = permit || session.canLift(consent.consent);
  const act = async () => {
    setBusy(true);
    setError(null);
    const began = performance.now();
    try {
      const answer = await (permit ? session.withdraw(consent.consent) : session.lift(consent.consent));
      changed(permit ? { consent: consent.consent, leaf: answer.leaf, ms: Math.round(performance.now() - began), at: Date.now() } : null);
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  return html`<li class=${`card consent ${state.tone}`} data-consent=${consent.consent} data-state=${state.key}>
    <div class="consent-head">
      <${Badge} tone=${state.tone} icon=${state.icon}>${t(`state.${state.key}`)}</${Badge}>
      <span class="small">${t('consent.since', { date: date(consent.document.from * 1000) })}</span>
    </div>
    <p class="sentence">${sentence(consent.document, names)}</p>
    <p class="small muted">${t(`state.${state.key}.text`)}</p>
    <div class="row">
      <details class="proof"><summary>${t('consent.proof')}</summary>
        <dl>
          <dt>${t('consent.id')}</dt><dd><${Id} value=${consent.consent} /></dd>
          <dt>${t('consent.leaf')}</dt><dd>${consent.leaf}</dd>
          <dt>${t('consent.recorded')}</dt><dd>${consent.recorded ? t('consent.block', { block: consent.block }) : t('consent.notyet')}</dd>
          ${consent.endedLeaf !== null && html`<dt>${t('consent.ended')}</dt>
            <dd>${consent.endedLeaf} ${consent.endedBy && `(${word('endedBy', consent.endedBy)})`}</dd>`}
        </dl>
      </details>
      ${ends && canLift && html`<button type="button" class=${permit ? 'stop' : ''} disabled=${busy} onClick=${act}>
        <${Icon} name=${permit ? 'stop' : 'hand'} size="18" />
        ${busy ? t('consent.busy') : t(permit ? 'consent.withdraw' : 'consent.lift')}</button>`}
    </div>
    ${ends && !canLift && html`<${Notice} icon="key" tone="warn"><p>${t('consent.elsewhere')}</p></${Notice}>`}
    <${Trouble} error=${error} />
  </li>`;
}
