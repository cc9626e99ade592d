/**
 * What the person is doing with the page: the order that is open, the theme, notices about their own commands.
 *
 * Not for anything that the server knows. Invariant: nothing here survives a reload but the theme and what
 * the address names.
 */
import { useSyncExternalStore } from "react";

/** A value that components can watch. */
class Watched<T> {
  #value: T;
  #watchers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  readonly get = (): T => this.#value;

  readonly watch = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  };

  set(value: T): void {
    this.#value = value;
    for (const watcher of [...this.#watchers]) watcher();
  }
}

function useWatched<T>(watched: Watched<T>): T {
  return useSyncExternalStore(watched.watch, watched.get);
}

/** What the address names behind its #: an order by any of its ids, and a moment to look back to. */
function named(): { readonly order: string | null; readonly at: number | null } {
  const words = new URLSearchParams(window.location.hash.slice(1));
  const at = Date.parse(words.get("at") ?? "");
  return { order: words.get("order"), at: Number.isNaN(at) ? null : at };
}

const openOrderId = new Watched<string | null>(named().order);
const moment = new Watched<number | null>(named().at);

window.addEventListener("hashchange", () => {
  openOrderId.set(named().order);
  moment.set(named().at);
});

/** A hand on the scrubber is not followed step by step; the browser would refuse so many changes of the address. */
const ADDRESS_MS = 300;
let addressTimer: ReturnType<typeof setTimeout> | undefined;

function writeAddress(): void {
  clearTimeout(addressTimer);
  const [order, at] = [openOrderId.get(), moment.get()];
  const words = new URLSearchParams();
  if (order !== null) words.set("order", order);
  if (order !== null && at !== null) words.set("at", new Date(at).toISOString());
  const { pathname, search } = window.location;
  window.history.replaceState(null, "", `${pathname}${search}${order === null ? "" : `#${words}`}`);
}

/** Opens the story of one order, by any of its ids, and names it in the address; null closes it. */
export function openOrder(id: string | null): void {
  moment.set(null);
  openOrderId.set(id);
  writeAddress();
}

/** The id of the order whose story is open. */
export function useOpenOrder(): string | null {
  return useWatched(openOrderId);
}

/** Chooses the moment, milliseconds since 1970, at which the open story is looked back on; null is the newest. */
export function chooseMoment(at: number | null): void {
  moment.set(at);
  clearTimeout(addressTimer);
  addressTimer = setTimeout(writeAddress, ADDRESS_MS);
}

/** That moment. */
export function useMoment(): number | null {
  return useWatched(moment);
}

/** What became of a command that the person gave. */
export interface Notice {
  readonly id: number;
  readonly tone: "done" | "failed";
  readonly text: string;
}

const notices = new Watched<readonly Notice[]>([]);
let noticed = 0;

/** Tells the person what became of a command. */
export function notify(tone: Notice["tone"], text: string): void {
  noticed += 1;
  notices.set([...notices.get(), { id: noticed, tone, text }].slice(-3));
}

/** Takes a notice away. */
export function dismissNotice(id: number): void {
  notices.set(notices.get().filter((notice) => notice.id !== id));
}

/** The notices that are shown now. */
export function useNotices(): readonly Notice[] {
  return useWatched(notices);
}

const killDialog = new Watched(false);

/** Opens or closes the dialog that engages the kill switch, or that takes the kill back. */
export function showKillDialog(isOpen: boolean): void {
  killDialog.set(isOpen);
}

/** Whether that dialog has been asked for. */
export function useKillDialog(): boolean {
  return useWatched(killDialog);
}

export type Theme = "dark" | "light";

const STORED_AS = "trueup.theme";

function startingTheme(): Theme {
  const stored = localStorage.getItem(STORED_AS);
  if (stored === "dark" || stored === "light") return stored;
  return window.matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}

const theme = new Watched<Theme>(startingTheme());
document.documentElement.dataset.theme = theme.get();

/** Changes between dark and light, and remembers it for the next visit. */
export function toggleTheme(): void {
  const next = theme.get() === "dark" ? "light" : "dark";
  localStorage.setItem(STORED_AS, next);
  document.documentElement.dataset.theme = next;
  theme.set(next);
}

/** The theme in use. */
export function useTheme(): Theme {
  return useWatched(theme);
}
