/**
 * What can be told by machine about WCAG 2.2 AA of the page as it stands: a list of findings, empty where
 * all is well. Contrast (1.4.3), names and labels (1.1.1, 3.3.2, 4.1.2), headings (1.3.1, 2.4.6), target
 * size (2.5.8), reflow (1.4.10), focus order (2.4.3), references, language and title (2.4.2, 3.1.1).
 */
() => {
  const found = [];
  const shown = (element) => {
    const style = getComputedStyle(element);
    return element.checkVisibility() && style.visibility === 'visible' && element.getClientRects().length > 0;
  };
  const spoken = (element) => {
    const by = element.getAttribute('aria-labelledby');
    const text = by ? by.split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join(' ') : '';
    return (text || element.getAttribute('aria-label') || element.textContent || element.title || '').trim();
  };
  const short = (element) => element.outerHTML.slice(0, 110);
  const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);

  if (!document.documentElement.lang) found.push('the page has no language');
  if (!document.title.trim()) found.push('the page has no title');
  if (all('main').length !== 1) found.push('there is not exactly one main');
  const levels = all('h1, h2, h3, h4, h5, h6').map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) found.push(`headings of level 1: ${levels.join(' ')}`);
  levels.forEach((level, at) => at && level > levels[at - 1] + 1 && found.push(`a heading skips: ${levels.join(' ')}`));

  for (const one of all('button, a[href], summary')) if (!spoken(one)) found.push(`no name: ${short(one)}`);
  for (const one of all('nav')) if (!spoken(one)) found.push(`no name: ${short(one)}`);
  for (const one of all('input, select, textarea')) {
    if (![...(one.labels ?? [])].some((label) => label.textContent.trim()) && !one.getAttribute('aria-label')) {
      found.push(`no label: ${short(one)}`);
    }
  }
  for (const one of all('img')) if (!one.hasAttribute('alt')) found.push(`no alternative: ${short(one)}`);
  for (const one of all('svg')) {
    const silent = one.getAttribute('aria-hidden') === 'true';
    if (!silent && !(one.getAttribute('role') === 'img' && one.getAttribute('aria-label'))) found.push(`no alternative: ${short(one)}`);
  }
  const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => found.push(`an id stands twice: ${id}`));
  for (const name of ['aria-labelledby', 'aria-describedby', 'for']) {
    for (const one of document.querySelectorAll(`[${name}]`)) {
      for (const id of one.getAttribute(name).split(' ')) if (!document.getElementById(id)) found.push(`${name} names nothing: ${id}`);
    }
  }
  if (document.querySelector('[tabindex]:not([tabindex="0"], [tabindex="-1"])')) found.push('a tabindex above 0');

  for (const one of all('button, summary, select, input, textarea, a[href]:not(p a, dd a)')) {
    const box = (one.closest('label') ?? one).getBoundingClientRect();
    if (box.width < 24 || box.height < 24) found.push(`a small target (${box.width}×${box.height}): ${short(one)}`);
  }
  const wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wider > 0) found.push(`the page is ${wider} px wider than the window`);

  // Colours, drawn so that every notation is read alike.
  const pen = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const colour = (text) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = text;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(colour(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const told = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !shown(element) || element.closest(':disabled, title')) continue;
    const style = getComputedStyle(element);
    const under = ground(element);
    const [a, b] = [light(over(colour(style.color), under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const enough = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < enough && !told.has(element.className)) {
      told.add(element.className);
      found.push(`contrast ${ratio.toFixed(2)}: ${short(element)}`);
    }
  }
  return found;
};
