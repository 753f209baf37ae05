// How values and times are written: beside a chart, along its axes, and where the ticks stand.
//
// Pure. A panel names its unit once; everything about it follows from here.

import { rate, size } from '../format/bytes';
import { count, duration, per_second, percent, plain } from '../format/rates';
import { clock, date, minute } from '../format/time';

/** `ratio` is a part of a whole and drawn up to it; `share` is a percentage drawn as large as it is. */
export type Unit = 'ratio' | 'share' | 'seconds' | 'bytes' | 'bytes/s' | 'count' | 'count/s' | 'plain';

type Value = number | null | undefined;

const WRITE: Record<Unit, (value: Value) => string> = {
  ratio: percent,
  share: percent,
  seconds: duration,
  bytes: size,
  'bytes/s': rate,
  count,
  'count/s': per_second,
  plain,
};

/** A value with its unit; mirrored values lose their sign. */
export function write(unit: Unit, value: Value): string {
  return WRITE[unit](value == null ? value : Math.abs(value));
}

/** A round value along an axis: as `write`, without decimals that say nothing. */
export function tick_label(unit: Unit, value: number): string {
  if (unit === 'plain') return String(Number(Math.abs(value).toPrecision(6)));
  return write(unit, value)
    .replace(/(\.\d*?)0+(?=\D)/, '$1')
    .replace(/\.(?=\D)/, '');
}

/** Distances between ticks that give round labels in `unit`. */
export function steps(unit: Unit): number[] {
  if (unit === 'bytes') return Array.from({ length: 51 }, (_, power) => 2 ** power);
  const from = { ratio: -3, share: -5, plain: -3, seconds: -6, 'bytes/s': 0, count: 0, 'count/s': 0 }[unit];
  return Array.from({ length: 16 - from }, (_, power) =>
    [1, 2, 5].map((n) => n * 10 ** (power + from)),
  ).flat();
}

/** The range of a value axis: always with zero, with air above, never a hair's breadth of noise. */
export function value_range(unit: Unit, low: number | null, high: number | null): [number, number] {
  // Rates of busy time come out a little above the whole: clocks are read one after the other.
  if (unit === 'ratio' && (high ?? 0) <= 1.05) return [0, 1];
  const least = {
    ratio: 1,
    share: 0.01,
    seconds: 1e-3,
    bytes: 1024,
    'bytes/s': 1000,
    count: 4,
    'count/s': 4,
    plain: 1,
  }[unit];
  const top = Math.max((high ?? 0) * 1.08, least);
  const bottom = (low ?? 0) < 0 ? Math.min((low ?? 0) * 1.08, -least) : 0;
  return [bottom, top];
}

/** Labels of time ticks `step_ms` apart: seconds only where they differ, the date where it changes. */
export function time_labels(times: readonly number[], step_ms: number): string[] {
  return times.map((at, index) => {
    const before = times[index - 1];
    const text = step_ms < 60_000 ? clock(at) : minute(at);
    const is_new_day = before === undefined ? clock(at) === '00:00:00' : date(before) !== date(at);
    return is_new_day ? `${text}\n${date(at).slice(5)}` : text;
  });
}
