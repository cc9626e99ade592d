/**
 * The time on screen: the server's, once a second for everybody, in the zone that the person has chosen.
 *
 * Not for measuring. Invariant: all ages on the page move in the same beat.
 */
import { useSyncExternalStore } from "react";
import { currentTick, serverNow, subscribeTicks } from "../lib/clock";
import { ZONES, type Zone } from "../lib/format";

/** The server's time in milliseconds at this render; renders again each second. */
export function useNow(): number {
  useSyncExternalStore(subscribeTicks, currentTick);
  return serverNow();
}

const STORED_AS = "trueup.zone";
const watchers = new Set<() => void>();
let zone: Zone = ZONES.find((each) => each.label === localStorage.getItem(STORED_AS)) ?? ZONES[0];

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/** The zone in which clock times are shown. */
export function useZone(): Zone {
  return useSyncExternalStore(watch, () => zone);
}

/** Goes on to the next zone, and remembers it for the next visit. */
export function nextZone(): void {
  zone = ZONES[(ZONES.indexOf(zone) + 1) % ZONES.length] ?? ZONES[0];
  localStorage.setItem(STORED_AS, zone.label);
  for (const watcher of [...watchers]) watcher();
}
