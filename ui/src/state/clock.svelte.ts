// The page's clock: the serving node's wall time, beating about once a second.
//
// Ticks set it; where none come it beats by itself, so that ages go on counting when all else stands.

/** A beat is due when no tick brought one for this long. */
const BEAT_MS = 1_050;

class Clock {
  /** Wall time of the serving node, in ms. */
  now = $state(Date.now());
  #offset_ms = 0;
  #beat_ms = 0;

  start(): void {
    window.setInterval(() => {
      if (!document.hidden && Date.now() - this.#beat_ms > BEAT_MS) this.#beat();
    }, 250);
  }

  /** The server has just said what time it is. */
  sync(server_ms: number): void {
    this.#offset_ms = server_ms - Date.now();
    this.#beat();
  }

  /** The time at this very moment: `now` stands still while the page is hidden. */
  exact(): number {
    return this.from_local(Date.now());
  }

  /** A time of this machine as the serving node would call it. */
  from_local(local_ms: number): number {
    return local_ms + this.#offset_ms;
  }

  #beat(): void {
    this.#beat_ms = Date.now();
    this.now = this.exact();
  }
}

export const clock = new Clock();
