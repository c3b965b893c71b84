/** The hospital's page: a plain client of the public API. Publishing and opening records are commands. */
import { html, render, useMemo, useState } from './vendor/preact.js';
import { Api } from './api.js';
import { Enter } from './enter.js';
import { arrived } from './member.js';
import { Frame, Tile, Trouble, Views, useLoaded, useView } from './parts.js';
import { ENDED } from './hospital/asking.js';
import { Find } from './hospital/find.js';
import { Jobs } from './hospital/jobs.js';
import { Publications } from './hospital/publications.js';
import { Requests } from './hospital/requests.js';
import { loadTexts, t } from './text.js';
import { namesOf } from './words.js';

const VIEWS = ['publications', 'find', 'requests', 'jobs'];

function Page({ first }) {
  const [member, setMember] = useState(first);
  const leave = () => {
    setMember(null);
    return member.leave();
  };
  const opened = (holder) => {
    member.forget();
    setMember(holder);
  };
  return member
    ? html`<${Home} ...${{ member, opened, leave }} />`
    : html`<${Frame} role=${t('hospital.role')}><${Enter} role="hospital" entered=${setMember} /></${Frame}>`;
}

function Home({ member, opened, leave }) {
  const { api } = member;
  const view = useView(VIEWS);
  const loaded = useLoaded(async () => {
    const [own, requests, jobs, models, catalogue, deployment] = await Promise.all([
      api.get('/v1/hospital/datasets'), api.get('/v1/requests'), api.get('/v1/jobs'), api.get('/v1/models'),
      api.all('/v1/datasets'), new Api().open('GET', '/v1/deployment'),
    ]);
    return { own: own.items, requests: requests.items, jobs: jobs.items, models: models.items, catalogue, deployment };
  }, [api, view]);
  const { value, error, again } = loaded;
  const names = useMemo(() => (value ? namesOf(value.deployment) : new Map()), [value]);
  return html`<${Frame} role=${t('hospital.role')} who=${names.get(member.org)} leave=${leave}>
    <${Trouble} error=${error} again=${again} />
    ${!value && !error && html`<p class="loading" role="status">${t('loading')}</p>`}
    ${value && html`<${Shown} ...${{ ...value, member, opened, view, names, changed: again }} />`}
  </${Frame}>`;
}

function Shown({ own, requests, jobs, models, catalogue, deployment, member, opened, view, names, changed }) {
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
    ${view === 'publications' && html`<${Publications} own=${own} />`}
    ${view === 'find' && html`<${Find} ...${{ member, opened, deployment, changed }} />`}
    ${view === 'requests' && html`<${Requests} ...${{ api: member.api, requests, own }} />`}
    ${view === 'jobs' && html`<${Jobs} ...${{ api: member.api, jobs, models, catalogue, names }} />`}`;
}

const here = arrived('hospital');
await loadTexts();
document.title = t('hospital.pagetitle');
document.getElementById('page').replaceChildren();
render(html`<${Page} first=${here} />`, document.getElementById('page'));
