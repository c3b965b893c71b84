/** The patient's page: a plain client of the public API, with the patient's own key in this tab. */
import { html, render, useEffect, useMemo, useRef, useState } from './vendor/preact.js';
import { Api, takeFragment } from './api.js';
import { Badge, Frame, ShareBar, Tile, Trouble, Views, useLoaded, useView } from './parts.js';
import { Enter } from './patient/enter.js';
import { Overview } from './patient/consents.js';
import { History } from './patient/history.js';
import { Receipts } from './patient/receipts.js';
import { Session, readRecovery, recall } from './patient/session.js';
import { Wizard } from './patient/wizard.js';
import { count, loadTexts, t } from './text.js';
import { namesOf } from './words.js';

const VIEWS = ['overview', 'give', 'history', 'receipts'];

function Page({ linked }) {
  const [who, setWho] = useState(linked ?? recall());
  const deployment = useLoaded(() => new Api().open('GET', '/v1/deployment'), []);
  const session = useMemo(
    () => (who && deployment.value ? new Session(who, deployment.value) : null),
    [who, deployment.value],
  );
  const leave = async () => {
    setWho(null);
    await session.leave();
  };
  const { value, error, again } = deployment;
  return html`<${Frame} role=${t('patient.role')} leave=${session && leave}>
    ${error ? html`<${Trouble} error=${error} again=${again} />`
      : !value ? html`<p class="loading" role="status">${t('loading')}</p>`
      : session ? html`<${Home} key=${session.subject} session=${session} />`
      : html`<${Enter} deployment=${value} entered=${setWho} />`}
  </${Frame}>`;
}

function Home({ session }) {
  const view = useView(VIEWS);
  const names = useMemo(() => namesOf(session.deployment), [session]);
  const loaded = useLoaded(
    async () => {
      const [me, consents, accesses] = await Promise.all([session.me(), session.consents(), session.accesses()]);
      return { me, consents, accesses };
    },
    [session],
  );
  const [stopped, setStopped] = useState(null);
  const [live, setLive] = useState(true);
  const withdrawn = useRef(new Map());
  const { again } = loaded;
  useEffect(() => {
    const ended = new AbortController();
    let waiting = null;
    session.watch((event) => {
      if (event.data.kind === 'consent_withdrawn') {
        withdrawn.current.set(event.data.consent, event.data.leaf);
        setStopped((now) => confirmed(now, withdrawn.current));
      }
      clearTimeout(waiting);
      waiting = setTimeout(again, 120);
    }, setLive, ended.signal);
    return () => {
      clearTimeout(waiting);
      ended.abort();
    };
  }, [session]);
  const changed = (now) => {
    if (now) setStopped(confirmed(now, withdrawn.current));
    again();
  };
  const given = () => {
    location.hash = 'overview';
    changed(null);
    document.getElementById('main').focus();
  };
  if (!loaded.value) {
    return html`<${Trouble} error=${loaded.error} again=${again} />
      ${!loaded.error && html`<p class="loading" role="status">${t('loading')}</p>`}`;
  }
  const { me, consents, accesses } = loaded.value;
  return html`
    <${Hero} ...${{ me, consents, accesses, live }} />
    <${Views} label=${t('patient.views')} at=${view} views=${[
      ['overview', 'shield', t('view.overview')],
      ['give', 'shieldCheck', t('view.give')],
      ['history', 'eye', t('view.history')],
      ['receipts', 'download', t('view.receipts')],
    ]} />
    <${Trouble} error=${loaded.error} again=${again} />
    ${view === 'overview' && html`<${Overview} ...${{ session, me, consents, names, stopped, changed }} />`}
    ${view === 'give' && html`<${Wizard} ...${{ session, me, names, done: given }} />`}
    ${view === 'history' && html`<${History} ...${{ session, accesses, names }} />`}
    ${view === 'receipts' && html`<${Receipts} ...${{ session, consents, accesses, changed }} />`}`;
}

/** A withdrawal is confirmed once the log itself has told of it. */
const confirmed = (now, told) =>
  now && told.has(now.consent) ? { ...now, confirmed: true, leaf: told.get(now.consent) } : now;

function Hero({ me, consents, accesses, live }) {
  const known = accesses.filter((one) => !one.erased);
  const used = known.filter((one) => one.decision === 'permit').length;
  const active = consents.filter((one) => one.decision === 'permit' && one.status === 'active' && !one.expired).length;
  const records = me.held.reduce((sum, item) => sum + item.records, 0);
  return html`<div class="hero">
    <p class="eyebrow">${t('hero.at', { hospital: me.name })}
      <${Badge} tone=${live ? 'good' : 'warn'}><span class="pulse"></span>${t(live ? 'hero.live' : 'hero.waiting')}</${Badge}></p>
    <h1>${count('hero.title', active)}</h1>
    <div class="tiles">
      <${Tile} figure=${records} label=${count('hero.records', records)} />
      <${Tile} figure=${active} label=${count('hero.active', active)} />
      <${Tile} figure=${used} label=${count('hero.used', used)} />
      <${Tile} figure=${known.length - used} label=${count('hero.refused', known.length - used)} />
    </div>
    ${used > 0 && used < known.length && html`<${ShareBar} parts=${[
      { value: used, tone: 'used' },
      { value: known.length - used, tone: 'refused' },
    ]} />`}
  </div>`;
}

const { seed, subject } = takeFragment('seed', 'subject');
const linked = seed && subject ? readRecovery(`${seed} ${subject}`) : null;
await loadTexts();
document.title = t('patient.title');
const root = document.getElementById('page');
const show = (who) => {
  root.replaceChildren();
  render(html`<${Page} linked=${who} />`, root);
};
addEventListener('hashchange', () => {
  // A link that was opened in this very tab.
  const given = takeFragment('seed', 'subject');
  const found = given.seed && given.subject ? readRecovery(`${given.seed} ${given.subject}`) : null;
  if (found) {
    render(null, root);
    show(found);
  }
});
show(linked);
