/** Consents, requests and outcomes in plain language. */
import { listed, t, utcDay, word } from './text.js';

export const PURPOSES = ['HRESCH', 'BIORCH', 'CLINTRCH', 'DSRCH', 'POARCH', 'TREAT', 'PUBHLTH', 'HOPERAT', 'HPAYMT'];
export const CATEGORIES = ['notes', 'clinical', 'tables', 'images', 'genomics'];

/** Names of organisations by id. */
export const namesOf = (deployment) => new Map(deployment.orgs.map((org) => [org.org, org.name]));

export const orgName = (names, org) => names.get(org) ?? t('words.org.unknown', { org: org.slice(0, 10) });

export const purposes = (codes) =>
  codes === '*' ? t('words.purpose.any') : listed(codes.map((code) => word('purpose', code)));

export const categories = (codes) =>
  codes === '*' ? t('words.category.any') : listed(codes.map((code) => word('category', code)));

export const requesters = (orgs, names) =>
  orgs === '*' ? t('words.requester.any') : listed(orgs.map((org) => orgName(names, org)));

export const actions = (given) =>
  given.length === 2 ? t('words.action.both') : t(`words.action.${given[0]}`);

export const ending = (until) =>
  until === null ? t('words.until.none') : t('words.until', { date: utcDay(until * 1000 - 1) });

/** One sentence that says what a consent document says. */
export const sentence = (document, names) =>
  t(document.decision === 'permit' ? 'words.permit' : 'words.deny', {
    who: requesters(document.requester, names),
    what: categories(document.categories),
    why: purposes(document.purpose),
    how: actions(document.actions),
    until: ending(document.until),
  });

/** State of a consent for people: a word, a tone, an icon. */
export function stateOf(consent) {
  const permit = consent.decision === 'permit';
  if (consent.status === 'inactive') {
    return { key: consent.endedBy === 'superseded' ? 'replaced' : permit ? 'withdrawn' : 'lifted', tone: 'plain', icon: 'stop' };
  }
  if (consent.status === 'entered-in-error') return { key: 'error', tone: 'plain', icon: 'alert' };
  if (consent.expired) return { key: 'expired', tone: 'plain', icon: 'clock' };
  if (consent.lifting) return { key: 'lifting', tone: 'warn', icon: 'clock' };
  if (consent.status === 'draft') return { key: 'waiting', tone: 'warn', icon: 'clock' };
  return permit ? { key: 'active', tone: 'good', icon: 'check' } : { key: 'objection', tone: 'bad', icon: 'hand' };
}

/** What became of an access, for people. */
export function outcomeOf(access) {
  const known = {
    withheld: ['bad', 'shield'],
    permitted: ['warn', 'clock'],
    delivered: ['info', 'file'],
    stopped: ['bad', 'stop'],
    used: ['info', 'eye'],
    dropped: ['plain', 'shield'],
  };
  const key = access.decision === 'permit' ? (access.outcome ?? 'permitted') : 'withheld';
  const [tone, icon] = known[key] ?? ['plain', 'clock'];
  return { key, tone, icon };
}
