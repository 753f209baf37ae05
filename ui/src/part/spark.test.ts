import { expect, test } from 'vitest';
import { runs, silences } from './spark';

test('a line breaks at nulls and at silences, not at a late second', () => {
  expect(runs([0, 1000, 2900, 4000, 5000, 9000], [1, 2, 3, null, 5, 6], 0)).toEqual([
    [
      [0, 1],
      [1000, 2],
      [2900, 3],
    ],
    [[5000, 5]],
    [[9000, 6]],
  ]);
});

test('a line begins with the point that leads into sight', () => {
  expect(runs([0, 1000, 2000], [1, 2, 3], 3000)).toEqual([
    [
      [1000, 2],
      [2000, 3],
    ],
  ]);
  expect(runs([], [], 0)).toEqual([]);
});

test('silence is named at the edges and between', () => {
  const lines = [{ values: [1, null, 1, 1], colour: '' }];
  const spark = { times: [5000, 6000, 11_000, 12_000], lines, from_ms: 0, to_ms: 20_000 };
  expect(silences(spark)).toEqual([
    [0, 5000],
    [5000, 11_000],
    [12_000, 20_000],
  ]);
  expect(silences({ ...spark, from_ms: 10_000, to_ms: 15_000 })).toEqual([]);
});
