/** A hospital's or auditor's bearer token: from the link or typed, kept for this tab alone. */
import { html, useState } from './vendor/preact.js';
import { Api, takeFragment } from './api.js';
import { Icon } from './icons.js';
import { Command } from './parts.js';
import { t } from './text.js';

/** The token of the link, or of this tab; null if there is none. */
export function takeToken(role) {
  const { token } = takeFragment('token');
  if (token) sessionStorage.setItem(`assent.${role}`, token);
  return sessionStorage.getItem(`assent.${role}`);
}

export const apiOf = (token) => new Api(async () => token);

/** Hands the token back and forgets it. */
export async function dropToken(role, token) {
  sessionStorage.removeItem(`assent.${role}`);
  await fetch('/v1/sessions', { method: 'DELETE', headers: { Authorization: `Bearer ${token}` } });
}

export function AskToken({ role, entered }) {
  const [text, setText] = useState('');
  const submit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(`assent.${role}`, text.trim());
    entered(text.trim());
  };
  return html`<div class="hero"><h1>${t(`${role}.enter.title`)}</h1><p class="lead">${t(`${role}.enter.lead`)}</p></div>
    <div class="two">
      <section class="card"><h2><${Icon} name="chain" /> ${t('token.link')}</h2>
        <p>${t(`${role}.enter.link`)}</p>
        ${role === 'hospital' && html`<${Command} text="assent hospital page" label=${t('token.link')} />`}</section>
      <section class="card"><h2><${Icon} name="key" /> ${t('token.title')}</h2>
        <form onSubmit=${submit}>
          <label for="token">${t('token.label')}</label>
          <input id="token" class="mono" type="password" autocomplete="off" required value=${text}
            onInput=${(e) => setText(e.target.value)} />
          <button class="main">${t('token.go')}</button>
        </form></section>
    </div>`;
}
