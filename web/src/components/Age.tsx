/** How old a fact is, in the page's one beat. Not for the fact itself (`Figure`). */
import { useNow, useZone } from "../hooks/useNow";
import { age, DASH, time } from "../lib/format";
import { ageSeconds, freshness, type Limits } from "../lib/fresh";

interface AgeProps {
  readonly at: string | null;
  readonly limits?: Limits;
  readonly missing?: string;
  readonly suffix?: string;
  readonly testId?: string;
}

/** The age of an instant, with the instant itself on hover; past its limits it is marked, not only coloured. */
export function Age({ at, limits, missing = "never", suffix = "", testId }: AgeProps) {
  const now = useNow();
  const zone = useZone();
  const seconds = ageSeconds(at, now);
  if (seconds === null) {
    return (
      <span className="age" data-testid={testId} title={missing}>
        {missing === "never" ? "never" : DASH}
      </span>
    );
  }
  const state = limits === undefined ? "fresh" : freshness(seconds, limits);
  return (
    <span className={`age ${state}`} data-testid={testId} title={`${time(at, zone, now)} ${zone.label} (${at})`}>
      {state === "stale" && <StaleMark />}
      {age(seconds)}
      {suffix}
      {state === "stale" && <span className="sr"> (stale)</span>}
    </span>
  );
}

function StaleMark() {
  return (
    <svg width="11" height="12" viewBox="0 0 11 12" aria-hidden="true">
      <circle cx="5.5" cy="7" r="4.2" fill="none" stroke="currentColor" strokeWidth="1.4" />
      <path d="M5.5 7V4.6M4 .9h3" stroke="currentColor" strokeWidth="1.4" strokeLinecap="round" />
    </svg>
  );
}

/** A clock time in the chosen zone, with the full instant on hover. */
export function ClockTime({ at, ms = false }: { readonly at: string | null; readonly ms?: boolean }) {
  const now = useNow();
  const zone = useZone();
  return (
    <time dateTime={at ?? undefined} title={at ?? "not known"}>
      {time(at, zone, now, ms)}
    </time>
  );
}
