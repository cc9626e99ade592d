/**
 * A fact and the instant at which it was true.
 *
 * Not for drawing. Invariant: nothing on screen takes a bare number; what has no instant says so.
 */

/** A value, when it was true by its source's clock, and why it is missing when it is. */
export interface Fresh<T> {
  readonly value: T | null;
  readonly at: string | null;
  readonly missing: string;
}

/** Seconds up to which a fact of a kind is fresh, and past which it is stale; between the two it is ageing. */
export interface Limits {
  readonly fresh: number;
  readonly stale: number;
}

export const LIMITS = {
  quote: { fresh: 3, stale: 10 },
  account: { fresh: 60, stale: 180 },
  reconciliation: { fresh: 90, stale: 180 },
  health: { fresh: 5, stale: 15 },
} as const satisfies Record<string, Limits>;

export type Freshness = "fresh" | "ageing" | "stale" | "unknown";

/** Joins a value with its instant; `missing` is the reason that people read when the value is null. */
export function fresh<T>(value: T | null, at: string | null, missing = "not known yet"): Fresh<T> {
  return { value, at, missing };
}

/** Seconds between the instant `at` and `now` (milliseconds), never negative; null without a readable instant. */
export function ageSeconds(at: string | null, now: number): number | null {
  const then = at === null ? Number.NaN : Date.parse(at);
  return Number.isNaN(then) ? null : Math.max(0, (now - then) / 1000);
}

/** How an age in seconds stands against its limits. */
export function freshness(age: number | null, limits: Limits): Freshness {
  if (age === null) return "unknown";
  if (age <= limits.fresh) return "fresh";
  return age <= limits.stale ? "ageing" : "stale";
}
