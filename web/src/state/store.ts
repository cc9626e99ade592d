/**
 * The external store: it takes every message the moment it arrives and shows the result to whoever subscribes.
 *
 * Not for deciding what a message means (`reducer.ts`), and it knows no React. Invariant: applying is synchronous and
 * complete; only the telling of listeners is held back, so that two hundred messages a second cost ten renders and
 * lose nothing.
 */
import { type Action, EMPTY, reduce, type State, URGENT } from "./reducer";

/** Milliseconds between two tellings of what is not urgent. */
export const FLUSH_MS = 100;

export class Store {
  #current: State = EMPTY;
  #shown: State = EMPTY;
  #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Folds an action in at once, and tells listeners now (urgent, or after a quiet while) or soon. */
  dispatch(action: Action): void {
    this.#current = reduce(this.#current, action);
    if (this.#timer !== undefined && !isUrgent(action)) return;
    this.#flush();
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, FLUSH_MS);
  }

  /** The newest state, told or not. */
  current(): State {
    return this.#current;
  }

  /** The state that listeners were last told of; stable between two tellings. */
  readonly shown = (): State => this.#shown;

  /** Calls back after each telling; returns the way to stop. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Back to knowing nothing; a test begins with it. */
  reset(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#current = EMPTY;
    this.#flush();
  }

  #flush(): void {
    if (this.#shown === this.#current) return;
    this.#shown = this.#current;
    for (const listener of [...this.#listeners]) listener();
  }
}

function isUrgent(action: Action): boolean {
  if (action.type === "envelope") return URGENT.has(action.envelope.channel);
  return action.type !== "heard" && action.type !== "malformed" && action.type !== "unknown";
}

/** The one store of the page. */
export const store = new Store();
