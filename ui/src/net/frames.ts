// The binary frames of `/live`, little-endian, each told by its first byte.
//
// `decode` takes one WebSocket message and gives a frame whose gaps are `null`; NaN stays on the wire.
// A frame that is too short or of another length than it says is a `FrameError`, never half a frame.

import type { ColumnsHeader } from '../gen/api';

/** The newest values of every node, once a second. */
export type Tick = { kind: 'tick'; now_ms: number; nodes: TickNode[] };

/**
 * One node's line of a tick. `age_ms` is null for a node of which nothing ever came. With `by_summary` the rows are
 * kept elsewhere, and the values are what the node told everybody that long ago.
 */
export type TickNode = {
  index: number;
  age_ms: number | null;
  by_summary: boolean;
  values: (number | null)[];
};

/** History of one node: `values[s][i]` is series `s` at `times[i]` (ms). */
export type Columns = {
  kind: 'columns';
  request: number;
  header: ColumnsHeader;
  times: number[];
  values: (number | null)[][];
};

/** One new row of the watched series, in the order in which they were asked for. */
export type LiveRow = { kind: 'live'; request: number; at_ms: number; values: (number | null)[] };

export type Frame = Tick | Columns | LiveRow;

/** Why a message is no frame. */
export class FrameError extends Error {}

const NEVER = 0xffffffff;
const SUMMARY = 1;

/** The frame in `buffer`; null for a kind this page doesn't know, which is skipped. */
export function decode(buffer: ArrayBuffer): Frame | null {
  const view = new DataView(buffer);
  if (view.byteLength < 8) throw new FrameError(`frame of ${view.byteLength} bytes has no header`);
  switch (view.getUint8(0)) {
    case 1:
      return tick(view);
    case 2:
      return columns(view);
    case 3:
      return live(view);
    default:
      return null;
  }
}

function tick(view: DataView): Tick {
  const width = view.getUint8(1);
  const count = view.getUint16(2, true);
  const stride = 8 + 4 * width;
  demand(view, 16 + count * stride, 'tick');
  const nodes: TickNode[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = 16 + i * stride;
    const age = view.getUint32(at + 4, true);
    const values: (number | null)[] = [];
    for (let c = 0; c < width; c += 1) values.push(present(view.getFloat32(at + 8 + 4 * c, true)));
    nodes.push({
      index: view.getUint16(at, true),
      age_ms: age === NEVER ? null : age,
      by_summary: view.getUint16(at + 2, true) === SUMMARY,
      values,
    });
  }
  return { kind: 'tick', now_ms: view.getFloat64(8, true), nodes };
}

function columns(view: DataView): Columns {
  if (view.byteLength < 16) throw new FrameError('columns without a header length');
  const length = view.getUint32(8, true);
  const start = 16 + Math.ceil(length / 8) * 8;
  if (view.byteLength < start) throw new FrameError(`columns header of ${length} bytes is cut off`);
  const text = new TextDecoder().decode(new Uint8Array(view.buffer, 16, length));
  const header = JSON.parse(text) as ColumnsHeader;
  const { n, series } = header;
  demand(view, start + 8 * n * (1 + series.length), 'columns');
  const times: number[] = [];
  for (let i = 0; i < n; i += 1) times.push(view.getFloat64(start + 8 * i, true));
  const values = series.map((_, s) => doubles(view, start + 8 * n * (1 + s), n));
  return { kind: 'columns', request: view.getUint32(4, true), header, times, values };
}

function live(view: DataView): LiveRow {
  if (view.byteLength < 16 || view.byteLength % 8 !== 0) {
    throw new FrameError(`live row of ${view.byteLength} bytes`);
  }
  return {
    kind: 'live',
    request: view.getUint32(4, true),
    at_ms: view.getFloat64(8, true),
    values: doubles(view, 16, (view.byteLength - 16) / 8),
  };
}

function doubles(view: DataView, offset: number, count: number): (number | null)[] {
  const values: (number | null)[] = new Array(count);
  for (let i = 0; i < count; i += 1) values[i] = present(view.getFloat64(offset + 8 * i, true));
  return values;
}

/** NaN says "absent" on the wire; an infinity can't be drawn either. */
function present(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function demand(view: DataView, length: number, kind: string): void {
  if (view.byteLength !== length) {
    throw new FrameError(`${kind} of ${view.byteLength} bytes, but it says ${length}`);
  }
}
