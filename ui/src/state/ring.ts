// The last minutes of one node's overview columns, for its sparklines.
//
// `push` takes a tick's values, `fill` replaces everything by a history. Bounded: the oldest row makes
// room. A row older than the newest is ignored; the history that brings late rows comes as `fill`.

export class Ring {
  readonly limit: number;
  #times: number[] = [];
  #columns: (number | null)[][];

  constructor(width: number, limit: number) {
    this.limit = limit;
    this.#columns = Array.from({ length: width }, () => []);
  }

  get times(): readonly number[] {
    return this.#times;
  }

  /** Values of column `index`, aligned with `times`; empty for a column that doesn't exist. */
  column(index: number): readonly (number | null)[] {
    return this.#columns[index] ?? [];
  }

  push(at_ms: number, values: readonly (number | null)[]): void {
    const newest = this.#times.at(-1);
    if (newest !== undefined && at_ms <= newest) return;
    this.#times.push(at_ms);
    this.#columns.forEach((column, index) => {
      column.push(values[index] ?? null);
    });
    if (this.#times.length <= this.limit) return;
    this.#times.shift();
    for (const column of this.#columns) column.shift();
  }

  /** Replaces all by a history; ticks newer than it stay. */
  fill(times: readonly number[], columns: readonly (readonly (number | null)[])[]): void {
    const end = times.at(-1) ?? Number.NEGATIVE_INFINITY;
    const first_newer = this.#times.findIndex((at) => at > end);
    const keep = first_newer < 0 ? this.#times.length : first_newer;
    this.#times = [...times, ...this.#times.slice(keep)].slice(-this.limit);
    this.#columns = this.#columns.map((old, index) =>
      [...(columns[index] ?? times.map(() => null)), ...old.slice(keep)].slice(-this.limit),
    );
  }
}
