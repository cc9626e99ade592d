/** A fact on screen: the value, or a dash with its reason, marked when it is too old to act on. */
import { useNow, useZone } from "../hooks/useNow";
import { age, DASH, direction, GLYPH, signedMoney, time } from "../lib/format";
import { ageSeconds, type Fresh, freshness, type Limits } from "../lib/fresh";

interface FigureProps {
  readonly fact: Fresh<number>;
  readonly format: (value: number) => string;
  readonly limits: Limits;
  /** Overrules the age: the server or the connection has said that this value is old. */
  readonly isStale?: boolean;
  readonly testId?: string;
}

/** A number with its age: plain while fresh, with the age beside it once it is not. */
export function Figure({ fact, format, limits, isStale = false, testId }: FigureProps) {
  const now = useNow();
  const zone = useZone();
  if (fact.value === null) {
    return (
      <span className="quiet" data-testid={testId} title={fact.missing}>
        <span aria-hidden="true">{DASH}</span>
        <span className="sr">{fact.missing}</span>
      </span>
    );
  }
  const seconds = ageSeconds(fact.at, now);
  const stale = isStale || freshness(seconds, limits) === "stale";
  const title = fact.at === null ? "as of an unknown time" : `as of ${time(fact.at, zone, now)} ${zone.label}`;
  return (
    <span className={stale ? "stale" : undefined} data-stale={stale || undefined} title={title}>
      <span data-testid={testId}>{format(fact.value)}</span>
      {stale && <span className="sr"> stale, {age(seconds)} old</span>}
    </span>
  );
}

/** A gain or loss: glyph, sign and number, so that colour only repeats what the form has said; an old one has none. */
export function Signed({ value, isStale = false }: { readonly value: number | null; readonly isStale?: boolean }) {
  const way = direction(value);
  return (
    <span className={isStale ? "stale" : way === "flat" ? undefined : way} data-stale={isStale || undefined}>
      {GLYPH[way] !== "" && (
        <span className="glyph" aria-hidden="true">
          {GLYPH[way]}
        </span>
      )}
      {signedMoney(value)}
      {isStale && <span className="sr"> stale</span>}
    </span>
  );
}
