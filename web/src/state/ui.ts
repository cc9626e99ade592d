/**
 * What the person is doing with the page: the order that is open, the theme, notices about their own commands.
 *
 * Not for anything that the server knows. Invariant: nothing here survives a reload but the theme.
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

const openOrderId = new Watched<string | null>(null);

/** Opens the story of one order, by any of its ids; null closes it. */
export function openOrder(id: string | null): void {
  openOrderId.set(id);
}

/** The id of the order whose story is open. */
export function useOpenOrder(): string | null {
  return useWatched(openOrderId);
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
