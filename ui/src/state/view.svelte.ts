// What a node page knows: the charts it may draw, and their columns as they come.
//
// A `Feed` is one chart's data. It asks for its history when it comes into sight, when the range
// changes, when the connection is new and when a gap was filled; a live range also watches the
// series in sight. Requests carry numbers; answers to forgotten ones are dropped.
// Absent: drawing, and the clock.

import { add, blend, type Columns, empty, merge, trim, with_gaps } from '../chart/align';
import type { ClientMessage, SeriesInfo, ServerMessage } from '../gen/api';
import type { Columns as Frame, LiveRow } from '../net/frames';
import { type Panel, panels } from '../page/panels';
import { clock } from './clock.svelte';
import { type Attendant, fleet, type Member } from './fleet.svelte';
import { DEFAULT, type Range, stretch } from './range';

/** The server takes so many series in one request. */
const SERIES_LIMIT = 64;
/** Columns this wide fill a large screen; narrower charts lose nothing by more. */
const POINTS = 1_000;
/** Steps up to this long take live rows as they are; longer ones their mean. */
const RAW_STEP_MS = 1_500;

/** The server answers so many requests of a page at a time that this leaves room for others. */
const FLYING_LIMIT = 4;
/** Charts that didn't fit into the watch ask for their history again after so many rows. */
const CATCH_UP_ROWS = 5;
const SETTLE_MS = 30;

type History = Extract<ClientMessage, { type: 'history' }>;

/** One chart's data. */
export class Feed {
  readonly panel: Panel;
  readonly inputs: number[];
  phase = $state<'waiting' | 'ready' | 'failed'>('waiting');
  error = $state('');
  /** Counts changes of `columns`, which is plain for speed. */
  version = $state(0);
  columns: Columns;
  step_ms = 1_000;
  /** In sight just now. */
  is_seen = false;
  /** Rows came that it didn't get, or it never asked: its columns are not up to date. */
  is_behind = true;
  #open = new Map<number, Frame | null>();
  #in_bucket = 0;

  constructor(panel: Panel) {
    this.panel = panel;
    this.inputs = [...new Set(panel.lines.flatMap((line) => line.inputs))];
    this.columns = empty(panel.lines.length);
  }

  /** What to send to get the stretch; answers to what was asked before are not waited for. */
  ask(node: number, range: Range): History[] {
    const { from_ms, to_ms } = stretch(range, clock.exact());
    this.is_behind = false;
    this.#open.clear();
    const asked: History[] = [];
    for (let at = 0; at < this.inputs.length; at += SERIES_LIMIT) {
      const request = fleet.request();
      this.#open.set(request, null);
      asked.push({
        type: 'history',
        request,
        node,
        series: this.inputs.slice(at, at + SERIES_LIMIT),
        from_ms: Math.floor(from_ms),
        to_ms: Math.ceil(to_ms),
        max_points: POINTS,
      });
    }
    return asked;
  }

  answer(frame: Frame): void {
    if (!this.#open.has(frame.request)) return;
    this.#open.set(frame.request, frame);
    const parts = [...this.#open.values()];
    if (parts.includes(null)) return;
    this.#fill(parts as Frame[]);
  }

  refuse(request: number, message: string): void {
    if (!this.#open.delete(request)) return;
    this.is_behind = true;
    this.error = message;
    if (this.phase !== 'ready') this.phase = 'failed';
  }

  row(at_ms: number, row: ReadonlyMap<number, number | null>, from_ms: number): void {
    if (this.phase !== 'ready') return;
    const values = this.#lines((index) => row.get(index) ?? null);
    // The server leaves rows out for a page that is slow; a true gap is asked for once in vain.
    if (at_ms - (this.columns.times.at(-1) ?? at_ms) > 2 * this.step_ms) this.is_behind = true;
    if (this.step_ms <= RAW_STEP_MS) add(this.columns, at_ms, values, this.step_ms);
    else this.#in_bucket = blend(this.columns, at_ms, values, this.step_ms, this.#in_bucket);
    trim(this.columns, from_ms);
    this.version += 1;
  }

  #fill(frames: Frame[]): void {
    this.#open.clear();
    this.step_ms = Math.max(1, ...frames.map((frame) => frame.header.step_ms));
    const order = frames.flatMap((frame) => frame.header.series.map((series) => series.index));
    const whole = with_gaps(merge(frames), this.step_ms);
    const place = new Map(order.map((index, column) => [index, whole.values[column]]));
    const values = this.panel.lines.map((): (number | null)[] => []);
    whole.times.forEach((_, row) => {
      this.#lines((index) => place.get(index)?.[row] ?? null).forEach((value, l) => {
        values[l]?.push(value);
      });
    });
    this.columns = { times: whole.times, values };
    this.#in_bucket = 0;
    this.phase = 'ready';
    this.version += 1;
  }

  #lines(value: (index: number) => number | null): (number | null)[] {
    return this.panel.lines.map((line) => line.of(line.inputs.map(value)));
  }
}

/** One node, over one range. */
export class View implements Attendant {
  readonly member: Member;
  feeds = $state.raw<Feed[]>([]);
  phase = $state<'waiting' | 'ready' | 'failed'>('waiting');
  /** Where the cursor stands, for the legends of all charts; null when it is elsewhere. */
  cursor_ms = $state<number | null>(null);
  range: Range = DEFAULT;
  #known = '';
  #series_request = 0;
  #watch_request = 0;
  #watched: number[] = [];
  #waiting: { feed: Feed; message: History }[] = [];
  #flying = new Set<number>();
  #rows = 0;
  #settle = 0;
  #leave: () => void;

  constructor(member: Member) {
    this.member = member;
    this.#leave = fleet.attend(this);
    this.opened();
  }

  close(): void {
    this.#leave();
    window.clearTimeout(this.#settle);
    fleet.live.send({ type: 'unwatch' });
  }

  /** Shows another range; what is drawn stays until its columns come. */
  show(range: Range): void {
    this.range = range;
    this.refresh();
  }

  /** A chart came into sight, or left it. */
  sight(feed: Feed, is_seen: boolean): void {
    feed.is_seen = is_seen;
    if (is_seen && feed.is_behind) this.#ask(feed);
    // Charts come and go by the dozen while a person scrolls: one watch for all of them.
    window.clearTimeout(this.#settle);
    this.#settle = window.setTimeout(() => this.#watch(), SETTLE_MS);
  }

  /** Asks again for everything that is in sight; the rest asks when it comes back. */
  refresh(): void {
    for (const feed of this.feeds) {
      feed.is_behind = true;
      if (feed.is_seen) this.#ask(feed);
    }
    this.#watch();
  }

  /** Asks what the node measures: at the start, and when there is more of it. */
  survey(): void {
    this.#series_request = fleet.request();
    fleet.live.send({ type: 'series', request: this.#series_request, node: this.member.info.index });
  }

  opened(): void {
    this.#waiting = [];
    this.#flying.clear();
    this.survey();
    this.refresh();
  }

  message(message: Extract<ServerMessage, { request: number }>): void {
    this.#landed(message.request);
    if (message.type === 'error') {
      if (message.request === this.#series_request && this.feeds.length === 0) this.phase = 'failed';
      for (const feed of this.feeds) feed.refuse(message.request, message.message);
    } else if (message.request === this.#series_request) this.#know(message.series);
  }

  columns(frame: Frame): void {
    this.#landed(frame.request);
    for (const feed of this.feeds) feed.answer(frame);
  }

  row(frame: LiveRow): void {
    if (frame.request !== this.#watch_request || this.range.kind !== 'live') return;
    const row = new Map(this.#watched.map((index, at) => [index, frame.values[at] ?? null]));
    const { from_ms } = stretch(this.range, clock.exact());
    for (const feed of this.feeds) {
      if (feed.inputs.every((index) => row.has(index))) feed.row(frame.at_ms, row, from_ms);
      else feed.is_behind = true;
    }
    this.#rows += 1;
    if (this.#rows % CATCH_UP_ROWS !== 0) return;
    for (const feed of this.feeds) {
      if (feed.is_seen && feed.is_behind) this.#ask(feed);
    }
  }

  #know(series: SeriesInfo[]): void {
    this.phase = 'ready';
    const known = series.map((one) => `${one.index}${one.name}`).join();
    if (known === this.#known) return;
    this.#known = known;
    this.feeds = panels(series).map((panel) => new Feed(panel));
  }

  #ask(feed: Feed): void {
    const asked = feed.ask(this.member.info.index, this.range);
    this.#waiting = this.#waiting.filter((entry) => entry.feed !== feed);
    this.#waiting.push(...asked.map((message) => ({ feed, message })));
    this.#send();
  }

  #landed(request: number): void {
    if (this.#flying.delete(request)) this.#send();
  }

  #send(): void {
    while (this.#flying.size < FLYING_LIMIT) {
      const next = this.#waiting.shift();
      if (next === undefined || !fleet.live.send(next.message)) return;
      this.#flying.add(next.message.request);
    }
  }

  /** Watches what is in sight, whole charts only, as many as the server takes. */
  #watch(): void {
    const watched = new Set<number>();
    for (const feed of this.feeds) {
      const next = feed.inputs.filter((index) => !watched.has(index));
      if (!feed.is_seen || watched.size + next.length > SERIES_LIMIT) continue;
      for (const index of next) watched.add(index);
    }
    this.#watched = this.range.kind === 'live' ? [...watched] : [];
    this.#watch_request = fleet.request();
    const { index: node } = this.member.info;
    if (this.#watched.length === 0) fleet.live.send({ type: 'unwatch' });
    else fleet.live.send({ type: 'watch', request: this.#watch_request, node, series: this.#watched });
  }
}
