/** What the hospital has asked for, what came of it, and the command that receives it. */
import { html } from '../vendor/preact.js';
import { Command, Empty, Id, ShareBar, Why, When } from '../parts.js';
import { t, word } from '../text.js';
import { Status, few } from './status.js';

export function Requests({ api, requests, own }) {
  const mine = new Set(own.map((one) => one.dataset));
  return html`<section aria-labelledby="requests-title"><h2 id="requests-title">${t('requests.title')}</h2>
    ${requests.length === 0
      ? html`<${Empty} icon="arrow" title=${t('requests.none')}>${t('requests.none.text')}</${Empty}>`
      : html`<ul class="stack plain-list">${requests.map((one) => html`<li class="card" key=${one.release}>
          <div class="consent-head"><${Status} value=${one.status} /><span class="small"><${When} ms=${one.created} /></span></div>
          <h3>${one.title}</h3>
          <p>${t('requests.for', { purpose: word('purpose', one.purpose) })} <${Id} value=${one.release} /></p>
          <dl class="figures"><div><dt>${t('requests.permitted')}</dt><dd>${one.permitted}</dd></div>
            <div><dt>${t('requests.withheld')}</dt><dd>${few(one.withheld)}</dd></div></dl>
          ${one.withheld !== null && html`<${ShareBar} parts=${[{ value: one.permitted, tone: 'used' }, { value: one.withheld, tone: 'refused' }]} />`}
          ${mine.has(one.dataset) && html`<${Why} api=${api} release=${one.release} />`}
          ${one.status === 'decided' && html`<${Command} label=${t('requests.receive')} text=${`assent hospital receive ${one.release}`} />`}
        </li>`)}</ul>`}
    <p class="small muted">${t('requests.suppressed')}</p></section>`;
}
