import { expect, test } from 'vitest';
import { between, DEFAULT, node_hash, parse_route, type Range, stretch } from './range';

test('a live range ends at the clock, a fixed one stands still', () => {
  expect(stretch({ kind: 'live', span_ms: 300_000 }, 1_000_000)).toEqual({
    from_ms: 700_000,
    to_ms: 1_000_000,
  });
  expect(stretch({ kind: 'fixed', from_ms: 5, to_ms: 9 }, 1_000_000)).toMatchObject({ from_ms: 5, to_ms: 9 });
});

test('a drag in either direction is a range, a click is none', () => {
  expect(between(20_000.7, 10_000.2)).toEqual({ kind: 'fixed', from_ms: 10_000, to_ms: 20_001 });
  expect(between(10_000, 12_000)).toBeNull();
  expect(between(Number.NaN, 12_000)).toBeNull();
});

test.each<Range>([
  DEFAULT,
  { kind: 'live', span_ms: 21_600_000 },
  { kind: 'fixed', from_ms: 0, to_ms: 60_000 },
])('an address gives back the range it was made from: %o', (range) => {
  expect(parse_route(node_hash('k3j2', range))).toEqual({ page: 'node', id: 'k3j2', range });
});

test.each(['', '#', '#/', '#/else', '#/node/', '#/node/<b>'])('%j is the overview', (hash) => {
  expect(parse_route(hash)).toEqual({ page: 'overview' });
});

test('a broken range falls back to the default', () => {
  expect(parse_route('#/node/a?last=soon')).toEqual({ page: 'node', id: 'a', range: DEFAULT });
  expect(parse_route('#/node/a?from=1&to=2')).toEqual({ page: 'node', id: 'a', range: DEFAULT });
});
