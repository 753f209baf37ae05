import { expect, test } from 'vitest';
import { is_silent, SILENCE_MS, wait_ms } from './backoff';

test('waits double up to fifteen seconds', () => {
  const waits = [0, 1, 2, 3, 4, 5, 6, 50].map((attempt) => wait_ms(attempt, 0));
  expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
});

test('jitter only shortens, by at most a quarter', () => {
  expect(wait_ms(2, 1)).toBe(1500);
  expect(wait_ms(2, 0.5)).toBe(1750);
  expect(wait_ms(50, 1)).toBe(11_250);
});

test('silence begins after the limit, not at it', () => {
  expect(is_silent(1000, 1000 + SILENCE_MS)).toBe(false);
  expect(is_silent(1000, 1001 + SILENCE_MS)).toBe(true);
});
