import { describe, expect, test } from 'vitest';
import { add, blend, type Columns, empty, gaps, merge, nearest, stacked, trim, with_gaps } from './align';

const one = (times: number[], values: (number | null)[]): Columns => ({ times, values: [values] });

test('answers side by side share one time axis', () => {
  const parts = [one([0, 1000], [1, 2]), one([1000, 2000], [3, 4])];
  expect(merge(parts)).toEqual({
    times: [0, 1000, 2000],
    values: [
      [1, 2, null],
      [null, 3, 4],
    ],
  });
  expect(merge([])).toEqual({ times: [], values: [] });
});

describe('with_gaps', () => {
  test('a hole gets one row of nulls, a late second none', () => {
    expect(with_gaps(one([0, 1400, 5000], [1, 2, 3]), 1000)).toEqual(
      one([0, 1400, 2400, 5000], [1, 2, null, 3]),
    );
  });

  test('a hole that has its nulls stays as it is', () => {
    const columns = one([0, 1000, 5000], [1, null, 3]);
    expect(with_gaps(columns, 1000)).toEqual(columns);
  });
});

describe('add', () => {
  test('the next second is appended, a silence is broken first', () => {
    const columns = empty(2);
    add(columns, 0, [1, 2], 1000);
    add(columns, 1000, [3], 1000);
    add(columns, 9000, [4, 5], 1000);
    expect(columns).toEqual({
      times: [0, 1000, 2000, 9000],
      values: [
        [1, 3, null, 4],
        [2, null, null, 5],
      ],
    });
  });

  test('a late row takes its place, a known one is replaced', () => {
    const columns = one([0, 1000, 3000], [1, 2, 4]);
    add(columns, 2000, [3], 1000);
    add(columns, 1000, [9], 1000);
    expect(columns).toEqual(one([0, 1000, 2000, 3000], [1, 9, 3, 4]));
  });
});

test('coarser columns take the mean of a bucket as it fills', () => {
  const columns = empty(1);
  const rows: [number, number | null][] = [
    [10_000, 1],
    [11_000, 2],
    [12_000, null],
    [20_000, 7],
  ];
  const count = rows.reduce((count, [at, value]) => blend(columns, at, [value], 10_000, count), 0);
  expect(columns).toEqual(one([10_000, 20_000], [1.5, 7]));
  expect(count).toBe(1);
});

test('trimming keeps the row that leads into the picture', () => {
  const columns = one([0, 1000, 2000, 3000], [1, 2, 3, 4]);
  trim(columns, 2500);
  expect(columns).toEqual(one([2000, 3000], [3, 4]));
  trim(columns, 0);
  expect(columns.times).toEqual([2000, 3000]);
});

describe('gaps', () => {
  test('edges and holes are named, a missing series is not a gap', () => {
    const columns = {
      times: [4000, 5000, 6000, 9000, 10_000],
      values: [
        [1, null, null, 1, 1],
        [1, 1, null, 1, null],
      ],
    };
    expect(gaps(columns, 0, 20_000, 1000)).toEqual([
      { from_ms: 0, to_ms: 4000 },
      { from_ms: 5000, to_ms: 9000 },
      { from_ms: 10_000, to_ms: 20_000 },
    ]);
  });

  test('the row on its way is no gap', () => {
    expect(gaps(one([0, 1000], [1, 1]), 0, 4400, 1000)).toEqual([]);
    expect(gaps(one([0, 1000], [1, 1]), 0, 4600, 1000)).toEqual([{ from_ms: 1000, to_ms: 4600 }]);
  });

  test('no data at all is one gap', () => {
    expect(gaps(empty(1), 0, 9000, 1000)).toEqual([{ from_ms: 0, to_ms: 9000 }]);
  });

  test('a hole across the left edge begins at the edge', () => {
    expect(gaps(one([0, 9000], [1, 1]), 5000, 9500, 1000)).toEqual([{ from_ms: 5000, to_ms: 9000 }]);
  });
});

test('a pile is a gap only where nothing is known', () => {
  const values = [
    [1, null, null],
    [2, 3, null],
  ];
  expect(stacked(values)).toEqual([
    [1, 0, null],
    [3, 3, null],
  ]);
});

test('the nearest row is found from both sides', () => {
  expect(nearest([0, 1000, 3000], 1900)).toBe(1);
  expect(nearest([0, 1000, 3000], 2100)).toBe(2);
  expect(nearest([0, 1000], -5)).toBe(0);
  expect(nearest([0, 1000], 9999)).toBe(1);
  expect(nearest([], 5)).toBeNull();
});
