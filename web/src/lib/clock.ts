/**
 * The server's time, kept in the browser: an offset learned from the server, advanced by a clock that cannot jump.
 *
 * Not for formatting. Invariant: ages come from `serverNow()`, never from the wall clock of this machine, so that a
 * wrong or corrected laptop clock can neither hide nor invent an age.
 */

let serverAtSync: number | null = null;
let monotonicAtSync = 0;

/** Learns the server's time from an RFC 3339 string that has just arrived; anything unreadable is left alone. */
export function syncClock(serverTime: string | undefined): void {
  const read = serverTime === undefined ? Number.NaN : Date.parse(serverTime);
  if (Number.isNaN(read)) return;
  const believed = serverAtSync === null ? Number.NEGATIVE_INFINITY : serverNow();
  // A message can only be late: the newest instant that any message has proved is the best estimate. A server clock
  // that was set back by more than a moment is followed.
  if (read > believed || believed - read > 5_000) {
    serverAtSync = read;
    monotonicAtSync = performance.now();
  }
}

/** Milliseconds since 1970 by the server's clock; this machine's clock until the server has spoken. */
export function serverNow(): number {
  return serverAtSync === null ? Date.now() : serverAtSync + (performance.now() - monotonicAtSync);
}

/** Forgets what the server said about time; a test begins with it. */
export function resetClock(): void {
  serverAtSync = null;
}

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;
let tick = 0;

/** Calls back once a second for as long as somebody listens; returns the way to stop. */
export function subscribeTicks(listener: () => void): () => void {
  listeners.add(listener);
  if (timer === undefined) {
    timer = setInterval(() => {
      tick += 1;
      for (const each of [...listeners]) each();
    }, 1_000);
  }
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** How many seconds the shared ticker has counted; changes exactly when listeners are called. */
export function currentTick(): number {
  return tick;
}
