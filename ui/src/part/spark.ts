// Draws a sparkline: filled lines over time, the second hanging below a middle line.
//
// Absent: reading state. Everything it needs is in `Spark`; it only touches the canvas.

export type Spark = {
  times: readonly number[];
  lines: { values: readonly (number | null)[]; colour: string }[];
  from_ms: number;
  to_ms: number;
  /** The top of the scale; null takes the largest value in sight, but at least `floor`. */
  top: number | null;
  floor: number;
  /** Colours of the hatched silence and of the base line. */
  gap: string;
  base: string;
};

/** Rows come each second; a longer silence breaks the line. */
const BREAK_MS = 2_500;
/** A silence is drawn once it is longer than this: the newest row is always a little old. */
const SILENCE_MS = 4_000;

export function draw(context: CanvasRenderingContext2D, spark: Spark): void {
  const { width, height } = context.canvas;
  const scale = devicePixelRatio;
  const is_double = spark.lines.length > 1;
  const base = is_double ? Math.round(height / 2) : height - scale;
  const room = (is_double ? height / 2 : height) - 2 * scale;
  const x = (at: number) => ((at - spark.from_ms) / (spark.to_ms - spark.from_ms)) * width;
  const top = spark.top ?? Math.max(spark.floor, ...spark.lines.flatMap((line) => largest(line.values)));
  context.clearRect(0, 0, width, height);
  hatch(
    context,
    silences(spark).map(([from, to]) => [x(from), x(to)]),
    spark.gap,
    scale,
  );
  context.fillStyle = spark.base;
  context.fillRect(0, base, width, scale);
  spark.lines.forEach((line, i) => {
    const direction = i === 0 ? -1 : 1;
    context.strokeStyle = line.colour;
    context.fillStyle = `${line.colour}33`;
    context.lineWidth = 1.25 * scale;
    context.lineJoin = 'round';
    for (const run of runs(spark.times, line.values, spark.from_ms)) {
      const points = run.map(([at, value]): [number, number] => [
        x(at),
        base + direction * room * Math.min(1, value / top),
      ]);
      trace(context, points, base, scale);
    }
  });
}

function largest(values: readonly (number | null)[]): number {
  return values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
}

/** Stretches in sight without any row, edges included. */
export function silences(spark: Pick<Spark, 'times' | 'lines' | 'from_ms' | 'to_ms'>): [number, number][] {
  const found: [number, number][] = [];
  let last = spark.from_ms;
  spark.times.forEach((at, i) => {
    if (at < spark.from_ms || spark.lines.every((line) => line.values[i] == null)) return;
    if (at - last > SILENCE_MS) found.push([last, at]);
    last = at;
  });
  if (spark.to_ms - last > SILENCE_MS) found.push([last, spark.to_ms]);
  return found;
}

/** Unbroken pieces of one line, from the last point before `from_ms` on. */
export function runs(
  times: readonly number[],
  values: readonly (number | null)[],
  from_ms: number,
): [number, number][][] {
  const found: [number, number][][] = [];
  let run: [number, number][] = [];
  times.forEach((at, i) => {
    const value = values[i] ?? null;
    const before = run.at(-1);
    if (value === null || (before !== undefined && at - before[0] > BREAK_MS)) {
      if (run.length > 0) found.push(run);
      run = [];
    }
    if (value !== null && at >= from_ms - BREAK_MS) run.push([at, value]);
  });
  if (run.length > 0) found.push(run);
  return found;
}

function trace(
  context: CanvasRenderingContext2D,
  points: [number, number][],
  base: number,
  scale: number,
): void {
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined) return;
  if (points.length === 1) {
    context.fillRect(first[0] - scale, first[1] - scale, 2 * scale, 2 * scale);
    return;
  }
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
  context.lineTo(last[0], base);
  context.lineTo(first[0], base);
  context.fill();
}

function hatch(
  context: CanvasRenderingContext2D,
  stretches: [number, number][],
  paint: string,
  scale: number,
): void {
  const { height } = context.canvas;
  context.strokeStyle = paint;
  context.lineWidth = scale;
  for (const [from, to] of stretches) {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    context.beginPath();
    for (let x = Math.floor(from / (6 * scale)) * 6 * scale - height; x < to; x += 6 * scale) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
    context.restore();
  }
}
