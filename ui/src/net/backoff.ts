// How long to wait before the next try, and when a silent connection is taken for dead.
//
// Pure: the caller brings the random number. Waits double from half a second to fifteen, each
// shortened by up to a quarter so that a hundred pages don't come back in one moment.

const FIRST_MS = 500;
const LAST_MS = 15_000;
const JITTER = 0.25;

/** A tick is due every second; after this long without one the connection is closed and redone. */
export const SILENCE_MS = 8_000;

/** Wait before try number `attempt` (0 is the first), with `random` in 0..1. */
export function wait_ms(attempt: number, random: number): number {
  const full = Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(full * (1 - JITTER * random));
}

/** True once nothing was heard since `heard_ms` for longer than a live server stays quiet. */
export function is_silent(heard_ms: number, now_ms: number): boolean {
  return now_ms - heard_ms > SILENCE_MS;
}
