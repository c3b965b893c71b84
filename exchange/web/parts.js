/** What several pages show alike: the frame, problems, badges, commands to copy, empty lists. */
import { html, useEffect, useState } from './vendor/preact.js';
import { Problem, Unreachable } from './api.js';
import { Icon, Mark } from './icons.js';
import { t, time, word } from './text.js';

/** Header, main and footer around a page. */
export function Frame({ role, who, leave, children }) {
  return html`
    <a class="skip" href="#main">${t('frame.skip')}</a>
    <header class="top">
      <div class="wide top-row">
        <a class="brand" href="index.html"><${Mark} /><span>Assent</span></a>
        ${role && html`<span class="role">${role}</span>`}
        ${who && html`<span class="who" title=${who}>${who}</span>`}
        ${leave && html`<button type="button" class="quiet" onClick=${leave}>${t('frame.leave')}</button>`}
      </div>
    </header>
    <main id="main" class="wide" tabindex="-1">${children}</main>
    <footer class="wide foot">
      <p>${t('frame.footer')}</p>
      <p><a href="v1/openapi.json">${t('frame.api')}</a></p>
    </footer>`;
}

/** Views of one page; the one shown stands in the address after `#`. */
export function Views({ label, views, at }) {
  return html`<nav class="views" aria-label=${label}>
    ${views.map(([name, icon, text]) => html`
      <a href=${`#${name}`} aria-current=${name === at ? 'page' : undefined}>
        <${Icon} name=${icon} size="18" />${text}
      </a>`)}
  </nav>`;
}

/** The view that the address names, out of `names`; the first one otherwise. */
export function useView(names) {
  const read = () => (names.includes(location.hash.slice(1)) ? location.hash.slice(1) : names[0]);
  const [view, setView] = useState(read);
  useEffect(() => {
    const turn = () => setView(read());
    addEventListener('hashchange', turn);
    return () => removeEventListener('hashchange', turn);
  }, []);
  return view;
}

/** Runs `load` now and whenever a value of `marks` changes: {value, error, again}. */
export function useLoaded(load, marks) {
  const [state, setState] = useState({ value: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    let current = true;
    load().then(
      (value) => current && setState({ value, error: null }),
      (error) => current && setState((before) => ({ value: before.value, error })),
    );
    return () => {
      current = false;
    };
  }, [...marks, round]);
  return { ...state, again: () => setRound((before) => before + 1) };
}

/** An error with its next step. */
export function Trouble({ error, again }) {
  if (!error) return null;
  let [title, detail, next] = [error.title ?? t('trouble.own'), error.message, error.next ?? t('trouble.own.next')];
  if (error instanceof Unreachable) {
    [title, detail, next] = [t('trouble.unreachable'), t('trouble.unreachable.detail'), t('trouble.unreachable.next')];
  } else if (error instanceof Problem) {
    title = error.status === 401 ? t('trouble.login') : t('trouble.refused');
    next = error.next;
  }
  return html`<div class="notice bad" role="alert">
    <${Icon} name="alert" />
    <div>
      <p class="notice-title">${title}</p>
      <p>${detail}</p>
      ${next && html`<p><b>${t('trouble.next')}</b> ${next}</p>`}
      ${error.trace && html`<p class="small">${t('trouble.trace')} <code>${error.trace}</code></p>`}
      ${again && html`<button type="button" onClick=${again}>${t('trouble.again')}</button>`}
    </div>
  </div>`;
}

export function Notice({ tone = 'plain', icon, title, children, live = false }) {
  return html`<div class=${`notice ${tone}`} role=${live ? 'status' : undefined}>
    ${icon && html`<${Icon} name=${icon} />`}
    <div>${title && html`<p class="notice-title">${title}</p>`}${children}</div>
  </div>`;
}

export const Badge = ({ tone = 'plain', icon, children }) => html`<span class=${`badge ${tone}`}>
  ${icon && html`<${Icon} name=${icon} size="15" />`}${children}</span>`;

export const Empty = ({ icon, title, children }) => html`<div class="empty">
  <${Icon} name=${icon} size="30" /><p class="empty-title">${title}</p><p>${children}</p></div>`;

export const Tile = ({ figure, label, tone = '' }) => html`<div class=${`tile ${tone}`}>
  <span class="figure">${figure}</span><span class="tile-label">${label}</span></div>`;

export const When = ({ ms }) => html`<time datetime=${new Date(ms).toISOString()}>${time(ms)}</time>`;

/** An id: short to the eye, whole to the pointer and the clipboard. */
export const Id = ({ value }) => html`<code class="id" title=${value}>${value.slice(0, 10)}…${value.slice(-4)}</code>`;

/** A command for the terminal, with a button that copies it. */
export function Command({ text, label }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`<div class="command">
    <pre tabindex="0" aria-label=${label}><code>${text}</code></pre>
    <button type="button" onClick=${copy}>
      <${Icon} name=${copied ? 'check' : 'copy'} size="16" />
      <span aria-live="polite">${copied ? t('command.copied') : t('command.copy')}</span>
    </button>
  </div>`;
}

/** Parts of a whole as one bar; the words beside it say the same. */
export function ShareBar({ parts }) {
  const whole = parts.reduce((sum, part) => sum + part.value, 0);
  let at = 0;
  return html`<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false">
    <rect class="share-ground" width="100" height="6" />
    ${parts.map((part) => {
      const width = whole === 0 ? 0 : (100 * part.value) / whole;
      at += width;
      return html`<rect class=${`share-${part.tone}`} x=${at - width} width=${width} height="6" />`;
    })}
  </svg>`;
}

/** Hands a file to the reader. */
export function save(name, content, type = 'application/json') {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Why records were withheld, by count: for auditors, and for the hospital that publishes them. */
export function Why({ api, release }) {
  const [open, setOpen] = useState(false);
  const found = useLoaded(async () => (open ? api.get(`/v1/requests/${release}/withheld`) : null), [open]);
  return html`<details onToggle=${(e) => setOpen(e.target.open)}><summary>${t('requests.why')}</summary>
    <${Trouble} error=${found.error} />
    <dl>${Object.entries(found.value?.reasons ?? {}).map(([reason, n]) => html`
      <dt>${word('because', reason)}</dt><dd>${n}</dd>`)}</dl></details>`;
}
