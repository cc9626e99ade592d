/**
 * Reads a part of the store and renders again only when that part changes.
 *
 * Not for deriving new objects: a selector must return what the state holds, or a plain value. Invariant: what a
 * component shows is one consistent state, never half of an old one.
 */
import { useSyncExternalStore } from "react";
import type { State } from "../state/reducer";
import { store } from "../state/store";

/** The selected part of the state as last told. */
export function useChannel<T>(select: (state: State) => T): T {
  return useSyncExternalStore(store.subscribe, () => select(store.shown()));
}
