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

const SOURCES: Record<string, { letter: string; word: string; name: string }> = {
  stream: { letter: "S", word: "stream", name: "stream: the broker told it as it happened" },
  reply: { letter: "A", word: "answer", name: "answer: the broker's answer to a request of ours" },
  poll: { letter: "P", word: "poll", name: "poll: found by asking in turn" },
  reconcile: { letter: "R", word: "snapshot", name: "reconcile: found by comparing with a whole snapshot" },
  lookup: { letter: "Q", word: "look-up", name: "look-up: asked for this one order" },
  command: { letter: "L", word: "here", name: "local: somebody here wanted it" },
  runtime: { letter: "L", word: "here", name: "local: trueup itself" },
};

/** The way in which a fact was learned, in a word: `stream`, `answer`, `poll`, `snapshot`, `look-up`, `here`. */
export function sourceWord(source: string): string {
  return SOURCES[source]?.word ?? (source || "not known");
}

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
