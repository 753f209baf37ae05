// What a node's state is called, in words a person can act on, and where it stands in the list.
//
// Pure: a node as last described, the age of its data, and what the page can see at all go in.
// Invariant: a page that lost its server claims nothing about nodes; a server that hears less than
// half of its mesh says so instead of painting the others red.

import { NONE } from '../format/bytes';
import { age, moment } from '../format/time';
import type { NodeState } from '../gen/api';

/** The shape of the mark; every tone has its own, so that colour is never alone. */
export type Shape = 'disc' | 'half' | 'diamond' | 'cross' | 'ring' | 'dash';
export type Tone = 'ok' | 'warn' | 'bad' | 'off';

export type Status = { shape: Shape; tone: Tone; words: string };

/** What decides the words. Times are the server's wall clock. */
export type Seen = {
  state: NodeState;
  /** The newest row held; null where none ever came. */
  last_ms: number | null;
  /** What came last was a summary: rows are kept elsewhere, and none are expected here. */
  by_summary: boolean;
  now_ms: number;
  /** The page's connection is up. */
  linked: boolean;
  /** The serving node hears less than half of the mesh. */
  cut_off: boolean;
};

/** Rows come each second; a node is called stale once the newest is older than this. */
export const STALE_MS = 3_000;

/** In a mesh of 2,000 nodes one summary in a hundred is 40 s old; older ones are no longer this moment. */
export const OLD_SUMMARY_MS = 60_000;

export function status(seen: Seen): Status {
  const { state, last_ms, now_ms } = seen;
  const since = last_ms === null ? '' : ` since ${moment(last_ms, now_ms)}`;
  const silent = last_ms === null ? Number.POSITIVE_INFINITY : now_ms - last_ms;
  if (is_departed(state)) return { shape: 'dash', tone: 'off', words: `${state}${since}` };
  if (!seen.linked) return { shape: 'ring', tone: 'off', words: 'unknown' };
  switch (state) {
    case 'down':
      return seen.cut_off
        ? { shape: 'ring', tone: 'warn', words: `out of sight${since}` }
        : { shape: 'cross', tone: 'bad', words: `down${since}` };
    case 'suspect':
      return { shape: 'diamond', tone: 'warn', words: 'suspect' };
    default:
      if (last_ms === null) return { shape: 'half', tone: 'warn', words: 'no data yet' };
      if (seen.by_summary) return by_summary(silent);
      if (silent > STALE_MS) return { shape: 'half', tone: 'warn', words: `stale ${age(silent)}` };
      return { shape: 'disc', tone: 'ok', words: 'live' };
  }
}

/** Summaries of a node whose rows are kept elsewhere: seconds old in a large mesh, and always said how many. */
function by_summary(silent: number): Status {
  const is_old = silent > OLD_SUMMARY_MS;
  return {
    shape: is_old ? 'half' : 'disc',
    tone: is_old ? 'warn' : 'ok',
    words: `as of ${age(silent)} ago`,
  };
}

/** Left on purpose, or was removed: nobody expects it to answer. */
export function is_departed(state: NodeState): boolean {
  return state === 'left' || state === 'retired' || state === 'evicted';
}

/** Counts as up: it is the serving node or is heard by it. */
export function is_up(state: NodeState): boolean {
  return state === 'self' || state === 'alive' || state === 'stale';
}

/** How many of those expected are up. */
export function tally(states: NodeState[]): { up: number; expected: number } {
  const expected = states.filter((state) => !is_departed(state));
  return { up: expected.filter(is_up).length, expected: expected.length };
}

/** The serving node hears less than half of a mesh of three or more: the fault is likely its own. */
export function is_cut_off(states: NodeState[]): boolean {
  const { up, expected } = tally(states);
  return expected >= 3 && up * 2 < expected;
}

/** Worst first, then by name. Short silences don't move a node: a list that jumps can't be read. */
export function in_order<T extends { state: NodeState; name: string; id: string }>(nodes: T[]): T[] {
  return [...nodes].sort(
    (a, b) => rank(a.state) - rank(b.state) || compare(a.name, b.name) || compare(a.id, b.id),
  );
}

function rank(state: NodeState): number {
  if (state === 'down') return 0;
  if (state === 'suspect') return 1;
  return is_departed(state) ? 3 : 2;
}

/** `node-2` before `node-10`. */
function compare(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

/**
 * Samples a node lacks that are worth naming. A few rows are always on their way, and a number that
 * comes and goes each second tells nobody anything: below five rows it is 0.
 */
export function backlog(samples: number, series: number): number {
  return samples > 5 * series ? samples : 0;
}

/** How the serving node reaches a node. */
export function path_words(state: NodeState, path: string): string {
  if (state === 'self') return 'this page';
  if (path === 'none') return NONE;
  return path === 'lan' ? 'LAN' : path;
}
