/**
 * A gap in broker events: that it is open and what that blocks; once closed, what had been missed and how it was learned.
 *
 * Not for market data. Invariant: an open gap cannot be dismissed, for nothing of what follows it is proven.
 */
import type { GapView } from "../../api/types";
import { ClockTime } from "../../components/Age";
import { useChannel } from "../../hooks/useChannel";
import { useNow } from "../../hooks/useNow";
import { counted, stretch } from "../../lib/format";
import { openGap } from "../../state/selectors";
import { store } from "../../state/store";

/** How long the summary of a closed gap stays by itself, in milliseconds: when fills were missed, and when none was. */
const SUMMARY_MS = 120_000;
const SUMMARY_MS_CLEAN = 30_000;

/** The banner of an open gap, or the summary of the one that has just closed. */
export function GapBanner() {
  const open = useChannel(openGap);
  const now = useNow();
  const dismissed = useChannel((state) => state.dismissedHeal);
  const closed = useChannel(
    (state) => state.gaps.find((gap) => gap.closed_at !== null && gap.feed !== "market_data") ?? null,
  );
  if (open !== null) return <OpenGap gap={open} now={now} />;
  if (closed === null || closed.closed_at === null || closed.id === dismissed) return null;
  if (now - Date.parse(closed.closed_at) > (closed.missed > 0 ? SUMMARY_MS : SUMMARY_MS_CLEAN)) return null;
  return <HealSummary gap={closed} />;
}

function OpenGap({ gap, now }: { readonly gap: GapView; readonly now: number }) {
  const isGated = useChannel((state) => state.health?.entries_gated ?? true);
  return (
    <div className="banner fill-warn" role="status" data-testid="gap-banner">
      <span className="banner-mark" aria-hidden="true">
        ▲
      </span>
      <p>
        <strong>Broker events interrupted</strong> since <ClockTime at={gap.opened_at} />{" "}
        <span className="banner-count">({stretch((now - Date.parse(gap.opened_at)) / 1000)})</span>
        {gap.reason !== "" && <span className="banner-why"> · {gap.reason}</span>}
        <span className="banner-effect">
          {" "}
          ·{" "}
          {isGated ? "new entries are blocked until a clean reconciliation" : "reconciling before anything is trusted"}
        </span>
        {gap.missed > 0 && <span> · {counted(gap.missed, "missed fill")} found so far</span>}
      </p>
    </div>
  );
}

const WAYS: Record<string, string> = {
  reconcile: "reconcile",
  poll: "poll",
  lookup: "look-up",
  reply: "answer",
  stream: "stream",
};

/** What a closed gap had hidden, in words: `2 fills missed, learned by reconcile 2`. */
export function healWords(gap: GapView): string {
  if (gap.missed === 0) return "no fill was missed";
  const ways = Object.entries(gap.learned_by)
    .filter(([, count]) => count > 0)
    .map(([way, count]) => `${WAYS[way] ?? way} ${count}`);
  return `${counted(gap.missed, "fill")} missed, learned by ${ways.join(" / ") || "the broker's books"}`;
}

function HealSummary({ gap }: { readonly gap: GapView }) {
  const seconds = (Date.parse(gap.closed_at ?? gap.opened_at) - Date.parse(gap.opened_at)) / 1000;
  return (
    <div className="banner healed" role="status" data-testid="heal-summary">
      <span className="banner-mark ok" aria-hidden="true">
        ✓
      </span>
      <p>
        <strong>Gap closed</strong> at <ClockTime at={gap.closed_at} /> after {stretch(seconds)}: {healWords(gap)}.
        Belief equals the broker's books.
      </p>
      <button
        type="button"
        className="button small plain"
        onClick={() => store.dispatch({ type: "dismiss-heal", id: gap.id })}
      >
        Dismiss
      </button>
    </div>
  );
}
