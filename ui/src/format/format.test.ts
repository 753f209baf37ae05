import { describe, expect, test } from 'vitest';
import { rate, size } from './bytes';
import { count, counted, duration, per_second, percent, plain, round_trip, whole } from './rates';
import { age, clock, from_input, minute, moment, span, to_input } from './time';

/** Narrow no-break spaces are hard to see in a table. */
const seen = (text: string) => text.replaceAll('\u202f', ' ');

describe('bytes', () => {
  test.each([
    [null, '–'],
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1536, '1.50 KiB'],
    [16 * 1024 ** 3, '16 GiB'],
    [123_456_789, '118 MiB'],
  ])('size of %s', (bytes, text) => expect(seen(size(bytes))).toBe(text));

  test.each([
    [undefined, '–'],
    [0.4, '0 B/s'],
    [999.4, '999 B/s'],
    [999.6, '1.00 kB/s'],
    [1_250_000, '1.25 MB/s'],
    [12_345_678, '12.3 MB/s'],
    [999_999, '1.00 MB/s'],
  ])('rate of %s', (bytes, text) => expect(seen(rate(bytes))).toBe(text));
});

describe('rates', () => {
  test.each([
    [null, '–'],
    [0, '0 %'],
    [0.004, '0.4 %'],
    [0.073, '7.3 %'],
    [0.0996, '10 %'],
    [1, '100 %'],
  ])('percent of %s', (ratio, text) => expect(seen(percent(ratio))).toBe(text));

  test.each([
    [7, '7'],
    [842.4, '842'],
    [9999, '9999'],
    [12_345, '12.3 k'],
    [999_999, '1.00 M'],
    [null, '–'],
  ])('count of %s', (value, text) => expect(seen(count(value))).toBe(text));

  test.each([
    [0.421, '0.42 ms'],
    [12.4, '12 ms'],
    [1200, '1.20 s'],
    [null, '–'],
  ])('round trip of %s', (ms, text) => expect(seen(round_trip(ms))).toBe(text));

  test.each([
    [0, '0 ms'],
    [0.000012, '12 µs'],
    [0.00042, '0.42 ms'],
    [1.2, '1.20 s'],
    [7440, '2 h 04 min'],
    [undefined, '–'],
  ])('duration of %s s', (seconds, text) => expect(seen(duration(seconds))).toBe(text));

  test('whole numbers keep their thousands apart', () => {
    expect(seen(whole(1_234_567))).toBe('1 234 567');
    expect(seen(counted(1, 'sample'))).toBe('1 sample');
    expect(seen(counted(12_000, 'sample'))).toBe('12 000 samples');
    expect(plain(0.5)).toBe('0.50');
    expect(per_second(3)).toBe('3/s');
  });
});

describe('time', () => {
  test.each([
    [null, '–'],
    [0, '<1 s'],
    [1000, '1 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [185_000, '3 min 05 s'],
    [7_440_000, '2 h 04 min'],
    [273_600_000, '3 d 4 h'],
  ])('age of %s ms', (ms, text) => expect(seen(age(ms))).toBe(text));

  test('a span of less than a second is none', () => expect(seen(span(400))).toBe('0 s'));

  test('a moment of another day has its date', () => {
    const noon = Date.UTC(2026, 10, 23, 12, 3, 10);
    expect(clock(noon)).toBe('12:03:10');
    expect(minute(noon)).toBe('12:03');
    expect(moment(noon, noon + 1000)).toBe('12:03:10');
    expect(moment(noon, noon + 86_400_000)).toBe('2026-11-23 12:03:10');
  });

  test('an input gives back what it was given', () => {
    const at = Date.UTC(2026, 0, 2, 3, 4, 5);
    expect(from_input(to_input(at))).toBe(at);
    expect(from_input('')).toBeNull();
    expect(from_input('yesterday')).toBeNull();
  });
});
