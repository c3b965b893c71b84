/** Words and tones that the hospital's views share. */
import { html } from '../vendor/preact.js';
import { Badge } from '../parts.js';
import { t, word } from '../text.js';

const TONES = {
  published: 'good', done: 'good', closed: 'good', decided: 'info', streaming: 'info', running: 'info',
  inspecting: 'info', received: 'info', queued: 'warn', draft: 'warn', refused: 'bad', failed: 'bad',
  denied: 'bad', stopped: 'bad', retired: 'plain',
};

export const Status = ({ value }) => html`<${Badge} tone=${TONES[value] ?? 'plain'}>${word('status', value)}</${Badge}>`;

/** Why a job ended as it did; a code may carry particulars after a colon. */
export const detailOf = (detail) => word('jobDetail', detail.split(':')[0]);

/** A count, or the words for one that is not shown. */
export const few = (value) => (value === null ? t('hospital.few') : value);
