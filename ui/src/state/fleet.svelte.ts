// Every node of the mesh as the serving node sees it, and the page's connection to that node.
//
// Messages and frames come in through `Fleet` as `Listener`; tiles read `Member`s. Frames that answer
// a node page's requests go on to whoever `attend`s.
// Invariant: a member is never dropped while the page lives, whatever a message leaves out.

import type { Column, Node, ServerMessage } from '../gen/api';
import type { Columns, Frame, LiveRow, Tick, TickNode } from '../net/frames';
import type { Link, Listener } from '../net/live';
import { Live } from '../net/live';
import { clock } from './clock.svelte';
import { Ring } from './ring';
import { in_order, is_cut_off, type Status, status, tally } from './status';

/** What a sparkline shows. */
export const WINDOW_MS = 5 * 60_000;
/** One row a second, and some more for late ones. */
const RING_ROWS = 400;
/** Nobody tells two summaries within so short a time; one that is told twice trembles by less. */
const AGAIN_MS = 500;
/** Overview frames carry the node's index as their request: below this. */
export const FIRST_REQUEST = 65_536;

/** One node, live. */
export class Member {
  info = $state.raw() as Node;
  /** Newest values in the order of the overview's columns. */
  values = $state.raw<(number | null)[]>([]);
  /** The newest row seen, by description or by tick; null where none ever came. */
  last_ms = $state<number | null>(null);
  /** The newest values came as a summary: its rows are kept elsewhere. */
  by_summary = $state(false);
  /** Counts histories, so that a node page knows when a gap was filled. */
  filled = $state(0);
  ring: Ring;

  constructor(info: Node, width: number) {
    this.ring = new Ring(width, RING_ROWS);
    this.describe(info);
  }

  describe(info: Node): void {
    this.info = info;
    this.#newest(info.last_ms);
  }

  tick(now_ms: number, { age_ms, values, by_summary }: TickNode): void {
    this.values = values;
    this.by_summary = by_summary;
    if (age_ms === null) return;
    const at_ms = now_ms - age_ms;
    // A summary comes again with each tick until the next one is here: that is no second point.
    const is_again = by_summary && at_ms - (this.ring.times.at(-1) ?? 0) < AGAIN_MS;
    this.#newest(at_ms);
    if (!is_again) this.ring.push(at_ms, values);
  }

  fill(frame: Columns): void {
    this.ring.fill(frame.times, frame.values);
    this.filled += 1;
  }

  #newest(at_ms: number | null): void {
    if (at_ms !== null && at_ms > (this.last_ms ?? Number.NEGATIVE_INFINITY)) this.last_ms = at_ms;
  }
}

/** Who gets answers to requests other than the overview's. */
export interface Attendant {
  /** The connection is new, or was not listened to for a while. */
  opened(): void;
  message(message: Extract<ServerMessage, { request: number }>): void;
  columns(frame: Columns): void;
  row(frame: LiveRow): void;
}

class Fleet implements Listener {
  link_state = $state.raw<Link>({ phase: 'connecting', attempt: 0 });
  me = $state('');
  mesh = $state('');
  version = $state('');
  /** When the last word came from the server, in its time; null before the first. */
  heard_ms = $state<number | null>(null);
  columns = $state.raw<Column[]>([]);
  members = $state.raw<Member[]>([]);

  ordered = $derived(
    in_order(this.members.map((member) => ({ ...pick(member.info), member }))).map((entry) => entry.member),
  );
  #states = $derived(this.members.map((member) => member.info.state));
  tally = $derived(tally(this.#states));
  cut_off = $derived(is_cut_off(this.#states));
  linked = $derived(this.link_state.phase === 'open');
  server = $derived(this.members.find((member) => member.info.id === this.me)?.info.name ?? '');
  #is_new = false;
  #by_index = new Map<number, Member | undefined>();
  #attendants = new Set<Attendant>();
  #next_request = FIRST_REQUEST;

  live = new Live(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/live`, this);

  /** What to call `member`'s state just now. */
  status(member: Member): Status {
    const { linked, cut_off } = this;
    const { by_summary, last_ms } = member;
    return status({ state: member.info.state, last_ms, by_summary, now_ms: clock.now, linked, cut_off });
  }

  /** Position of an overview column; -1 where the server has none of that name. */
  column(name: string): number {
    return this.columns.findIndex((column) => column.name === name);
  }

  member(id: string): Member | undefined {
    return this.members.find((member) => member.info.id === id);
  }

  /** A number for a request that no other request of this page has. */
  request(): number {
    this.#next_request += 1;
    return this.#next_request;
  }

  /** Passes answers on to `attendant` until the returned function is called. */
  attend(attendant: Attendant): () => void {
    this.#attendants.add(attendant);
    return () => this.#attendants.delete(attendant);
  }

  opened(): void {
    this.#is_new = true;
    this.live.send({ type: 'overview', window_ms: WINDOW_MS });
  }

  resumed(): void {
    this.live.send({ type: 'overview', window_ms: WINDOW_MS });
    for (const attendant of this.#attendants) attendant.opened();
  }

  link(link: Link): void {
    this.link_state = link;
  }

  message(message: ServerMessage): void {
    switch (message.type) {
      case 'hello':
        clock.sync(message.now_ms);
        this.heard_ms = message.now_ms;
        this.me = message.me;
        this.mesh = message.mesh.name;
        this.version = message.version;
        this.#have(message.columns);
        break;
      case 'nodes':
        this.#describe(message.nodes);
        // A restarted server may have given its nodes other indices: only here are they known.
        if (this.#is_new) for (const attendant of this.#attendants) attendant.opened();
        this.#is_new = false;
        break;
      case 'series':
      case 'error':
        for (const attendant of this.#attendants) attendant.message(message);
        break;
      case 'bye':
        break;
    }
  }

  frame(frame: Frame): void {
    if (frame.kind === 'tick') this.#tick(frame);
    else if (frame.kind === 'columns' && frame.request < FIRST_REQUEST) {
      this.#at(frame.request)?.fill(frame);
    } else {
      for (const attendant of this.#attendants) {
        if (frame.kind === 'columns') attendant.columns(frame);
        else attendant.row(frame);
      }
    }
  }

  /** Another server may have other columns; rings of the old ones are worth nothing then. */
  #have(columns: Column[]): void {
    if (columns.map((column) => column.name).join() === this.columns.map((column) => column.name).join())
      return;
    this.columns = columns;
    this.members = [];
  }

  #describe(nodes: Node[]): void {
    const added: Member[] = [];
    for (const info of nodes) {
      const member = this.member(info.id);
      if (member === undefined) added.push(new Member(info, this.columns.length));
      else member.describe(info);
    }
    if (added.length > 0) this.members = [...this.members, ...added];
    // The list is whole: whom it leaves out has no index, whatever an earlier server said.
    const listed = nodes.map((info) => [info.index, this.member(info.id)] as const);
    this.#by_index = new Map(listed);
  }

  #tick(frame: Tick): void {
    clock.sync(frame.now_ms);
    this.heard_ms = frame.now_ms;
    for (const node of frame.nodes) this.#at(node.index)?.tick(frame.now_ms, node);
  }

  #at(index: number): Member | undefined {
    return this.#by_index.get(index);
  }
}

function pick({ state, name, id }: Node): Pick<Node, 'state' | 'name' | 'id'> {
  return { state, name, id };
}

export const fleet = new Fleet();
