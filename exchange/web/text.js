/** Every text of the pages, from one file per language, and dates and numbers in that language. */

const LANGUAGES = ['en'];

let texts = {};
let language = 'en';
let plural = new Intl.PluralRules('en');

/** Loads the texts of the reader's language, English where there is none. */
export async function loadTexts() {
  language = LANGUAGES.find((known) => navigator.languages.some((asked) => asked.startsWith(known))) ?? 'en';
  const answer = await fetch(`messages/${language}.json`);
  texts = await answer.json();
  plural = new Intl.PluralRules(language);
  document.documentElement.lang = language;
}

export const locale = () => language;

/** The text under a key, with `{name}` replaced. A missing text shows its key. */
export function t(key, values = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

export const has = (key) => key in texts;

/** The text for a number of things: `key.one`, `key.other` as the language counts. */
export function count(key, number, values = {}) {
  const exact = `${key}.${number === 0 && has(`${key}.zero`) ? 'zero' : plural.select(number)}`;
  return t(has(exact) ? exact : `${key}.other`, { ...values, n: new Intl.NumberFormat(language).format(number) });
}

/** The words for a code, or the code itself where the exchange is newer than these pages. */
export const word = (kind, code) => (has(`${kind}.${code}`) ? t(`${kind}.${code}`) : code);

export const listed = (words) =>
  new Intl.ListFormat(language, { type: 'conjunction' }).format(words);

export const date = (ms) => new Intl.DateTimeFormat(language, { dateStyle: 'long' }).format(ms);
/** A day as consents count it: in UTC, wherever the reader is. */
export const utcDay = (ms) =>
  new Intl.DateTimeFormat(language, { dateStyle: 'long', timeZone: 'UTC' }).format(ms);
export const time = (ms) =>
  new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(ms);
export const clock = (ms) => new Intl.DateTimeFormat(language, { timeStyle: 'medium' }).format(ms);
