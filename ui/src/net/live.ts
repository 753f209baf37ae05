// The page's one connection: a WebSocket that comes back by itself.
//
// In go requests, out come messages and frames through `Listener`. A drop is followed by tries with
// back-off; going online or back to the tab tries at once. A hidden tab asks the server to pause.
// Invariant: nothing is queued while the connection is down; whoever listens asks again
// on `opened` and `resumed`.
// Absent: what requests mean, and state. `state/` holds both.

import type { ClientMessage, ServerMessage } from '../gen/api';
import { is_silent, wait_ms } from './backoff';
import { decode, type Frame } from './frames';

/** Where the connection stands. `retry_ms` is the wall time of the next try. */
export type Link =
  | { phase: 'connecting'; attempt: number }
  | { phase: 'open' }
  | { phase: 'waiting'; attempt: number; retry_ms: number; reason: string };

export interface Listener {
  /** The connection is new: everything that is wanted must be asked for again. */
  opened(): void;
  /** The page is in sight again: what came meanwhile was missed. */
  resumed(): void;
  message(message: ServerMessage): void;
  frame(frame: Frame): void;
  link(link: Link): void;
}

const PROTOCOL = 'outlast.v1';

export class Live {
  #listener: Listener;
  #url: string;
  #socket: WebSocket | null = null;
  #attempt = 0;
  #timer = 0;
  #heard_ms = 0;
  #reason = '';

  constructor(url: string, listener: Listener) {
    this.#url = url;
    this.#listener = listener;
  }

  /** Connects, and keeps connecting for as long as the page lives. */
  start(): void {
    document.addEventListener('visibilitychange', () => this.#visibility());
    window.addEventListener('online', () => this.retry());
    window.setInterval(() => this.#watch_silence(), 1000);
    this.#connect();
  }

  /** Sends now or not at all; false while the connection is down. */
  send(message: ClientMessage): boolean {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Ends the wait for the next try. */
  retry(): void {
    if (this.#socket !== null) return;
    window.clearTimeout(this.#timer);
    this.#connect();
  }

  #connect(): void {
    const socket = new WebSocket(this.#url, PROTOCOL);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#heard_ms = Date.now();
    this.#listener.link({ phase: 'connecting', attempt: this.#attempt });
    socket.onopen = () => this.#opened();
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => this.#received(event.data);
    socket.onclose = () => this.#closed(socket);
  }

  #opened(): void {
    this.#reason = '';
    this.#listener.link({ phase: 'open' });
    this.#listener.opened();
    if (document.hidden) this.send({ type: 'pause' });
  }

  #received(data: string | ArrayBuffer): void {
    this.#heard_ms = Date.now();
    // A server that closes right after accepting doesn't reset the back-off; one that speaks does.
    this.#attempt = 0;
    if (typeof data === 'string') {
      const message = JSON.parse(data) as ServerMessage;
      if (message.type === 'bye') this.#reason = message.reason;
      this.#listener.message(message);
    } else {
      const frame = decode(data);
      if (frame !== null) this.#listener.frame(frame);
    }
  }

  #closed(socket: WebSocket): void {
    if (this.#socket !== socket) return;
    this.#socket = null;
    const wait = wait_ms(this.#attempt, Math.random());
    this.#attempt += 1;
    this.#timer = window.setTimeout(() => this.#connect(), wait);
    this.#listener.link({
      phase: 'waiting',
      attempt: this.#attempt,
      retry_ms: Date.now() + wait,
      reason: this.#reason,
    });
  }

  #visibility(): void {
    this.#heard_ms = Date.now();
    this.send({ type: document.hidden ? 'pause' : 'resume' });
    if (document.hidden) return;
    if (this.#socket?.readyState === WebSocket.OPEN) this.#listener.resumed();
    this.retry();
  }

  /** A half-dead connection reports no close: its silence does. */
  #watch_silence(): void {
    const socket = this.#socket;
    if (socket === null || document.hidden || !is_silent(this.#heard_ms, Date.now())) return;
    this.#reason = 'it went silent';
    socket.onmessage = null;
    socket.close();
    this.#closed(socket);
  }
}
