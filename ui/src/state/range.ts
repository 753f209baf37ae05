// The time a node page shows: the last so-and-so long, moving on, or a fixed stretch.
//
// Pure. It is written into the address, so that a page can be reloaded and sent to somebody.

/** `live`: the newest `span_ms`, moving with the clock. `fixed`: from and to, standing still. */
export type Range = { kind: 'live'; span_ms: number } | { kind: 'fixed'; from_ms: number; to_ms: number };

export type Stretch = { from_ms: number; to_ms: number };

const MINUTE = 60_000;

/** What the picker offers, and the keys 1 to 5. */
export const PRESETS: readonly { name: string; span_ms: number }[] = [
  { name: '5 m', span_ms: 5 * MINUTE },
  { name: '15 m', span_ms: 15 * MINUTE },
  { name: '1 h', span_ms: 60 * MINUTE },
  { name: '6 h', span_ms: 360 * MINUTE },
  { name: '24 h', span_ms: 1440 * MINUTE },
];

const DEFAULT_SPAN_MS = 15 * MINUTE;
export const DEFAULT: Range = { kind: 'live', span_ms: DEFAULT_SPAN_MS };

/** A drag shorter than this is a click. */
export const SHORTEST_MS = 5_000;

export function stretch(range: Range, now_ms: number): Stretch {
  return range.kind === 'fixed' ? range : { from_ms: now_ms - range.span_ms, to_ms: now_ms };
}

/** A fixed range of a sensible size; null where it would show nothing. */
export function between(a_ms: number, b_ms: number): Range | null {
  const from_ms = Math.floor(Math.min(a_ms, b_ms));
  const to_ms = Math.ceil(Math.max(a_ms, b_ms));
  return to_ms - from_ms >= SHORTEST_MS ? { kind: 'fixed', from_ms, to_ms } : null;
}

/** What the page shows: `#/` or `#/node/ID?last=900` (seconds) or `?from=…&to=…` (ms). */
export type Route = { page: 'overview' } | { page: 'node'; id: string; range: Range };

export function parse_route(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  const id = /^node\/([a-z0-9-]+)$/.exec(path)?.[1];
  return id === undefined ? { page: 'overview' } : { page: 'node', id, range: parse_range(query) };
}

function parse_range(query: string): Range {
  const fields = new URLSearchParams(query);
  const field = (name: string) => Number.parseFloat(fields.get(name) ?? '');
  const [from, to, last] = [field('from'), field('to'), field('last')];
  if (Number.isFinite(from) && Number.isFinite(to)) return between(from, to) ?? DEFAULT;
  return last * 1000 >= SHORTEST_MS ? { kind: 'live', span_ms: last * 1000 } : DEFAULT;
}

export function node_hash(id: string, range: Range): string {
  if (range.kind === 'fixed') return `#/node/${id}?from=${range.from_ms}&to=${range.to_ms}`;
  return range.span_ms === DEFAULT_SPAN_MS ? `#/node/${id}` : `#/node/${id}?last=${range.span_ms / 1000}`;
}
