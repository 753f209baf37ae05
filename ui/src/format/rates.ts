// Shares, counts and round trips as people read them.

import { digits, NONE } from './bytes';
import { span } from './time';

const SPACE = '\u202f';
const STEPS = ['', 'k', 'M', 'G', 'T'];

/** A share of 1 as `7.3 %`; one decimal below ten, so that an idle machine isn't flat zero. */
export function percent(ratio: number | null | undefined): string {
  if (ratio === null || ratio === undefined) return NONE;
  const value = ratio * 100;
  return `${value < 9.95 && value > 0 ? value.toFixed(1) : value.toFixed(0)}${SPACE}%`;
}

/** A number of things: `842`, `12.3 k`. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  let left = value;
  let step = 0;
  while (Math.abs(left) >= 9999.5 / (step === 0 ? 1 : 10) && step < STEPS.length - 1) {
    left /= 1000;
    step += 1;
  }
  return step === 0 ? digits(left) : `${digits(left)}${SPACE}${STEPS[step]}`;
}

/** Things per second. */
export function per_second(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : `${count(value)}/s`;
}

/** A plain number such as a load average: two decimals. */
export function plain(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : value.toFixed(2);
}

/** A round trip: `0.42 ms`, `12 ms`, `1.20 s`. */
export function round_trip(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return NONE;
  if (ms >= 999.5) return `${(ms / 1000).toFixed(2)}${SPACE}s`;
  return `${ms >= 9.995 ? ms.toFixed(0) : digits(ms)}${SPACE}ms`;
}

/** A length of time in seconds: `12 µs`, `0.42 ms`, `1.20 s`, `2 h 04 min`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds > 0 && seconds < 1e-4) return `${digits(Number((seconds * 1e6).toPrecision(3)))}${SPACE}µs`;
  return Math.abs(seconds) < 60 ? round_trip(seconds * 1000) : span(seconds * 1000);
}

/** A whole number with its thousands apart: `12 345`. */
export function whole(value: number): string {
  return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, SPACE);
}

/** `1 sample`, `2 samples`. */
export function counted(value: number, one: string): string {
  return `${whole(value)} ${one}${value === 1 ? '' : 's'}`;
}
