import { describe, expect, test } from 'vitest';
import type { NodeState } from '../gen/api';
import { backlog, in_order, is_cut_off, path_words, type Seen, status, tally } from './status';

const NOON = Date.UTC(2026, 10, 23, 12, 0, 0);

const seen = (change: Partial<Seen>): Seen => ({
  state: 'alive',
  last_ms: NOON - 400,
  by_summary: false,
  now_ms: NOON,
  linked: true,
  cut_off: false,
  ...change,
});

const words = (change: Partial<Seen>) => status(seen(change)).words.replaceAll('\u202f', ' ');

describe('status', () => {
  test('a node whose rows come each second is live', () => {
    expect(status(seen({}))).toEqual({ shape: 'disc', tone: 'ok', words: 'live' });
    expect(words({ state: 'self' })).toBe('live');
  });

  test('the age of the data decides what is stale, whatever the mesh thinks', () => {
    expect(words({ last_ms: NOON - 3000 })).toBe('live');
    expect(words({ last_ms: NOON - 5000 })).toBe('stale 5 s');
    expect(words({ state: 'self', last_ms: NOON - 65_000 })).toBe('stale 1 min 05 s');
    expect(words({ last_ms: null })).toBe('no data yet');
  });

  test('a node whose rows are kept elsewhere says how old its summary is, and is never called live', () => {
    const age = (ms: number) => status(seen({ by_summary: true, last_ms: NOON - ms }));
    expect(age(400).words).toMatch(/^as of .* ago$/);
    expect(age(12_000)).toEqual({ shape: 'disc', tone: 'ok', words: 'as of 12\u202fs ago' });
    expect(age(61_000)).toMatchObject({ shape: 'half', tone: 'warn' });
    expect(words({ by_summary: true, state: 'down', last_ms: NOON - 10_000 })).toBe('down since 11:59:50');
  });

  test('a down node says since when, with the date if that was another day', () => {
    expect(words({ state: 'down', last_ms: NOON - 10_000 })).toBe('down since 11:59:50');
    expect(words({ state: 'down', last_ms: NOON - 86_400_000 })).toBe('down since 2026-11-22 12:00:00');
    expect(words({ state: 'down', last_ms: null })).toBe('down');
  });

  test('a server that is cut off blames itself first', () => {
    expect(status(seen({ state: 'down', last_ms: NOON - 10_000, cut_off: true }))).toEqual({
      shape: 'ring',
      tone: 'warn',
      words: 'out of sight since 11:59:50',
    });
  });

  test('a page without its server claims nothing', () => {
    expect(status(seen({ linked: false })).tone).toBe('off');
    expect(words({ linked: false, state: 'down' })).toBe('unknown');
    expect(words({ linked: false, state: 'retired' })).toBe('retired since 11:59:59');
  });
});

test('those that left are not expected', () => {
  expect(tally(['self', 'alive', 'stale', 'suspect', 'down', 'left', 'evicted'])).toEqual({
    up: 3,
    expected: 5,
  });
});

test.each<[NodeState[], boolean]>([
  [['self', 'down'], false],
  [['self', 'alive', 'down'], false],
  [['self', 'down', 'down'], true],
  [['self', 'down', 'left'], false],
  [['self', 'alive', 'down', 'down'], false],
])('%s cut off: %s', (states, wanted) => expect(is_cut_off(states)).toBe(wanted));

describe('in_order', () => {
  const order = (...nodes: [string, NodeState][]) =>
    in_order(nodes.map(([name, state]) => ({ name, state, id: name }))).map((node) => node.name);

  test('the worst stands first, then names count', () => {
    expect(order(['b', 'alive'], ['z', 'down'], ['gone', 'left'], ['a', 'self'], ['s', 'suspect'])).toEqual([
      'z',
      's',
      'a',
      'b',
      'gone',
    ]);
    expect(order(['node-10', 'alive'], ['node-2', 'alive'])).toEqual(['node-2', 'node-10']);
  });

  test('a short silence moves nobody', () => {
    expect(order(['a', 'alive'], ['b', 'stale'])).toEqual(['a', 'b']);
  });
});

test('rows on their way are no backlog', () => {
  expect(backlog(1250, 250)).toBe(0);
  expect(backlog(1251, 250)).toBe(1251);
  expect(backlog(7, 0)).toBe(7);
});

test('paths are said in words', () => {
  expect(path_words('self', 'none')).toBe('this page');
  expect(path_words('alive', 'lan')).toBe('LAN');
  expect(path_words('down', 'none')).toBe('–');
  expect(path_words('alive', 'relay')).toBe('relay');
});
