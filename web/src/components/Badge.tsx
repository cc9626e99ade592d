/** Small marks: chips, sides, and how a fact was learned. They know no feature. */
import type { ReactNode } from "react";

export type Tone = "neutral" | "ok" | "warn" | "crit" | "fill-warn" | "fill-crit";

/** A word in a rounded frame; the tone repeats what the word says. */
export function Chip({
  tone = "neutral",
  small = false,
  title,
  children,
}: {
  readonly tone?: Tone;
  readonly small?: boolean;
  readonly title?: string;
  readonly children: ReactNode;
}) {
  return (
    <span className={`chip ${tone}${small ? " small" : ""}`} title={title}>
      {children}
    </span>
  );
}

const SOURCES: Record<string, { letter: string; name: string }> = {
  stream: { letter: "S", name: "stream: the broker told it as it happened" },
  reply: { letter: "A", name: "answer: the broker's answer to a request of ours" },
  poll: { letter: "P", name: "poll: found by asking in turn" },
  reconcile: { letter: "R", name: "reconcile: found by comparing with a whole snapshot" },
  lookup: { letter: "Q", name: "look-up: asked for this one order" },
  command: { letter: "L", name: "local: somebody here wanted it" },
  runtime: { letter: "L", name: "local: trueup itself" },
};

/** One letter for the way in which a fact was learned. */
export function SourceBadge({ source }: { readonly source: string }) {
  const known = SOURCES[source] ?? { letter: "?", name: source || "not known" };
  return (
    <span className="source" data-source={source} role="img" aria-label={known.name} title={known.name}>
      {known.letter}
    </span>
  );
}

/** Buy or sell, by glyph and word; never by a colour of danger. */
export function SideWord({ side }: { readonly side: string }) {
  const isBuy = side === "BUY";
  return (
    <span className="side">
      <span className="glyph" aria-hidden="true">
        {isBuy ? "▲" : "▼"}
      </span>
      {isBuy ? "Buy" : side === "SELL" ? "Sell" : side}
    </span>
  );
}
