/** The way in for hospitals and auditors: a key file, or a link with a token. */
import { html, useState } from './vendor/preact.js';
import { Icon } from './icons.js';
import { Visitor, openKeyFile } from './member.js';
import { Command, Trouble } from './parts.js';
import { t } from './text.js';

/** Chooses a key file; `opened(holder)` once the exchange has recognised its key. */
export function KeyFile({ role, opened }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const choose = async (event) => {
    const field = event.target;
    if (field.files.length === 0) return;
    setBusy(true);
    setError(null);
    try {
      const holder = await openKeyFile(await field.files[0].text());
      await holder.api.token();
      opened(holder);
    } catch (problem) {
      setError(spoken(role, problem));
      field.value = '';
      setBusy(false);
    }
  };
  return html`<div class="keyfile">
    <label for="keyfile">${t(`keyfile.label.${role}`)}</label>
    <input id="keyfile" type="file" disabled=${busy} onChange=${choose} aria-describedby="keyfile-help" />
    <p id="keyfile-help" class="small muted">${busy ? t('keyfile.busy') : t(`keyfile.help.${role}`)}</p>
    <${Trouble} error=${error} />
  </div>`;
}

/** Why a key file did not do, for people. */
function spoken(role, problem) {
  if (problem instanceof RangeError) {
    return { title: t('keyfile.wrong'), message: t(`keyfile.wrong.${role}`), next: t('keyfile.wrong.next') };
  }
  if (problem.status === 401) {
    return { title: t('keyfile.unknown'), message: problem.message, next: t('keyfile.unknown.next') };
  }
  return problem;
}

export function Enter({ role, entered }) {
  const [text, setText] = useState('');
  const submit = (event) => {
    event.preventDefault();
    entered(new Visitor(role, text.trim()));
  };
  return html`<div class="hero"><h1>${t(`${role}.enter.title`)}</h1><p class="lead">${t(`${role}.enter.lead`)}</p></div>
    <div class="two">
      <section class="card"><h2><${Icon} name="key" /> ${t('enter.keyfile')}</h2>
        <p>${t(`${role}.enter.keyfile`)}</p>
        <${KeyFile} role=${role} opened=${entered} /></section>
      <section class="card"><h2><${Icon} name="chain" /> ${t('token.link')}</h2>
        <p>${t(`${role}.enter.link`)}</p>
        ${role === 'hospital' && html`<${Command} text="assent hospital page" label=${t('token.link')} />`}
        <form onSubmit=${submit}>
          <label for="token">${t('token.label')}</label>
          <input id="token" class="mono" type="password" autocomplete="off" required value=${text}
            onInput=${(e) => setText(e.target.value)} />
          <button>${t('token.go')}</button>
        </form></section>
    </div>`;
}
