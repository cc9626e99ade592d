/**
 * One socket to the server for the whole page: opened with its first user, closed with its last, reopened in between.
 *
 * Not for the meaning of messages: each frame goes to a sink in the same task in which it arrived. Invariant: a frame
 * is never dropped or merged on its way, and a connection that has died without saying so is noticed.
 */

/** Between two pings. */
export const PING_MS = 30_000;
/** From a close to the next attempt. */
export const RECONNECT_MS = 3_000;
/** The longest pause that a server may ask for. */
export const RETRY_MS_MAX = 10_000;
/** How long a ping may stay without any answer while the page is visible. */
export const SILENCE_MS = 10_000;
/** How long opening may take. */
export const OPENING_MS = 8_000;
/** Failing for longer than this is called disconnected. */
export const GIVE_UP_WORD_MS = 15_000;

/** What the socket tells; `received` is called once for each frame, in order, synchronously. */
export interface Sink {
  received(text: unknown): void;
  opened(): void;
  /** The socket is not open; `failing` once that has lasted longer than a moment. */
  closed(attempt: number, failing: boolean): void;
  /** The last user has gone, and the socket with it. */
  ended(): void;
}

/** The pause that a restarting server asks for, so that not all its clients come back at once. */
function pauseIn(reason: string | undefined): number {
  const asked = /retry_after_ms=(\d{1,5})/.exec(reason ?? "");
  return asked === null ? RECONNECT_MS : Math.min(Number(asked[1]), RETRY_MS_MAX);
}

export class SharedSocket {
  readonly #url: () => string;
  readonly #sink: Sink;
  #users = 0;
  #socket: WebSocket | undefined;
  #attempt = 0;
  #ping: ReturnType<typeof setInterval> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #opening: ReturnType<typeof setTimeout> | undefined;
  #reconnect: ReturnType<typeof setTimeout> | undefined;
  #giveUpWord: ReturnType<typeof setTimeout> | undefined;

  constructor(url: () => string, sink: Sink) {
    this.#url = url;
    this.#sink = sink;
  }

  /** Whether the socket is open. */
  get connected(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Registers a user and opens the socket for the first; the returned release closes it after the last. */
  retain(): () => void {
    this.#users += 1;
    if (this.#users === 1 && this.#socket === undefined && this.#reconnect === undefined) this.#start();
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#users -= 1;
      // A remount in the same task (React's strict mode does it) keeps the socket.
      setTimeout(() => {
        if (this.#users === 0) this.#stop();
      }, 0);
    };
  }

  /** Sends a message if the socket is open; says whether it was. Nothing is kept for later. */
  send(message: object): boolean {
    if (!this.connected) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /** Tries at once instead of waiting for the next attempt. */
  retryNow(): void {
    if (this.#reconnect === undefined) return;
    clearTimeout(this.#reconnect);
    this.#reconnect = undefined;
    this.#open();
  }

  #start(): void {
    document.addEventListener("visibilitychange", this.#wake);
    window.addEventListener("online", this.#wake);
    this.#watchForLongFailure();
    this.#open();
  }

  #stop(): void {
    document.removeEventListener("visibilitychange", this.#wake);
    window.removeEventListener("online", this.#wake);
    clearTimeout(this.#reconnect);
    clearTimeout(this.#giveUpWord);
    this.#reconnect = undefined;
    this.#giveUpWord = undefined;
    this.#attempt = 0;
    this.#drop();
    this.#sink.ended();
  }

  #open(): void {
    const socket = new WebSocket(this.#url());
    this.#socket = socket;
    this.#opening = setTimeout(() => this.#lost(socket), OPENING_MS);
    socket.onopen = () => {
      clearTimeout(this.#opening);
      clearTimeout(this.#giveUpWord);
      this.#giveUpWord = undefined;
      this.#attempt = 0;
      this.#ping = setInterval(this.#sendPing, PING_MS);
      this.#sink.opened();
    };
    socket.onmessage = (event: MessageEvent<unknown>) => {
      clearTimeout(this.#silence);
      this.#silence = undefined;
      this.#sink.received(event.data);
    };
    socket.onclose = (event?: CloseEvent) => this.#lost(socket, pauseIn(event?.reason));
    socket.onerror = () => this.#lost(socket);
  }

  readonly #sendPing = (): void => {
    if (!this.send({ type: "ping" })) return;
    this.#silence ??= setTimeout(() => {
      this.#silence = undefined;
      // A hidden page's timers are throttled: that the answer seems late then proves nothing.
      if (!document.hidden && this.#socket !== undefined) this.#lost(this.#socket);
    }, SILENCE_MS);
  };

  readonly #wake = (): void => {
    if (document.hidden) return;
    if (this.#reconnect !== undefined) this.retryNow();
    else this.#sendPing();
  };

  /** The socket is gone, or as good as gone: a dead one may take minutes to say that it has closed. */
  #lost(socket: WebSocket, pauseMs = RECONNECT_MS): void {
    if (socket !== this.#socket) return;
    this.#drop();
    if (this.#users === 0) return;
    this.#attempt += 1;
    this.#watchForLongFailure();
    this.#sink.closed(this.#attempt, this.#giveUpWord === undefined);
    this.#reconnect = setTimeout(() => {
      this.#reconnect = undefined;
      this.#open();
    }, pauseMs);
  }

  #drop(): void {
    clearInterval(this.#ping);
    clearTimeout(this.#silence);
    clearTimeout(this.#opening);
    this.#silence = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onerror = null;
    socket.close();
  }

  #watchForLongFailure(): void {
    if (this.#attempt > 1 || this.#giveUpWord !== undefined) return;
    this.#giveUpWord = setTimeout(() => {
      this.#giveUpWord = undefined;
      this.#sink.closed(this.#attempt, true);
    }, GIVE_UP_WORD_MS);
  }
}
