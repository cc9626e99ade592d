/**
 * Keeps the socket open while a component is mounted, and writes each envelope into the store as it arrives.
 *
 * Not for reacting to messages: React may show only the last of several that came together, so `lastMessage` is for
 * looking at, and features read the store through `useChannel`. Invariant: the store sees every message.
 */
import { useEffect, useSyncExternalStore } from "react";
import { serverNow, syncClock } from "../lib/clock";
import { SharedSocket } from "../lib/socket";
import { store } from "../state/store";
import { type Envelope, readFrame } from "../state/wire";

/** One message of the server, as the store took it. */
export type WSMessage = Envelope;

/** Between two requests for a snapshot while none has come. */
export const RESYNC_MS = 1_000;

interface Glance {
  readonly lastMessage: WSMessage | null;
  readonly connected: boolean;
}

let glance: Glance = { lastMessage: null, connected: false };
const watchers = new Set<() => void>();
let resync: ReturnType<typeof setTimeout> | undefined;

function look(next: Partial<Glance>): void {
  glance = { ...glance, ...next };
  for (const watcher of [...watchers]) watcher();
}

/** Asks for a snapshot, and again, until what was missed has been made good. */
function askForSnapshot(): void {
  if (resync !== undefined) return;
  socket.send({ type: "resync" });
  resync = setTimeout(() => {
    resync = undefined;
    if (store.current().awaiting !== null) askForSnapshot();
  }, RESYNC_MS);
}

let resuming = false;

/** Where to connect: to resume when the store is whole up to its cursors, else for a snapshot. */
function address(): string {
  const { epoch, awaiting, synced, cursors } = store.current();
  resuming = epoch !== "" && awaiting === null && synced && Object.keys(cursors).length > 0;
  const base = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
  return resuming ? `${base}?resume` : base;
}

/** Says up to where the store has each channel. */
function sayCursors(): void {
  const { epoch, cursors } = store.current();
  const told = Object.fromEntries(Object.entries(cursors).map(([channel, offset]) => [channel, { epoch, offset }]));
  socket.send({ type: "resume", cursors: told });
}

const socket = new SharedSocket(address, {
  opened() {
    store.dispatch({ type: "opened" });
    if (resuming) sayCursors();
    look({ connected: true });
  },
  closed(attempt, failing) {
    store.dispatch({ type: "phase", phase: failing ? "disconnected" : "reconnecting", attempt, now: serverNow() });
    look({ connected: false });
  },
  ended() {
    clearTimeout(resync);
    resync = undefined;
    look({ connected: false, lastMessage: null });
  },
  received(text) {
    const frame = readFrame(text);
    switch (frame.kind) {
      case "pong":
        syncClock(frame.serverTime);
        store.dispatch({ type: "heard", now: serverNow() });
        return;
      case "resumed":
        if (frame.recovered) store.dispatch({ type: "resumed", now: serverNow() });
        return;
      case "foreign":
        store.dispatch({ type: "foreign", channel: frame.channel, data: frame.data, now: serverNow() });
        look({ lastMessage: { channel: frame.channel, data: frame.data } as unknown as WSMessage });
        return;
      case "unknown":
        store.dispatch({ type: "unknown", channel: frame.channel });
        return;
      case "malformed":
        store.dispatch({ type: "malformed", why: frame.why });
        return;
      case "envelope":
        syncClock(frame.envelope.at);
        store.dispatch({ type: "envelope", envelope: frame.envelope, now: serverNow() });
        if (store.current().awaiting !== null) askForSnapshot();
        look({ lastMessage: frame.envelope });
    }
  },
});

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/** Tries to connect at once instead of after the usual pause. */
export function retryNow(): void {
  socket.retryNow();
}

/** Connects on mount and returns the most recent message and whether the socket is open. */
export function useWebSocket(): { lastMessage: WSMessage | null; connected: boolean } {
  useEffect(() => socket.retain(), []);
  return useSyncExternalStore(watch, () => glance);
}
