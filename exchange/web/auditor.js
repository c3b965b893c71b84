/** The auditor's page: the log, its proofs checked in this browser, and evidence to take away. */
import { html, render, useState } from './vendor/preact.js';
import { Api } from './api.js';
import { Enter } from './enter.js';
import {
  Badge, Command, Empty, Frame, Id, Notice, Tile, Trouble, Views, When, Why, save, useLoaded, useView,
} from './parts.js';
import { Icon } from './icons.js';
import { arrived } from './member.js';
import { checkLeaf, checkLog } from './proof.js';
import { count, loadTexts, t, word } from './text.js';
import { namesOf, orgName } from './words.js';

const VIEWS = ['log', 'accesses', 'offline'];

function Page({ first }) {
  const [member, setMember] = useState(first);
  const leave = () => {
    setMember(null);
    return member.leave();
  };
  return html`<${Frame} role=${t('auditor.role')} leave=${member && leave}>
    ${member ? html`<${Home} api=${member.api} />` : html`<${Enter} role="auditor" entered=${setMember} />`}
  </${Frame}>`;
}

function Home({ api }) {
  const view = useView(VIEWS);
  const loaded = useLoaded(async () => {
    const [checkpoints, accesses, leaves, deployment] = await Promise.all([
      api.get('/v1/checkpoints?limit=20'), api.all('/v1/accesses'), api.get('/v1/leaves?from=0&to=1'),
      new Api().open('GET', '/v1/deployment'),
    ]);
    return { checkpoints: checkpoints.items, accesses, size: leaves.size, deployment };
  }, [api, view]);
  if (!loaded.value) {
    return loaded.error ? html`<${Trouble} error=${loaded.error} again=${loaded.again} />`
      : html`<p class="loading" role="status">${t('loading')}</p>`;
  }
  const { checkpoints, accesses, size, deployment } = loaded.value;
  const anchored = checkpoints.find((one) => one.status === 'anchored');
  return html`
    <div class="hero"><h1>${t('auditor.title')}</h1>
      <p class="lead">${t('auditor.lead')}</p>
      <div class="tiles">
        <${Tile} figure=${size} label=${count('auditor.tile.leaves', size)} />
        <${Tile} figure=${anchored?.size ?? '–'} label=${t('auditor.tile.anchored')} />
        <${Tile} figure=${anchored ? size - anchored.size : size} label=${t('auditor.tile.waiting')} />
        <${Tile} figure=${accesses.length} label=${count('auditor.tile.accesses', accesses.length)} />
      </div></div>
    <${Views} label=${t('auditor.views')} at=${view} views=${[
      ['log', 'chain', t('auditor.view.log')],
      ['accesses', 'eye', t('auditor.view.accesses')],
      ['offline', 'scale', t('auditor.view.offline')],
    ]} />
    <${Trouble} error=${loaded.error} again=${loaded.again} />
    ${view === 'log' && html`<${Log} ...${{ api, checkpoints, deployment, size }} />`}
    ${view === 'accesses' && html`<${Accesses} ...${{ api, accesses, deployment }} />`}
    ${view === 'offline' && html`<${Offline} deployment=${deployment} />`}`;
}

function Log({ api, checkpoints, deployment, size }) {
  const [leaf, setLeaf] = useState('0');
  return html`<section aria-labelledby="log-title">
    <h2 id="log-title">${t('log.title')}</h2>
    <div class="two">
      <div class="card"><h3><${Icon} name="shieldCheck" /> ${t('log.whole')}</h3><p>${t('log.whole.text')}</p>
        <${Check} label=${t('log.whole.go')} run=${(told) => checkLog(api, deployment, told)} /></div>
      <div class="card"><h3><${Icon} name="search" /> ${t('log.leaf')}</h3><p>${t('log.leaf.text')}</p>
        <label for="leaf">${t('log.leaf.label')}</label>
        <input id="leaf" type="number" min="0" max=${Math.max(0, size - 1)} value=${leaf} onInput=${(e) => setLeaf(e.target.value)} />
        <${Check} label=${t('log.leaf.go')} run=${(told) => checkLeaf(api, deployment, Number(leaf), told)} /></div>
    </div>
    <h2>${t('log.checkpoints')}</h2>
    ${checkpoints.length === 0
      ? html`<${Empty} icon="chain" title=${t('log.none')}>${t('log.none.text')}</${Empty}>`
      : html`<div class="scroll" tabindex="0" role="region" aria-label=${t('log.checkpoints')}><table>
        <thead><tr>${['size', 'root', 'at', 'status', 'block'].map((name) => html`<th scope="col">${t(`log.col.${name}`)}</th>`)}</tr></thead>
        <tbody>${checkpoints.map((one) => html`<tr>
          <th scope="row">${one.size}</th><td><${Id} value=${one.root} /></td><td><${When} ms=${one.at} /></td>
          <td><${Badge} tone=${one.status === 'anchored' ? 'good' : 'warn'} icon=${one.status === 'anchored' ? 'check' : 'clock'}>
            ${word('checkpoint', one.status)}</${Badge}></td>
          <td>${one.block ?? '–'}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

/** Runs a check and shows each of its steps with what it found. */
function Check({ label, run }) {
  const [steps, setSteps] = useState([]);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const start = async () => {
    setBusy(true);
    setError(null);
    setSteps([]);
    try {
      await run((step) => setSteps((before) => [...before, step]));
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  return html`<button type="button" class="main" disabled=${busy} onClick=${start}>${busy ? t('check.busy') : label}</button>
    <ol class="steps plain-list" aria-live="polite">${steps.map((step) => html`
      <li class=${step.holds ? 'good' : 'bad'}><${Icon} name=${step.holds ? 'check' : 'alert'} size="16" />
        ${t(`check.${step.key}.${step.holds ? 'good' : 'bad'}`, step.values)}</li>`)}</ol>
    <${Trouble} error=${error} />`;
}

function Accesses({ api, accesses, deployment }) {
  const names = namesOf(deployment);
  return html`<section aria-labelledby="accesses-title"><h2 id="accesses-title">${t('accesses.title')}</h2>
    ${accesses.length === 0
      ? html`<${Empty} icon="eye" title=${t('accesses.none')}>${t('accesses.none.text')}</${Empty}>`
      : html`<ul class="stack plain-list">${accesses.map((one) => html`<${Access} key=${one.id} ...${{ api, one, names, deployment }} />`)}</ul>`}
  </section>`;
}

function Access({ api, one, names, deployment }) {
  const [error, setError] = useState(null);
  const file = `${one.id.slice(2)}.bundle.json`;
  const fetchBundle = async () => {
    setError(null);
    try {
      save(file, await api.bytes(`/v1/bundles/${one.id}`));
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<li class="card" data-access=${one.id}>
    <div class="consent-head"><${Badge} tone=${one.permitted ? 'info' : 'bad'}>${word('status', one.status)}</${Badge}>
      <span class="small"><${When} ms=${one.at} /></span></div>
    <h3>${t('accesses.line', { who: orgName(names, one.requester), what: word('accessKind', one.what), why: word('purpose', one.purpose) })}</h3>
    <p><${Id} value=${one.id} /></p>
    <dl class="figures"><div><dt>${t('requests.permitted')}</dt><dd>${one.permitted}</dd></div>
      <div><dt>${t('requests.withheld')}</dt><dd>${one.withheld}</dd></div>
      <div><dt>${t('accesses.leaf')}</dt><dd>${one.leaf}${one.closingLeaf !== null && ` → ${one.closingLeaf}`}</dd></div></dl>
    <div class="row-tight"><button type="button" disabled=${!one.bundle} onClick=${fetchBundle}>
      <${Icon} name="download" size="16" />${t('accesses.bundle')}</button>
      ${!one.bundle && html`<span class="small muted">${t('accesses.bundle.later')}</span>`}</div>
    ${one.kind === 'release' && one.withheld > 0 && html`<${Why} api=${api} release=${one.id} />`}
    <details><summary>${t('accesses.prove')}</summary>
      <${Check} label=${t('accesses.prove.go', { leaf: one.leaf })} run=${(told) => checkLeaf(api, deployment, one.leaf, told)} />
      <p class="small">${t('accesses.verify')}</p>
      <${Command} label=${t('accesses.verify')} text=${`python -m ledger verify ${file} --trust trust.json`} /></details>
    <${Trouble} error=${error} /></li>`;
}

function Offline({ deployment }) {
  const members = Object.entries(deployment.addresses);
  return html`<section class="narrow" aria-labelledby="offline-title"><h2 id="offline-title">${t('offline.title')}</h2>
    <p>${t('offline.text')}</p>
    <ol class="how">
      <li><p>${t('offline.install')}</p><${Command} label=${t('offline.install')} text="pip install assent-exchange" /></li>
      <li><p>${t('offline.trust')}</p><${Command} label=${t('offline.trust')}
        text=${`python -m ledger trust --rpc ${deployment.rpcUrl ?? 'YOUR-NODE-URL'} --deployment deployment.json --out trust.json`} />
        <button type="button" onClick=${() => save('deployment.json', `${JSON.stringify(deployment, null, 1)}\n`)}>
          <${Icon} name="download" size="16" />${t('offline.save')}</button>
        <p class="small muted">${t('offline.trust.note')}</p></li>
      <li><p>${t('offline.verify')}</p><${Command} label=${t('offline.verify')} text="python -m ledger verify *.bundle.json --trust trust.json" /></li>
    </ol>
    <${Notice} icon="alert" tone="warn" title=${t('offline.limit')}><p>${t('offline.limit.text')}</p></${Notice}>
    <dl class="exact"><dt>${t('offline.deployment')}</dt><dd>${deployment.deployment}</dd>
      <dt>${t('offline.exchange')}</dt><dd>${deployment.exchange}</dd>
      ${members.map(([name, address]) => html`<dt>${name}</dt><dd>${address}</dd>`)}</dl>
  </section>`;
}

const here = arrived('auditor');
await loadTexts();
document.title = t('auditor.pagetitle');
document.getElementById('page').replaceChildren();
render(html`<${Page} first=${here} />`, document.getElementById('page'));
