/** The way in: a hospital's code, or the recovery key of someone who has been here before. */
import { html, useState } from '../vendor/preact.js';
import { Icon } from '../icons.js';
import { Notice, Trouble, save } from '../parts.js';
import { t } from '../text.js';
import { enrol, readRecovery } from './session.js';

export function Enter({ deployment, entered }) {
  const [fresh, setFresh] = useState(null);
  if (fresh) return html`<${WriteDown} ...${fresh} done=${() => entered(fresh)} />`;
  return html`
    <div class="hero">
      <h1>${t('enter.title')}</h1>
      <p class="lead">${t('enter.lead')}</p>
    </div>
    <div class="two">
      <${WithCode} deployment=${deployment} enrolled=${setFresh} />
      <${WithRecovery} entered=${entered} />
    </div>`;
}

function WithCode({ deployment, enrolled }) {
  const [code, setCode] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      enrolled(await enrol(code, deployment));
    } catch (problem) {
      setError(problem instanceof RangeError
        ? { title: t('enter.code.incomplete'), message: t('enter.code.wrong'), next: t('enter.code.wrong.next') } : problem);
      setBusy(false);
    }
  };
  return html`<section class="card">
    <h2><${Icon} name="key" /> ${t('enter.code.title')}</h2>
    <p>${t('enter.code.text')}</p>
    <form onSubmit=${submit}>
      <label for="code">${t('enter.code.label')}</label>
      <input id="code" class="mono" value=${code} onInput=${(e) => setCode(e.target.value)} required
        autocomplete="off" autocapitalize="characters" spellcheck="false" placeholder="ABCD-EFGH-…"
        aria-describedby="code-help" />
      <p id="code-help" class="small">${t('enter.code.help')}</p>
      <button class="main" disabled=${busy}>${busy ? t('enter.code.busy') : t('enter.code.go')}</button>
    </form>
    <${Trouble} error=${error} />
  </section>`;
}

function WithRecovery({ entered }) {
  const [text, setText] = useState('');
  const [wrong, setWrong] = useState(false);
  const submit = (event) => {
    event.preventDefault();
    const found = readRecovery(text);
    setWrong(found === null);
    if (found) entered(found);
  };
  return html`<section class="card">
    <h2><${Icon} name="person" /> ${t('enter.back.title')}</h2>
    <p>${t('enter.back.text')}</p>
    <form onSubmit=${submit}>
      <label for="recovery">${t('enter.back.label')}</label>
      <textarea id="recovery" class="mono" rows="3" value=${text} onInput=${(e) => setText(e.target.value)} required
        autocomplete="off" autocapitalize="off" spellcheck="false" aria-invalid=${wrong}></textarea>
      <button class="main">${t('enter.back.go')}</button>
    </form>
    ${wrong && html`<${Notice} tone="bad" icon="alert" title=${t('enter.back.wrong')} live>
      <p>${t('enter.back.wrong.next')}</p></${Notice}>`}
  </section>`;
}

/** The new seed, shown once. */
function WriteDown({ seed, subject, hospital, done }) {
  const [written, setWritten] = useState(false);
  const groups = seed.match(/.{8}/g);
  const sheet = `Assent recovery key\n\nseed ${groups.join(' ')}\nsubject ${subject}\n`;
  return html`<section class="card narrow" aria-labelledby="write-title">
    <h1 id="write-title">${t('write.title', { hospital })}</h1>
    <p>${t('write.text')}</p>
    <p class="label">${t('write.seed')}</p>
    <p class="seed mono">${groups.map((group) => html`<span>${group}</span> `)}</p>
    <p class="label">${t('write.subject')}</p>
    <p class="mono break">${subject}</p>
    <button type="button" onClick=${() => save('assent-recovery-key.txt', sheet, 'text/plain')}>
      <${Icon} name="download" size="16" /> ${t('write.save')}</button>
    <${Notice} tone="warn" icon="alert" title=${t('write.once')}><p>${t('write.once.text')}</p></${Notice}>
    <label class="tick"><input type="checkbox" checked=${written} onChange=${(e) => setWritten(e.target.checked)} />
      ${t('write.done')}</label>
    <button type="button" class="main" disabled=${!written} onClick=${done}>${t('write.go')}</button>
  </section>`;
}
