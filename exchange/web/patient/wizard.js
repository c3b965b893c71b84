/** Giving a consent or an objection: choose, read exactly what will be signed, sign. */
import { html, useEffect, useMemo, useRef, useState } from '../vendor/preact.js';
import { Icon } from '../icons.js';
import { Notice, Trouble } from '../parts.js';
import { consentDocument, prepare, untilDay } from '../sign.js';
import { locale, t, word } from '../text.js';
import { CATEGORIES, PURPOSES, sentence } from '../words.js';

const DAY = 86_400;
const PERIODS = [['half', 183], ['year', 365], ['two', 730], ['five', 1826], ['none', null], ['day', undefined]];

/** The first second after a day (`YYYY-MM-DD`), UTC. */
const endOf = (day) => Date.parse(`${day}T00:00:00Z`) / 1000 + DAY;
const dayAfter = (days) => new Date(Date.now() + days * DAY * 1000).toISOString().slice(0, 10);

export function Wizard({ session, me, names, done }) {
  const heldCategories = useMemo(() => [...new Set(me.held.flatMap((item) => item.categories))], [me]);
  const [wish, setWish] = useState({
    decision: 'permit',
    purposes: ['HRESCH'],
    anyPurpose: false,
    anyone: true,
    requesters: [],
    everything: heldCategories.length === 0,
    categories: heldCategories,
    actions: ['use'],
    period: 'year',
    day: dayAfter(365),
  });
  const [prepared, setPrepared] = useState(null);
  const change = (more) => setWish((before) => ({ ...before, ...more }));
  const document = draft(wish, session);
  if (prepared) {
    return html`<${Review} ...${{ prepared, session, names, done }} back=${() => {
      prepared.erase();
      setPrepared(null);
    }} />`;
  }
  const missing = problems(wish);
  const review = (event) => {
    event.preventDefault();
    if (missing.length === 0) setPrepared(prepare(draft(wish, session), session.deployment.deployment));
  };
  return html`<form class="wizard" onSubmit=${review}>
    <div class="wizard-main">
      <h2>${t('wizard.title')}</h2>
      <fieldset class="switch"><legend>${t('wizard.decision')}</legend>
        ${['permit', 'deny'].map((value) => html`<label class="choice">
          <input type="radio" name="decision" value=${value} checked=${wish.decision === value}
            onChange=${() => change({ decision: value, actions: value === 'deny' ? ['disclose', 'use'] : ['use'] })} />
          <span><b>${t(`wizard.decision.${value}`)}</b><span class="small">${t(`wizard.decision.${value}.text`)}</span></span>
        </label>`)}
      </fieldset>
      <fieldset><legend><span class="step">1</span> ${t('wizard.purpose')}</legend>
        <label class="choice wide-choice"><input type="checkbox" checked=${wish.anyPurpose}
          onChange=${(e) => change({ anyPurpose: e.target.checked })} /><span>${t('wizard.purpose.any')}</span></label>
        <div class="choices">${PURPOSES.map((code) => html`
          <${Tick} value=${code} text=${word('purpose', code)} about=${t(`purpose.${code}.text`)} disabled=${wish.anyPurpose}
            chosen=${wish.purposes} change=${(purposes) => change({ purposes })} />`)}</div>
      </fieldset>
      <fieldset><legend><span class="step">2</span> ${t('wizard.who')}</legend>
        ${[true, false].map((value) => html`<label class="choice">
          <input type="radio" name="who" checked=${wish.anyone === value} onChange=${() => change({ anyone: value })} />
          <span>${t(value ? 'wizard.who.any' : 'wizard.who.some')}</span></label>`)}
        ${!wish.anyone && html`<div class="choices inner">${session.deployment.orgs.map((org) => html`
          <${Tick} value=${org.org} text=${org.name} chosen=${wish.requesters}
            change=${(requesters) => change({ requesters })} />`)}</div>`}
      </fieldset>
      <fieldset><legend><span class="step">3</span> ${t('wizard.data')}</legend>
        <label class="choice wide-choice"><input type="checkbox" checked=${wish.everything}
          onChange=${(e) => change({ everything: e.target.checked })} /><span>${t('wizard.data.any')}</span></label>
        <div class="choices">${CATEGORIES.map((code) => html`
          <${Tick} value=${code} text=${word('category', code)} disabled=${wish.everything}
            about=${heldCategories.includes(code) ? t('wizard.data.held') : t('wizard.data.later')}
            chosen=${wish.categories} change=${(categories) => change({ categories })} />`)}</div>
        <p class="label" id="how">${t('wizard.how')}</p>
        <div class="choices" role="group" aria-labelledby="how">${['use', 'disclose'].map((code) => html`
          <${Tick} value=${code} text=${t(`wizard.how.${code}`)} about=${t(`wizard.how.${code}.text`)}
            chosen=${wish.actions} change=${(actions) => change({ actions })} />`)}</div>
      </fieldset>
      <fieldset><legend><span class="step">4</span> ${t('wizard.until')}</legend>
        <div class="choices">${PERIODS.map(([name]) => html`<label class="choice">
          <input type="radio" name="period" value=${name} checked=${wish.period === name} onChange=${() => change({ period: name })} />
          <span>${t(`wizard.until.${name}`)}</span></label>`)}</div>
        ${wish.period === 'day' && html`<label for="day">${t('wizard.until.label')}</label>
          <input id="day" type="date" min=${dayAfter(1)} value=${wish.day} required onInput=${(e) => change({ day: e.target.value })} />`}
      </fieldset>
    </div>
    <aside class="card preview" aria-live="polite" aria-label=${t('wizard.preview')}>
      <h3>${t('wizard.preview')}</h3>
      ${missing.length > 0
        ? html`<ul class="missing">${missing.map((key) => html`<li>${t(key)}</li>`)}</ul>`
        : html`<p class="sentence">${sentence(document, names)}</p>`}
      <p class="small muted">${t(`wizard.note.${wish.decision}`)}</p>
      <button class="main" disabled=${missing.length > 0}>${t('wizard.review')} <${Icon} name="arrow" size="16" /></button>
    </aside>
  </form>`;
}

function Tick({ value, text, about, chosen, change, disabled = false }) {
  const turn = (event) =>
    change(event.target.checked ? [...chosen, value] : chosen.filter((other) => other !== value));
  return html`<label class="choice"><input type="checkbox" value=${value} disabled=${disabled}
    checked=${disabled || chosen.includes(value)} onChange=${turn} />
    <span>${text}${about && html`<span class="small">${about}</span>`}</span></label>`;
}

/** The document that a wish stands for. */
function draft(wish, session) {
  const starts = Math.floor(Date.now() / 1000);
  const days = PERIODS.find(([name]) => name === wish.period)[1];
  const ends = days === null ? null : endOf(days === undefined ? wish.day : dayAfter(days));
  return consentDocument({
    subject: session.subject,
    decision: wish.decision,
    purposes: wish.anyPurpose ? null : wish.purposes,
    requesters: wish.anyone ? null : wish.requesters,
    categories: wish.everything ? null : wish.categories,
    actions: wish.actions,
    starts,
    ends,
    notice: session.deployment.notice[locale()].hash,
    locale: locale(),
  });
}

function problems(wish) {
  const found = [];
  if (!wish.anyPurpose && wish.purposes.length === 0) found.push('wizard.missing.purpose');
  if (!wish.anyone && wish.requesters.length === 0) found.push('wizard.missing.who');
  if (!wish.everything && wish.categories.length === 0) found.push('wizard.missing.data');
  if (wish.actions.length === 0) found.push('wizard.missing.how');
  if (wish.period === 'day' && !(endOf(wish.day) > Date.now() / 1000)) found.push('wizard.missing.until');
  return found;
}

/** Exactly what will be signed: the sentence, the notice, every member of the terms. */
function Review({ prepared, session, names, back, done }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  const { document, terms } = prepared;
  const notice = session.deployment.notice[document.locale];
  const permit = document.decision === 'permit';
  const sign = async () => {
    setBusy(true);
    setError(null);
    try {
      done(await session.give(prepared));
    } catch (problem) {
      // The consent key has signed and is gone: what was prepared cannot be signed again.
      setError(problem);
    }
  };
  return html`<section class="card narrow review" aria-labelledby="review-title">
    <h2 id="review-title" tabindex="-1" ref=${heading}>${t(permit ? 'review.title' : 'review.title.deny')}</h2>
    <p class="sentence big">${sentence(document, names)}</p>
    <ul class="ticks">
      ${['first', 'second', 'third'].map((name) => html`<li><${Icon} name="check" size="16" />
        ${t(`review.${document.decision}.${name}`)}</li>`)}
    </ul>
    <details><summary>${t('review.notice')}</summary><p class="notice-text">${notice.text}</p></details>
    <details><summary>${t('review.exact')}</summary>
      <p class="small">${t('review.exact.text')}</p>
      <dl class="exact">${Object.entries(terms).map(([name, value]) => html`
        <dt>${name}</dt><dd>${spelled(name, value)}</dd>`)}
        <dt>${t('review.chain')}</dt><dd>${t('review.chain.text', { id: prepared.id, day: untilDay(terms.until) })}</dd></dl>
    </details>
    <${Trouble} error=${error} />
    <div class="row end">
      <button type="button" onClick=${back}>${t('review.back')}</button>
      <button type="button" class="main" disabled=${busy} onClick=${sign}>
        <${Icon} name=${permit ? 'shieldCheck' : 'hand'} size="18" />
        ${t(busy && !error ? 'review.busy' : permit ? 'review.sign' : 'review.sign.deny')}</button>
    </div>
    ${error && html`<${Notice} icon="arrow"><p>${t('review.again')}</p></${Notice}>`}
  </section>`;
}

function spelled(name, value) {
  if (value === null) return t('review.never');
  if (['from', 'until', 'signBy'].includes(name)) return `${value} (${new Date(value * 1000).toISOString().replace('.000Z', 'Z')})`;
  return String(value);
}
