/** What this is, and three doors. */
import { html, render } from './vendor/preact.js';
import { Frame, useLoaded, Trouble } from './parts.js';
import { Api } from './api.js';
import { Icon } from './icons.js';
import { count, loadTexts, t } from './text.js';

const DOORS = [['patient', 'person'], ['hospital', 'building'], ['auditor', 'scale']];

function Page() {
  const { value, error, again } = useLoaded(() => new Api().open('GET', '/v1/deployment'), []);
  return html`<${Frame}>
    <div class="hero front">
      <h1>${t('index.title')}</h1>
      <p class="lead">${t('index.lead')}</p>
    </div>
    <ul class="doors plain-list">${DOORS.map(([name, icon]) => html`<li>
      <a class="card door" href=${`${name}.html`}><span class="door-icon"><${Icon} name=${icon} size="26" /></span>
        <h2>${t(`index.${name}`)}</h2><p>${t(`index.${name}.text`)}</p>
        <span class="go">${t('index.go')} <${Icon} name="arrow" size="16" /></span></a></li>`)}</ul>
    <section aria-labelledby="how-title"><h2 id="how-title">${t('index.how')}</h2>
      <ol class="how-steps plain-list">${['sign', 'decide', 'stop', 'prove'].map((name, at) => html`<li>
        <span class="step">${at + 1}</span><div><h3>${t(`index.how.${name}`)}</h3><p>${t(`index.how.${name}.text`)}</p></div></li>`)}</ol>
    </section>
    <section aria-labelledby="here-title"><h2 id="here-title">${t('index.here')}</h2>
      <${Trouble} error=${error} again=${again} />
      ${value && html`<p>${count('index.orgs', value.orgs.length)}</p>
        <ul class="cards plain-list">${value.orgs.map((org) => html`<li class="card member">
          <${Icon} name="building" /><span>${org.name}</span></li>`)}</ul>
        <p class="small muted">${t('index.deployment')} <code class="break">${value.deployment}</code></p>`}
    </section>
  </${Frame}>`;
}

await loadTexts();
document.title = t('index.pagetitle');
document.getElementById('page').replaceChildren();
render(html`<${Page} />`, document.getElementById('page'));
