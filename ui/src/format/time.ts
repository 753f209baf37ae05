// Times and spans as people read them, in the browser's zone, 24 hours, ISO order.

import { NONE } from './bytes';

const SPACE = '\u202f';
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How old something is: `<1 s`, `12 s`, `3 min 05 s`, `2 h 04 min`, `3 d 4 h`. */
export function age(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return NONE;
  if (ms < SECOND) return `<1${SPACE}s`;
  return span(ms);
}

/** A length of time in its two largest units. */
export function span(ms: number): string {
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)}${SPACE}s`;
  if (ms < HOUR) return pair(ms, MINUTE, 'min', SECOND, 's', 2);
  if (ms < DAY) return pair(ms, HOUR, 'h', MINUTE, 'min', 2);
  return pair(ms, DAY, 'd', HOUR, 'h', 1);
}

function pair(ms: number, large: number, name: string, small: number, unit: string, width: number): string {
  const rest = Math.floor((ms % large) / small);
  const head = `${Math.floor(ms / large)}${SPACE}${name}`;
  return rest === 0 ? head : `${head} ${String(rest).padStart(width, '0')}${SPACE}${unit}`;
}

/** `12:03:10`. */
export function clock(ms: number): string {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** `12:03`. */
export function minute(ms: number): string {
  return clock(ms).slice(0, 5);
}

/** `2026-11-23`. */
export function date(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** The clock time, with the date in front when that isn't the day of `now_ms`. */
export function moment(ms: number, now_ms: number): string {
  return date(ms) === date(now_ms) ? clock(ms) : `${date(ms)} ${clock(ms)}`;
}

/** The value of a `datetime-local` input with seconds. */
export function to_input(ms: number): string {
  return `${date(ms)}T${clock(ms)}`;
}

/** The wall time typed into a `datetime-local` input; null for none or a broken one. */
export function from_input(text: string): number | null {
  const ms = text === '' ? Number.NaN : new Date(text).getTime();
  return Number.isNaN(ms) ? null : ms;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
