import { expect, test } from 'vitest';
import { steps, tick_label, time_labels, type Unit, value_range, write } from './axis';

const seen = (text: string) => text.replaceAll('\u202f', ' ');

test.each<[Unit, number, string]>([
  ['ratio', 0.2, '20 %'],
  ['bytes', 2 * 1024 ** 3, '2 GiB'],
  ['bytes', 1.5 * 1024 ** 3, '1.5 GiB'],
  ['bytes/s', -200_000, '200 kB/s'],
  ['bytes/s', 0, '0 B/s'],
  ['count', 20, '20'],
  ['count/s', 2500, '2500/s'],
  ['seconds', 0.0005, '0.5 ms'],
  ['seconds', 0.02, '20 ms'],
  ['share', 0.005, '0.5 %'],
  ['plain', 0.5, '0.5'],
  ['plain', 10, '10'],
])('a tick of %s at %s', (unit, value, text) => expect(seen(tick_label(unit, value))).toBe(text));

test('a mirrored value is written without its sign, a missing one as a dash', () => {
  expect(seen(write('bytes/s', -1250))).toBe('1.25 kB/s');
  expect(write('ratio', null)).toBe('–');
});

test('ticks of bytes stand on powers of two, others on round numbers', () => {
  expect(steps('bytes').slice(0, 4)).toEqual([1, 2, 4, 8]);
  expect(steps('count').slice(0, 5)).toEqual([1, 2, 5, 10, 20]);
});

test.each<[Unit, number | null, number | null, [number, number]]>([
  ['ratio', 0, 0.3, [0, 1]],
  ['ratio', 0, 1.01, [0, 1]],
  ['ratio', 0, 2, [0, 2.16]],
  ['bytes/s', 0, 12, [0, 1000]],
  ['bytes/s', -100_000, 50_000, [-108_000, 54_000]],
  ['count', null, null, [0, 4]],
  ['share', 0, 0.004, [0, 0.01]],
])('%s from %s to %s', (unit, low, high, range) => {
  const [bottom, top] = value_range(unit, low, high);
  expect(bottom).toBeCloseTo(range[0]);
  expect(top).toBeCloseTo(range[1]);
});

test('time labels show seconds only where they differ, and the date where it changes', () => {
  const midnight = Date.UTC(2026, 10, 23);
  expect(time_labels([midnight + 5000, midnight + 10_000], 5000)).toEqual(['00:00:05', '00:00:10']);
  expect(time_labels([midnight - 3_600_000, midnight], 3_600_000)).toEqual(['23:00', '00:00\n11-23']);
  expect(time_labels([midnight], 3_600_000)).toEqual(['00:00\n11-23']);
});
