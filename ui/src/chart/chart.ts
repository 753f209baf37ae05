// One time chart. The only file that names uPlot.
//
// `Chart` is given columns and a stretch of time and draws them: lines, piles, mirrored lines, and
// hatched stretches where nothing is known. Cursors of all charts move together; a drag selects.
// Colours are read from the style sheet at each drawing, so a change of theme needs only `redraw`.

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Stretch } from '../state/range';
import { colour } from '../state/theme.svelte';
import { type Columns, type Gap, stacked } from './align';
import { steps, tick_label, time_labels, type Unit, value_range } from './axis';

/** How one line is drawn. `colour` names a variable of the style sheet. */
export type Stroke = {
  colour: string;
  /** `pile` lies on the piled lines before it; `mirror` hangs below zero. */
  mode: 'line' | 'pile' | 'mirror';
  dashed?: boolean;
};

export type Reaction = {
  /** A person dragged over this stretch. */
  select(from_ms: number, to_ms: number): void;
  /** A person double-clicked: back to where it was. */
  reset(): void;
  /** The cursor stands at this time; null when it left. */
  cursor(at_ms: number | null): void;
};

const CURSORS = 'node';
const FONT = '11px system-ui, sans-serif';
const HATCH_PX = 7;

export class Chart {
  #plot: uPlot;
  #strokes: Stroke[];
  #gaps: Gap[] = [];
  #size: ResizeObserver;

  constructor(host: HTMLElement, unit: Unit, strokes: Stroke[], reaction: Reaction) {
    this.#strokes = strokes;
    this.#plot = new uPlot(
      this.#options(host, unit, reaction),
      [[], ...strokes.map(() => [])] as never,
      host,
    );
    this.#size = new ResizeObserver(() => {
      if (host.clientWidth > 0) this.#plot.setSize({ width: host.clientWidth, height: host.clientHeight });
    });
    this.#size.observe(host);
  }

  /** Draws `columns` within `stretch`; `gaps` are hatched. */
  show(columns: Columns, stretch: Stretch, gaps: Gap[]): void {
    this.#gaps = gaps;
    this.#plot.batch(() => {
      this.#plot.setData([columns.times, ...this.#drawn(columns)] as uPlot.AlignedData, false);
      this.#plot.setScale('x', { min: stretch.from_ms, max: stretch.to_ms });
    });
  }

  redraw(): void {
    this.#plot.redraw(false);
  }

  destroy(): void {
    this.#size.disconnect();
    this.#plot.destroy();
  }

  /** Values as they stand in the picture: piled up, or turned down. */
  #drawn(columns: Columns): (number | null)[][] {
    const piles = stacked(columns.values.filter((_, s) => this.#strokes[s]?.mode === 'pile'));
    return columns.values.map((values, s) => {
      const mode = this.#strokes[s]?.mode;
      if (mode === 'pile') return piles.shift() ?? values;
      return mode === 'mirror' ? values.map((value) => (value === null ? null : -value)) : values;
    });
  }

  #options(host: HTMLElement, unit: Unit, reaction: Reaction): uPlot.Options {
    return {
      width: host.clientWidth || 400,
      height: host.clientHeight || 180,
      ms: 1,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: true },
        y: { range: (_, low, high) => value_range(unit, low, high) },
      },
      axes: [time_axis(), value_axis(unit)],
      series: [{}, ...this.#strokes.map((stroke) => line(stroke))],
      bands: this.#bands(),
      cursor: {
        sync: { key: CURSORS },
        drag: { x: true, y: false, setScale: false },
        y: false,
        points: { size: 7, width: 2 },
        bind: {
          dblclick: () => () => {
            reaction.reset();
            return null;
          },
        },
      },
      hooks: {
        drawClear: [(plot) => this.#each_gap(plot, hatch)],
        draw: [(plot) => this.#each_gap(plot, say)],
        setCursor: [(plot) => reaction.cursor(cursor_time(plot))],
        setSelect: [(plot) => select(plot, reaction)],
      },
    };
  }

  /** The room between a piled line and the one below it. */
  #bands(): uPlot.Band[] {
    const piled = this.#strokes.flatMap((stroke, s) => (stroke.mode === 'pile' ? [s + 1] : []));
    return piled.slice(1).map((upper, index) => ({ series: [upper, piled[index] ?? 0] }));
  }

  /** Calls `paint` for the part of each gap that is in the picture, in pixels of the canvas. */
  #each_gap(plot: uPlot, paint: (ctx: CanvasRenderingContext2D, box: Box) => void): void {
    const { ctx, bbox } = plot;
    for (const gap of this.#gaps) {
      const left = Math.max(plot.valToPos(gap.from_ms, 'x', true), bbox.left);
      const right = Math.min(plot.valToPos(gap.to_ms, 'x', true), bbox.left + bbox.width);
      if (right - left < 1) continue;
      ctx.save();
      paint(ctx, { left, top: bbox.top, width: right - left, height: bbox.height });
      ctx.restore();
    }
  }
}

type Box = { left: number; top: number; width: number; height: number };

function line(stroke: Stroke): uPlot.Series {
  const paint = () => colour(stroke.colour);
  const series: uPlot.Series = {
    stroke: paint,
    width: stroke.mode === 'pile' ? 0 : 1.4,
    spanGaps: false,
    points: { show: true, size: 3, width: 0, fill: paint, filter: lonely },
  };
  if (stroke.dashed) series.dash = [4, 4];
  if (stroke.mode === 'pile') series.fill = () => faded(paint(), 0.65);
  return series;
}

/** Points with no neighbour, which no line would show. */
function lonely(plot: uPlot, s: number): number[] {
  const values = plot.data[s] ?? [];
  const found: number[] = [];
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] != null && values[i - 1] == null && values[i + 1] == null) found.push(i);
  }
  return found;
}

function time_axis(): uPlot.Axis {
  return {
    stroke: () => colour('dim'),
    font: FONT,
    size: (_, labels) => (labels?.some((label) => label.includes('\n')) ? 34 : 22),
    gap: 6,
    space: 72,
    grid: { stroke: () => colour('grid'), width: 1 },
    ticks: { show: false },
    values: (_, times, __, ___, step) => time_labels(times, step),
  };
}

function value_axis(unit: Unit): uPlot.Axis {
  return {
    stroke: () => colour('dim'),
    font: FONT,
    size: 66,
    gap: 8,
    space: 30,
    incrs: steps(unit),
    grid: { stroke: () => colour('grid'), width: 1 },
    ticks: { show: false },
    values: (_, values) => values.map((value) => tick_label(unit, value)),
  };
}

function cursor_time(plot: uPlot): number | null {
  const { left } = plot.cursor;
  return left === undefined || left < 0 ? null : plot.posToVal(left, 'x');
}

function select(plot: uPlot, reaction: Reaction): void {
  const { left, width } = plot.select;
  if (width < 2) return;
  const [from, to] = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')];
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  reaction.select(from, to);
}

function hatch(ctx: CanvasRenderingContext2D, { left, top, width, height }: Box): void {
  const step = HATCH_PX * devicePixelRatio;
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.fillStyle = colour('gap');
  ctx.fill();
  ctx.clip();
  ctx.beginPath();
  for (let x = left - height - (left % step); x < left + width; x += step) {
    ctx.moveTo(x, top + height);
    ctx.lineTo(x + height, top);
  }
  ctx.strokeStyle = colour('gap-line');
  ctx.lineWidth = devicePixelRatio;
  ctx.stroke();
}

/** Says what the hatching means, where there is room for it. */
function say(ctx: CanvasRenderingContext2D, { left, top, width, height }: Box): void {
  const scale = devicePixelRatio;
  if (width < 72 * scale) return;
  ctx.font = FONT.replace('11px', `${11 * scale}px`);
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  const [x, y] = [left + width / 2, top + height / 2];
  const half = ctx.measureText('no data').width / 2 + 6 * scale;
  ctx.fillStyle = colour('panel');
  ctx.fillRect(x - half, y - 9 * scale, half * 2, 18 * scale);
  ctx.fillStyle = colour('dim');
  ctx.fillText('no data', x, y);
}

/** A `#rrggbb` colour with an alpha. */
function faded(hex: string, alpha: number): string {
  return `${hex}${Math.round(alpha * 255)
    .toString(16)
    .padStart(2, '0')}`;
}
