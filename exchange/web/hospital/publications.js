/** What the hospital has published, with the reports of its de-identification and quality. */
import { html } from '../vendor/preact.js';
import { Command, Empty, Id, Notice, ShareBar } from '../parts.js';
import { count, t, word } from '../text.js';
import { Status } from './status.js';

export function Publications({ own }) {
  return html`<section aria-labelledby="own-title"><h2 id="own-title">${t('own.title')}</h2>
    ${own.length === 0
      ? html`<${Empty} icon="file" title=${t('own.none')}>${t('own.none.text')}</${Empty}>`
      : html`<ul class="stack plain-list">${own.map((one) => html`<li class="card" key=${one.dataset + one.version}>
          <div class="consent-head"><${Status} value=${one.status} />
            <span class="small">${t('held.version', { n: one.version })} · ${word('kind', one.kind)}</span></div>
          <h3>${one.title}</h3>
          <p>${count('own.records', one.records ?? 0)} ${count('own.subjects', one.subjects ?? 0)} <${Id} value=${one.dataset} /></p>
          <${Report} report=${one.report} quality=${one.quality} />
        </li>`)}</ul>`}
    <${Notice} icon="key" title=${t('own.publish')}><p>${t('own.publish.text')}</p>
      <${Command} label=${t('own.publish')} text=${'assent hospital publish records.ndjson --form fhir --title "…"'} /></${Notice}>
  </section>`;
}

function Report({ report, quality }) {
  const deid = report?.deidentification;
  const own = quality ?? report?.quality;
  if (!deid && !own) return null;
  const found = Object.entries(deid?.counts ?? {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  const unfit = Object.entries(own?.unfit ?? {});
  return html`<details><summary>${t('report.title')}</summary>
    <div class="two">
      ${deid && html`<div><h4>${t('report.deid')}</h4>
        <p>${t('report.deid.text', { released: deid.released, records: deid.records, profile: deid.profile })}</p>
        ${found.length > 0 && html`<table><caption>${t('report.removed')}</caption><tbody>${found.map(([kind, n]) => html`
          <tr><th scope="row">${kind.toLowerCase().replaceAll('_', ' ')}</th><td>${n}</td></tr>`)}</tbody></table>`}
      </div>`}
      ${own && html`<div><h4>${t('report.quality')}</h4>
        <p>${t('report.quality.text', { passed: own.passed, checked: own.checked })}</p>
        <${ShareBar} parts=${[{ value: own.passed, tone: 'used' }, { value: own.checked - own.passed, tone: 'refused' }]} />
        ${unfit.length > 0 && html`<table><caption>${t('report.unfit')}</caption><tbody>${unfit.map(([reason, n]) => html`
          <tr><th scope="row">${reason}</th><td>${n}</td></tr>`)}</tbody></table>`}
        ${own.refused && html`<p>${t('report.refused', { reason: own.refused })}</p>`}
      </div>`}
    </div></details>`;
}
