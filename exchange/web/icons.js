/** Small drawings, as elements: 24 by 24, drawn with the colour of the text around them. */
import { html } from './vendor/preact.js';

const PATHS = {
  shield: 'M12 3l7 3v5c0 4.6-3 8-7 10-4-2-7-5.400-7-10V6l7-3z',
  shieldCheck: 'M12 3l7 3v5c0 4.600-3 8-7 10-4-2-7-5.400-7-10V6l7-3zM9 12l2 2 4-4',
  hand: 'M8 12V6a1.500 1.500 0 0 1 3 0v5m0-6.500V4a1.500 1.500 0 0 1 3 0v7m0-5a1.500 1.500 0 0 1 3 0v8a6 6 0 0 1-6 6h-1c-2 0-3.400-.8-4.500-2.500L4 13.500a1.500 1.500 0 0 1 2.500-1.500L8 14',
  check: 'M5 12.500l4.500 4.500L19 7',
  clock: 'M12 7v5l3.500 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z',
  eye: 'M2.500 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z',
  file: 'M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8l-5-5zM14 3v5h5M9 13h6M9 17h4',
  search: 'M16.500 16.500L21 21M18 11a7 7 0 1 1-14 0 7 7 0 0 1 14 0z',
  download: 'M12 4v11m0 0l-4.500-4.500M12 15l4.500-4.500M4 20h16',
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4',
  building: 'M4 21V6l8-3 8 3v15M2.500 21h19M12 8v4M10 10h4M9 21v-4h6v4',
  person: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 3.500-6.500 8-6.500s8 2.500 8 6.500',
  scale: 'M12 4v16M7 20h10M5 7l7-2 7 2M5 7l-2.500 6a3 3 0 0 0 5 0L5 7zM19 7l-2.500 6a3 3 0 0 0 5 0L19 7z',
  arrow: 'M5 12h14M13 6l6 6-6 6',
  key: 'M14.500 9.500a4 4 0 1 1-4-4 4 4 0 0 1 4 4zM13.500 12.500L20 19M17 16l2-2',
  alert: 'M12 8.500v4.500M12 16.500v.01M10.300 4l-7.500 13a2 2 0 0 0 1.700 3h15a2 2 0 0 0 1.700-3L13.700 4a2 2 0 0 0-3.400 0z',
  chain: 'M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.700-5.700L12 7M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.700 5.700L12 17',
  stop: 'M8 3h8l5 5v8l-5 5H8l-5-5V8zM9 9l6 6M15 9l-6 6',
  cross: 'M6 6l12 12M18 6L6 18',
  play: 'M7 5l12 7-12 7z',
};

export function Icon({ name, size = 20 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" fill="none" aria-hidden="true"
    stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"
    focusable="false"><path d=${PATHS[name]} /></svg>`;
}

/** The mark: two people's halves of one agreement. */
export function Mark() {
  return html`<svg class="mark" width="30" height="30" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <rect width="32" height="32" rx="9" fill="currentColor" />
    <path class="mark-line" d="M9 22l6-13 3.200 7M13 19h5l2.200 3 4.300-8.500" fill="none" stroke-width="2.600"
      stroke-linecap="round" stroke-linejoin="round" />
  </svg>`;
}
