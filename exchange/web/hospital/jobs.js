/** The hospital's jobs with live progress, and the models that are registered. */
import { html, useEffect, useState } from '../vendor/preact.js';
import { Empty, Id, Trouble, When } from '../parts.js';
import { t, word } from '../text.js';
import { ENDED } from './asking.js';
import { orgName } from '../words.js';
import { Status, detailOf, few } from './status.js';

export function Jobs({ api, jobs, models, catalogue, names }) {
  const titles = new Map(catalogue.map((item) => [item.dataset, item.title]));
  return html`<section aria-labelledby="jobs-title"><h2 id="jobs-title">${t('jobs.title')}</h2>
    ${jobs.length === 0
      ? html`<${Empty} icon="play" title=${t('jobs.none')}>${t('jobs.none.text')}</${Empty}>`
      : html`<ul class="stack plain-list">${jobs.map((one) => html`<${Job} key=${one.job} ...${{ api, first: one, titles }} />`)}</ul>`}
    <h2>${t('models.title')}</h2>
    ${models.length === 0 ? html`<p class="muted">${t('models.none')}</p>`
      : html`<ul class="cards plain-list">${models.map((one) => html`<li class="card">
          <h3>${one.card?.name ?? t('models.unnamed')}</h3>
          <p>${orgName(names, one.org)} <${Id} value=${one.model} /></p></li>`)}</ul>`}
  </section>`;
}

/** A job with live progress while it runs. */
function Job({ api, first, titles }) {
  const [job, setJob] = useState(first);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (ENDED.includes(first.status)) return undefined;
    const ended = new AbortController();
    api.events(`/v1/jobs/${first.job}/events`, (event) => setJob(event.data), { signal: ended.signal })
      .catch((problem) => ended.signal.aborted || setError(problem));
    return () => ended.abort();
  }, [first.job]);
  const running = !ENDED.includes(job.status);
  return html`<li class="card" data-job=${job.job} data-status=${job.status}>
    <div class="consent-head"><${Status} value=${job.status} /><span class="small"><${When} ms=${job.created} /></span></div>
    <h3>${word('accessKind', job.kind)}</h3>
    <p>${titles.get(job.dataset) && html`${titles.get(job.dataset)} `}<${Id} value=${job.job} /></p>
    ${job.detail && html`<p class="small">${detailOf(job.detail)}</p>`}
    ${running && html`<label class="small" for=${job.job}>${t('jobs.progress', { n: job.progress })}</label>
      <progress id=${job.job} max="100" value=${job.progress}></progress>`}
    <dl class="figures">
      <div><dt>${t('jobs.covered')}</dt><dd>${job.covered ?? '–'}</dd></div>
      <div><dt>${t('requests.withheld')}</dt><dd>${few(job.withheld)}</dd></div>
      ${!running && html`<div><dt>${t('jobs.used')}</dt><dd>${job.used ?? '–'}</dd></div>
        <div><dt>${t('jobs.dropped')}</dt><dd>${job.dropped ?? '–'}</dd></div>`}
    </dl>
    <${Trouble} error=${error} /></li>`;
}
