/** The catalogue; asking for records and counting inside them, signed here where the key file is open. */
import { html, useState } from '../vendor/preact.js';
import { KeyFile } from '../enter.js';
import { Icon } from '../icons.js';
import { Badge, Command, Empty, Notice, Trouble, useLoaded } from '../parts.js';
import { count, t, word } from '../text.js';
import { PURPOSES } from '../words.js';
import { ask, countInside } from './asking.js';
import { detailOf, few } from './status.js';

const OPERATIONS = ['=', '!=', '<', '<=', '>', '>=', 'contains'];

export function Find({ member, opened, deployment, changed }) {
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const found = useLoaded(() => member.api.all(`/v1/datasets?text=${encodeURIComponent(asked)}`), [member, asked]);
  const search = (event) => {
    event.preventDefault();
    setAsked(text);
  };
  return html`<section aria-labelledby="find-title"><h2 id="find-title">${t('find.title')}</h2>
    <form class="inline" onSubmit=${search} role="search">
      <label for="find">${t('find.label')}</label>
      <div class="row-tight"><input id="find" type="search" value=${text} onInput=${(e) => setText(e.target.value)} />
      <button class="main"><${Icon} name="search" size="16" />${t('find.go')}</button></div></form>
    ${!member.signs && html`<${Notice} icon="key" title=${t('find.keyfile')}>
      <p>${t('find.keyfile.text')}</p><${KeyFile} role="hospital" opened=${opened} /></${Notice}>`}
    <${Trouble} error=${found.error} again=${found.again} />
    <p class="small muted found" aria-live="polite">${found.value && count('find.count', found.value.length)}</p>
    ${found.value?.length === 0 && html`<${Empty} icon="search" title=${t('find.none')}>${t('find.none.text')}</${Empty}>`}
    <ul class="stack plain-list">${found.value?.map((one) => html`
      <${Found} key=${one.dataset} item=${one} ...${{ member, deployment, changed }} />`)}</ul>
  </section>`;
}

function Found({ item, member, deployment, changed }) {
  return html`<li class="card" data-dataset=${item.dataset}>
    <div class="consent-head"><${Badge} icon="building">${item.publisher}</${Badge}>
      <span class="small">${word('kind', item.kind)} · ${t('held.version', { n: item.version })}</span></div>
    <h3>${item.title}</h3>
    ${item.description && html`<p>${item.description}</p>`}
    <p>${t('find.size', { subjects: few(item.subjects), records: few(item.records) })}
      ${' '}${item.categories.map((code) => html`<${Badge}>${word('category', code)}</${Badge}> `)}</p>
    ${item.columns && html`<p class="small">${t('find.columns', { columns: item.columns.map((one) => one.name).join(', ') })}</p>`}
    <details><summary>${t('find.ask')}</summary><${Ask} ...${{ item, member, deployment, changed }} /></details>
    ${item.kind !== 'notes' && html`<details><summary>${t('find.count.inside')}</summary>
      <${Count} ...${{ item, member, deployment, changed }} /></details>`}
  </li>`;
}

function Purpose({ id, value, change }) {
  return html`<label for=${id}>${t('find.purpose')}</label>
    <select id=${id} value=${value} onChange=${(e) => change(e.target.value)}>
      ${PURPOSES.map((code) => html`<option value=${code}>${word('purpose', code)} (${code})</option>`)}</select>`;
}

function Ask({ item, member, deployment, changed }) {
  const [purpose, setPurpose] = useState('HRESCH');
  const [state, setState] = useState({});
  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    try {
      setState({ answer: await ask(member, deployment, item, purpose) });
      changed();
    } catch (error) {
      setState({ error });
    }
  };
  const { busy, answer, error } = state;
  return html`<p>${t('find.ask.text')}</p>
    <form onSubmit=${submit}>
      <${Purpose} id=${`ask-${item.dataset}`} value=${purpose} change=${setPurpose} />
      ${member.signs && html`<button class="main" disabled=${busy}><${Icon} name="key" size="16" />
        ${t(busy ? 'find.busy' : 'find.ask.go')}</button>`}
    </form>
    <div aria-live="polite">${answer && html`<${Answer} answer=${answer} />`}</div>
    <${Trouble} error=${error} />
    ${!member.signs && html`<${Command} label=${t('find.ask')} text=${`assent hospital request ${item.dataset} --purpose ${purpose}`} />`}`;
}

function Answer({ answer }) {
  const permit = answer.decision === 'permit';
  return html`<${Notice} tone=${permit ? 'good' : 'warn'} icon=${permit ? 'check' : 'shield'} title=${t(`answer.${permit ? 'permit' : answer.decision === 'referral' ? 'referral' : 'deny'}`)}>
    <p>${t('answer.counts', { permitted: answer.permitted, withheld: few(answer.withheld) })}</p>
    ${permit && html`<p class="small">${t('answer.receive')}</p>
      <${Command} label=${t('requests.receive')} text=${`assent hospital receive ${answer.release}`} />`}
    ${answer.next && html`<p><b>${t('trouble.next')}</b> ${answer.next}</p>`}
  </${Notice}>`;
}

function Count({ item, member, deployment, changed }) {
  const [purpose, setPurpose] = useState('HRESCH');
  const columns = item.columns?.map((one) => one.name) ?? null;
  const empty = { field: columns?.[0] ?? '', op: columns ? '>=' : '=', value: '' };
  const [filters, setFilters] = useState([empty]);
  const [state, setState] = useState({});
  const change = (at, more) => setFilters(filters.map((one, index) => (index === at ? { ...one, ...more } : one)));
  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    try {
      setState(await countInside(member, deployment, item, { purpose, filters }, (job) => setState({ busy: true, job })));
      changed();
    } catch (error) {
      setState({ error });
    }
  };
  const { busy, job, answer, error } = state;
  const id = (name, at) => `${name}-${at}-${item.dataset}`;
  const asCommand = filters.map((one) => ` --where ${quoted(`${one.field} ${one.op} ${one.value}`)}`).join('');
  return html`<p>${t('find.count.text')}</p>
    <form onSubmit=${submit} class="query">
      <${Purpose} id=${`count-${item.dataset}`} value=${purpose} change=${setPurpose} />
      ${filters.map((one, at) => html`<fieldset class="filter-row" key=${at}>
        <legend class="hidden">${t('query.condition', { n: at + 1 })}</legend>
        <div><label for=${id('field', at)}>${t(columns ? 'query.column' : 'query.path')}</label>
          ${columns
            ? html`<select id=${id('field', at)} value=${one.field} onChange=${(e) => change(at, { field: e.target.value })}>
                ${columns.map((name) => html`<option value=${name}>${name}</option>`)}</select>`
            : html`<input id=${id('field', at)} class="mono" required placeholder="code.text" value=${one.field}
                autocapitalize="off" spellcheck="false" onInput=${(e) => change(at, { field: e.target.value })} />`}</div>
        <div><label for=${id('op', at)}>${t('query.op')}</label>
          <select id=${id('op', at)} value=${one.op} onChange=${(e) => change(at, { op: e.target.value })}>
            ${OPERATIONS.map((op) => html`<option value=${op}>${t(`query.op.${op}`)}</option>`)}</select></div>
        <div><label for=${id('value', at)}>${t('query.value')}</label>
          <input id=${id('value', at)} required autocomplete="off" value=${one.value}
            onInput=${(e) => change(at, { value: e.target.value })} /></div>
        <button type="button" class="quiet" aria-label=${t('query.remove', { n: at + 1 })}
          onClick=${() => setFilters(filters.filter((_, index) => index !== at))}><${Icon} name="cross" size="18" /></button>
      </fieldset>`)}
      <div class="row-tight">
        <button type="button" onClick=${() => setFilters([...filters, empty])}>${t('query.add')}</button>
        ${member.signs && html`<button class="main" disabled=${busy}><${Icon} name="key" size="16" />
          ${t(busy ? 'find.counting' : 'find.count.go')}</button>`}</div>
      ${busy && job && html`<progress max="100" value=${job.progress} aria-label=${t('jobs.progress', { n: job.progress })}></progress>`}
    </form>
    <div aria-live="polite">${job && !busy && html`<${Counted} job=${job} answer=${answer} />`}</div>
    <${Trouble} error=${error} />
    ${!member.signs && html`<${Command} label=${t('find.count.inside')}
      text=${`assent hospital query ${item.dataset} --purpose ${purpose}${asCommand}`} />`}`;
}

/** Text as one word of a shell: column names are another hospital's. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function Counted({ job, answer }) {
  if (!answer) {
    return html`<${Notice} tone="warn" icon="shield" title=${word('status', job.status)}>
      <p>${detailOf(job.detail ?? job.status)}</p></${Notice}>`;
  }
  return html`<${Notice} tone="good" icon="check" title=${answer.subjects === null ? t('counted.few') : count('counted.people', answer.subjects)}>
    <p>${t('counted.text', { records: few(answer.records), covered: job.covered, withheld: few(job.withheld) })}</p></${Notice}>`;
}
