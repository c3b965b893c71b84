/** The hospital's page: reads the public API with a token. Signing stays on the command line. */
import { html, render, useEffect, useMemo, useState } from './vendor/preact.js';
import { Api } from './api.js';
import { Badge, Command, Empty, Frame, Id, Notice, ShareBar, Tile, Trouble, Views, When, useLoaded, useView } from './parts.js';
import { Icon } from './icons.js';
import { count, loadTexts, t, word } from './text.js';
import { AskToken, apiOf, dropToken, takeToken } from './token.js';
import { PURPOSES } from './words.js';

const VIEWS = ['publications', 'find', 'requests', 'jobs'];
const ENDED = ['done', 'failed', 'refused', 'stopped'];
const TONES = {
  published: 'good', done: 'good', closed: 'good', decided: 'info', streaming: 'info', running: 'info',
  inspecting: 'info', received: 'info', queued: 'warn', draft: 'warn', refused: 'bad', failed: 'bad',
  denied: 'bad', stopped: 'bad', retired: 'plain',
};
const Status = ({ value }) => html`<${Badge} tone=${TONES[value] ?? 'plain'}>${word('status', value)}</${Badge}>`;
const few = (value) => (value === null ? t('hospital.few') : value);

function Page({ first }) {
  const [token, setToken] = useState(first);
  const leave = () => {
    setToken(null);
    return dropToken('hospital', token);
  };
  return html`<${Frame} role=${t('hospital.role')} leave=${token && leave}>
    ${token ? html`<${Home} key=${token} token=${token} />` : html`<${AskToken} role="hospital" entered=${setToken} />`}
  </${Frame}>`;
}

function Home({ token }) {
  const api = useMemo(() => apiOf(token), [token]);
  const view = useView(VIEWS);
  const loaded = useLoaded(async () => {
    const [own, requests, jobs, models, deployment] = await Promise.all([
      api.get('/v1/hospital/datasets'), api.get('/v1/requests'), api.get('/v1/jobs'), api.get('/v1/models'),
      new Api().open('GET', '/v1/deployment'),
    ]);
    return { own: own.items, requests: requests.items, jobs: jobs.items, models: models.items, deployment };
  }, [api, view]);
  if (!loaded.value) {
    return loaded.error ? html`<${Trouble} error=${loaded.error} again=${loaded.again} />`
      : html`<p class="loading" role="status">${t('loading')}</p>`;
  }
  const { own, requests, jobs } = loaded.value;
  return html`
    <div class="hero"><h1>${t('hospital.title')}</h1>
      <div class="tiles">
        <${Tile} figure=${own.filter((one) => one.status === 'published').length} label=${t('hospital.tile.published')} />
        <${Tile} figure=${requests.length} label=${t('hospital.tile.requests')} />
        <${Tile} figure=${jobs.filter((one) => !ENDED.includes(one.status)).length} label=${t('hospital.tile.running')} />
        <${Tile} figure=${jobs.filter((one) => one.status === 'done').length} label=${t('hospital.tile.done')} />
      </div></div>
    <${Views} label=${t('hospital.views')} at=${view} views=${[
      ['publications', 'file', t('hospital.view.publications')],
      ['find', 'search', t('hospital.view.find')],
      ['requests', 'arrow', t('hospital.view.requests')],
      ['jobs', 'play', t('hospital.view.jobs')],
    ]} />
    <${Trouble} error=${loaded.error} again=${loaded.again} />
    ${view === 'publications' && html`<${Publications} own=${own} />`}
    ${view === 'find' && html`<${Find} api=${api} />`}
    ${view === 'requests' && html`<${Requests} ...${{ api, requests, own }} />`}
    ${view === 'jobs' && html`<${Jobs} ...${{ api, ...loaded.value }} />`}`;
}

function Publications({ own }) {
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

function Find({ api }) {
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const found = useLoaded(() => api.all(`/v1/datasets?text=${encodeURIComponent(asked)}`), [api, asked]);
  const search = (event) => {
    event.preventDefault();
    setAsked(text);
  };
  return html`<section aria-labelledby="find-title"><h2 id="find-title">${t('find.title')}</h2>
    <form class="inline" onSubmit=${search} role="search">
      <label for="find">${t('find.label')}</label>
      <div class="row-tight"><input id="find" type="search" value=${text} onInput=${(e) => setText(e.target.value)} />
      <button class="main"><${Icon} name="search" size="16" />${t('find.go')}</button></div></form>
    <${Trouble} error=${found.error} again=${found.again} />
    <p class="small muted" aria-live="polite">${found.value && count('find.count', found.value.length)}</p>
    ${found.value?.length === 0 && html`<${Empty} icon="search" title=${t('find.none')}>${t('find.none.text')}</${Empty}>`}
    <ul class="stack plain-list">${found.value?.map((one) => html`<${Found} key=${one.dataset} item=${one} />`)}</ul>
  </section>`;
}

function Found({ item }) {
  const [purpose, setPurpose] = useState('HRESCH');
  const field = `purpose-${item.dataset}`;
  return html`<li class="card"><div class="consent-head"><${Badge} icon="building">${item.publisher}</${Badge}>
      <span class="small">${word('kind', item.kind)} · ${t('held.version', { n: item.version })}</span></div>
    <h3>${item.title}</h3>
    ${item.description && html`<p>${item.description}</p>`}
    <p>${t('find.size', { subjects: few(item.subjects), records: few(item.records) })}
      ${' '}${item.categories.map((code) => html`<${Badge}>${word('category', code)}</${Badge}> `)}</p>
    ${item.columns && html`<p class="small">${t('find.columns', { columns: item.columns.map((one) => one.name).join(', ') })}</p>`}
    <details><summary>${t('find.ask')}</summary>
      <p>${t('find.ask.text')}</p>
      <label for=${field}>${t('find.purpose')}</label>
      <select id=${field} value=${purpose} onChange=${(e) => setPurpose(e.target.value)}>
        ${PURPOSES.map((code) => html`<option value=${code}>${word('purpose', code)} (${code})</option>`)}</select>
      <${Command} label=${t('find.ask')} text=${`assent hospital request ${item.dataset} --purpose ${purpose}`} />
    </details></li>`;
}

function Requests({ api, requests, own }) {
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

/** Reasons by count: for the hospital that publishes the records. */
function Why({ api, release }) {
  const [open, setOpen] = useState(false);
  const found = useLoaded(async () => (open ? api.get(`/v1/requests/${release}/withheld`) : null), [open]);
  return html`<details onToggle=${(e) => setOpen(e.target.open)}><summary>${t('requests.why')}</summary>
    <${Trouble} error=${found.error} />
    <dl>${Object.entries(found.value?.reasons ?? {}).map(([reason, n]) => html`
      <dt>${word('reason', reason)}</dt><dd>${n}</dd>`)}</dl></details>`;
}

function Jobs({ api, jobs, models, deployment }) {
  const names = new Map(deployment.orgs.map((org) => [org.org, org.name]));
  return html`<section aria-labelledby="jobs-title"><h2 id="jobs-title">${t('jobs.title')}</h2>
    ${jobs.length === 0
      ? html`<${Empty} icon="play" title=${t('jobs.none')}>${t('jobs.none.text')}</${Empty}>`
      : html`<ul class="stack plain-list">${jobs.map((one) => html`<${Job} key=${one.job} api=${api} first=${one} />`)}</ul>`}
    <h2>${t('models.title')}</h2>
    ${models.length === 0 ? html`<p class="muted">${t('models.none')}</p>`
      : html`<ul class="cards plain-list">${models.map((one) => html`<li class="card">
          <h3>${one.card?.name ?? one.name ?? t('models.unnamed')}</h3>
          <p>${names.get(one.org) ?? ''} <${Id} value=${one.model ?? one.digest} /></p></li>`)}</ul>`}
  </section>`;
}

/** A job with live progress while it runs. */
function Job({ api, first }) {
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
    <p><${Id} value=${job.job} />${job.detail && html` <span class="small">${job.detail}</span>`}</p>
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

const token = takeToken('hospital');
await loadTexts();
document.title = t('hospital.pagetitle');
document.getElementById('page').replaceChildren();
render(html`<${Page} first=${token} />`, document.getElementById('page'));
