import { expect, test } from 'vitest';
import { Ring } from './ring';

test('the oldest row makes room', () => {
  const ring = new Ring(2, 3);
  for (let at = 1; at <= 5; at += 1) ring.push(at, [at * 10, null]);
  expect(ring.times).toEqual([3, 4, 5]);
  expect(ring.column(0)).toEqual([30, 40, 50]);
  expect(ring.column(1)).toEqual([null, null, null]);
  expect(ring.column(2)).toEqual([]);
});

test('the same row twice is one row, a missing value is null', () => {
  const ring = new Ring(2, 3);
  ring.push(1, [7]);
  ring.push(1, [8]);
  expect(ring.times).toEqual([1]);
  expect(ring.column(0)).toEqual([7]);
  expect(ring.column(1)).toEqual([null]);
});

test('a history replaces what it covers and keeps newer ticks', () => {
  const ring = new Ring(1, 4);
  ring.push(2, [2]);
  ring.push(5, [5]);
  ring.fill([1, 2, 3], [[10, null, 30]]);
  expect(ring.times).toEqual([1, 2, 3, 5]);
  expect(ring.column(0)).toEqual([10, null, 30, 5]);
});
