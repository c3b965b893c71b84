/** Every use and every refusal: who, why, when, what became of it, and the leaf that proves it. */
import { html, useMemo, useState } from '../vendor/preact.js';
import { Icon } from '../icons.js';
import { Badge, Empty, Trouble, When } from '../parts.js';
import { count, date, listed, t, word } from '../text.js';
import { categories, orgName, outcomeOf } from '../words.js';

const DAYS = 14;
const DAY_MS = 86_400_000;

export function History({ session, accesses, names }) {
  const [only, setOnly] = useState('all');
  const shown = useMemo(
    () => [...accesses].reverse().filter((one) => only === 'all' || (isRefusal(one) ? 'refused' : 'used') === only),
    [accesses, only],
  );
  return html`<section aria-labelledby="history-title">
    <div class="row"><h2 id="history-title">${t('history.title')}</h2>
      <div class="filter" role="group" aria-label=${t('history.filter')}>
        ${['all', 'used', 'refused'].map((name) => html`<button type="button" aria-pressed=${only === name}
          onClick=${() => setOnly(name)}>${t(`history.filter.${name}`)}</button>`)}</div></div>
    <p class="muted">${t('history.lead')}</p>
    ${accesses.length > 0 && html`<${Bars} accesses=${accesses} />`}
    ${shown.length === 0
      ? html`<${Empty} icon="eye" title=${t('history.none')}>${t('history.none.text')}</${Empty}>`
      : html`<ol class="timeline plain-list">${shown.map((one) => html`
          <${Access} key=${one.leaf} access=${one} ...${{ session, names }} />`)}</ol>`}
  </section>`;
}

const isRefusal = (access) => !access.erased && access.decision !== 'permit';

function Access({ access, session, names }) {
  if (access.erased) {
    return html`<li class="entry"><p>${t('history.erased')}</p><p class="small"><${When} ms=${access.at} /></p>
      <${Proof} leaf=${access.leaf} session=${session} /></li>`;
  }
  const outcome = outcomeOf(access);
  return html`<li class="entry" data-outcome=${outcome.key}>
    <span class=${`dot ${outcome.tone}`}><${Icon} name=${outcome.icon} size="16" /></span>
    <div class="entry-body">
      <p class="sentence">${t(`history.asked.${access.action}`, {
        who: access.name ?? orgName(names, access.requester),
        what: categories(access.categories),
        why: word('purpose', access.purpose),
      })}</p>
      <p class="entry-meta"><${Badge} tone=${outcome.tone} icon=${outcome.icon}>${t(`outcome.${outcome.key}`)}</${Badge}>
        <span><${When} ms=${access.at} /></span>
        ${access.title && html`<span>${access.title}</span>`}
        <span>${word('accessKind', access.kind)}</span></p>
      ${access.reasons.length > 0 && html`<p class="small">${t('history.because', {
        reasons: listed(access.reasons.map((reason) => word('reason', reason))),
      })}</p>`}
    </div>
    <${Proof} leaf=${access.leaf} session=${session} />
  </li>`;
}

/** A leaf's number; a tap fetches its receipt and checks the exchange's signature here. */
function Proof({ leaf, session }) {
  const [state, setState] = useState('idle');
  const [error, setError] = useState(null);
  const check = async () => {
    setState('busy');
    setError(null);
    try {
      setState((await session.receipt(leaf)).holds ? 'good' : 'bad');
    } catch (problem) {
      setError(problem);
      setState('idle');
    }
  };
  const tone = { good: 'good', bad: 'bad' }[state] ?? 'plain';
  return html`<div class="proof-badge">
    <button type="button" class=${`badge ${tone}`} onClick=${check} title=${t('proof.check')}
      aria-label=${t(`proof.${state}`, { leaf })}>
      <${Icon} name=${state === 'good' ? 'shieldCheck' : state === 'bad' ? 'alert' : 'chain'} size="15" />
      <span aria-live="polite">${t(`proof.${state}`, { leaf })}</span></button>
    <${Trouble} error=${error} />
  </div>`;
}

/** Uses and refusals of the last two weeks, a column a day. The list below says the same in words. */
function Bars({ accesses }) {
  const today = Math.floor(Date.now() / DAY_MS);
  const days = Array.from({ length: DAYS }, (_, at) => ({ day: today - DAYS + 1 + at, used: 0, refused: 0 }));
  for (const access of accesses) {
    const found = days.find((one) => one.day === Math.floor(access.at / DAY_MS));
    if (found) found[isRefusal(access) ? 'refused' : 'used'] += 1;
  }
  const most = Math.max(1, ...days.map((one) => one.used + one.refused));
  const sum = (key) => days.reduce((total, one) => total + one[key], 0);
  const text = `${count('history.chart.used', sum('used'))} ${count('history.chart.refused', sum('refused'))}`;
  return html`<figure class="chart">
    <svg viewBox="0 0 280 64" preserveAspectRatio="none" role="img" aria-label=${text}>
      <line x1="0" x2="280" y1="63.500" y2="63.500" class="axis" />
      ${days.map((one, at) => {
        const [high, low] = [(56 * one.used) / most, (56 * one.refused) / most];
        return html`<g><rect class="bar-refused" x=${at * 20 + 4} y=${63 - low} width="12" height=${low} />
          <rect class="bar-used" x=${at * 20 + 4} y=${63 - low - high} width="12" height=${high} />
          <title>${date(one.day * DAY_MS)}: ${one.used} / ${one.refused}</title></g>`;
      })}
    </svg>
    <p class="chart-ends small muted" aria-hidden="true"><span>${date(days[0].day * DAY_MS)}</span><span>${t('history.chart.today')}</span></p>
    <figcaption><span class="key used"></span>${count('history.chart.used', sum('used'))}
      <span class="key refused"></span>${count('history.chart.refused', sum('refused'))}
      <span class="muted">${t('history.chart.days', { n: DAYS })}</span></figcaption>
  </figure>`;
}
