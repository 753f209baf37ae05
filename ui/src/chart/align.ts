// Points of several series on one time axis, with silence as null.
//
// A history frame becomes `Columns`, `add` puts a new row where it belongs, `gaps` names the
// stretches without any data. All pure, or touching nothing but their first argument.
// Invariant: times ascend, and two rows further apart than 1.5 steps have a row of nulls between
// them, so a line can't be drawn across a silence.

/** `values[s][i]` belongs to `times[i]`; null is a gap. */
export type Columns = { times: number[]; values: (number | null)[][] };

/** A stretch of time, in ms. */
export type Gap = { from_ms: number; to_ms: number };

type Row = readonly (number | null)[];

/** Rows further apart than this many steps have something missing between them. */
const TOLERANCE = 1.5;
/** The newest row may still be on its way: the right edge waits this much longer. */
const PATIENCE_MS = 2_000;

export function empty(width: number): Columns {
  return { times: [], values: Array.from({ length: width }, () => []) };
}

/** Columns side by side on the union of their times; what one hasn't got is null. */
export function merge(parts: readonly Columns[]): Columns {
  const [first] = parts;
  if (first === undefined) return empty(0);
  if (parts.length === 1) return first;
  const times = [...new Set(parts.flatMap((part) => part.times))].sort((a, b) => a - b);
  const values = parts.flatMap((part) => {
    const place = new Map(part.times.map((at, index) => [at, index]));
    return part.values.map((column) => times.map((at) => column[place.get(at) ?? -1] ?? null));
  });
  return { times, values };
}

/** The same rows with a row of nulls inside every hole that has none. */
export function with_gaps(columns: Columns, step_ms: number): Columns {
  const result = empty(columns.values.length);
  columns.times.forEach((at, index) => {
    break_before(result, at, step_ms);
    result.times.push(at);
    result.values.forEach((column, s) => {
      column.push(columns.values[s]?.[index] ?? null);
    });
  });
  return result;
}

/** Adds one row; a time that is there already gets the new values, a late one its place. */
export function add(columns: Columns, at_ms: number, row: Row, step_ms: number): void {
  const newest = columns.times.at(-1);
  if (newest === undefined || at_ms > newest) {
    break_before(columns, at_ms, step_ms);
    splice(columns, columns.times.length, 0, at_ms, row);
    return;
  }
  const index = lower_bound(columns.times, at_ms);
  splice(columns, index, columns.times[index] === at_ms ? 1 : 0, at_ms, row);
}

/**
 * Adds a row to coarser columns: the bucket `at_ms` falls into takes the mean of its rows so far.
 * `count` is how many those are; the new count comes back.
 */
export function blend(columns: Columns, at_ms: number, row: Row, step_ms: number, count: number): number {
  const bucket = Math.floor(at_ms / step_ms) * step_ms;
  const index = columns.times.length - 1;
  if (columns.times[index] !== bucket) {
    add(columns, bucket, row, step_ms);
    return 1;
  }
  columns.values.forEach((column, s) => {
    const value = row[s] ?? null;
    const mean = column[index] ?? null;
    if (value !== null) column[index] = mean === null ? value : mean + (value - mean) / (count + 1);
  });
  return count + 1;
}

/** Drops rows older than `from_ms`, but one: the line to it leaves the picture at its edge. */
export function trim(columns: Columns, from_ms: number): void {
  const drop = lower_bound(columns.times, from_ms) - 1;
  if (drop <= 0) return;
  columns.times.splice(0, drop);
  for (const column of columns.values) column.splice(0, drop);
}

/** Stretches of `from_ms..to_ms` in which no series has a value, edges included. */
export function gaps(columns: Columns, from_ms: number, to_ms: number, step_ms: number): Gap[] {
  const found: Gap[] = [];
  const limit = step_ms * TOLERANCE;
  let last = from_ms;
  columns.times.forEach((at, index) => {
    if (at > to_ms || columns.values.every((column) => column[index] == null)) return;
    if (at >= from_ms && at - last > limit) found.push({ from_ms: Math.max(last, from_ms), to_ms: at });
    last = at;
  });
  const end = Math.max(last, from_ms);
  if (to_ms - end > limit + PATIENCE_MS) found.push({ from_ms: end, to_ms });
  return found;
}

/** Each series laid on those before it; where nothing is known the pile is a gap too. */
export function stacked(values: readonly Row[]): (number | null)[][] {
  const length = values[0]?.length ?? 0;
  const known = Array.from({ length }, (_, index) => values.some((column) => column[index] != null));
  const pile: number[] = new Array(length).fill(0);
  return values.map((column) =>
    known.map((is_known, index) => {
      pile[index] = (pile[index] ?? 0) + (column[index] ?? 0);
      return is_known ? (pile[index] ?? null) : null;
    }),
  );
}

/** The row nearest to `at_ms`; null where there is none. */
export function nearest(times: readonly number[], at_ms: number): number | null {
  if (times.length === 0) return null;
  const right = Math.min(lower_bound(times, at_ms), times.length - 1);
  const left = Math.max(right - 1, 0);
  return at_ms - (times[left] ?? 0) <= (times[right] ?? 0) - at_ms ? left : right;
}

function break_before(columns: Columns, at_ms: number, step_ms: number): void {
  const newest = columns.times.at(-1);
  if (newest === undefined || at_ms - newest <= step_ms * TOLERANCE) return;
  if (columns.values.every((column) => column.at(-1) == null)) return;
  splice(columns, columns.times.length, 0, newest + step_ms, []);
}

function splice(columns: Columns, index: number, remove: number, at_ms: number, row: Row): void {
  columns.times.splice(index, remove, at_ms);
  columns.values.forEach((column, s) => {
    column.splice(index, remove, row[s] ?? null);
  });
}

/** The first index whose time is not before `at_ms`. */
function lower_bound(times: readonly number[], at_ms: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? 0) < at_ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
