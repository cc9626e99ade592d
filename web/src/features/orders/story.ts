/**
 * One order's story as lines to read, and what was believed at any time in it. Pure.
 *
 * Not for deciding anything: the server folds the journal, and this picks out of what it told. Invariant: what was
 * believed at a time comes from what had arrived by then, and from nothing later.
 */
import type {
  BandView,
  BelievedView,
  DeedView,
  ExplanationView,
  GapView,
  OrderDetailView,
  TimelineEntryView,
} from "../../api/types";
import { exactSum } from "../../lib/format";

export interface EntryLine {
  readonly kind: "entry";
  readonly at: number;
  readonly entry: TimelineEntryView;
  /** What was believed before it; null for the first. */
  readonly before: TimelineEntryView | null;
}

export type Line =
  | EntryLine
  | { readonly kind: "gap"; readonly at: number; readonly gap: GapView }
  | { readonly kind: "band"; readonly at: number; readonly band: BandView }
  | { readonly kind: "deed"; readonly at: number; readonly deed: DeedView; readonly isAbout: "order" | "account" };

/** The breaker that only repeats an open gap; the gap tells it. */
const TOLD_BY_GAP = "stale_data";

/** The stretches in which somebody stopped or narrowed trading, without those that a gap tells itself. */
export function shownBands(story: ExplanationView | null): readonly BandView[] {
  return (story?.bands ?? []).filter((band) => band.name !== TOLD_BY_GAP);
}

/** The newest detail, with the lines that belief has cut from it and the journal still has. */
export function fullDetail(detail: OrderDetailView, story: ExplanationView | null): OrderDetailView {
  if (story === null || story.detail.timeline.length <= detail.timeline.length) return detail;
  const newer = detail.timeline.filter((entry) => entry.offset > story.folded_to);
  return { ...detail, timeline: [...story.detail.timeline, ...newer] };
}

const RANK: Record<Line["kind"], number> = { gap: 0, band: 1, entry: 2, deed: 3 };

/** Facts by the broker's time where it gave one, and with them each gap, each band, and what we did. */
export function storyLines(detail: OrderDetailView, story: ExplanationView | null = null): readonly Line[] {
  const byArrival = [...detail.timeline].sort((a, b) => a.offset - b.offset);
  const lines: Line[] = byArrival.map((entry, place) => ({
    kind: "entry",
    entry,
    before: byArrival[place - 1] ?? null,
    at: Date.parse(entry.broker_at ?? entry.arrived_at),
  }));
  for (const gap of detail.gaps) lines.push({ kind: "gap", gap, at: Date.parse(gap.opened_at) });
  for (const band of shownBands(story)) lines.push({ kind: "band", band, at: Date.parse(band.opened_at) });
  for (const deed of story?.deeds ?? []) {
    lines.push({ kind: "deed", deed, isAbout: "order", at: Date.parse(deed.at) });
  }
  for (const deed of story?.meanwhile ?? []) {
    lines.push({ kind: "deed", deed, isAbout: "account", at: Date.parse(deed.at) });
  }
  return lines.sort((a, b) => {
    if (a.at !== b.at) return a.at - b.at;
    if (a.kind === "entry" && b.kind === "entry") return a.entry.offset - b.entry.offset;
    return RANK[a.kind] - RANK[b.kind];
  });
}

/** Whether an instant lies in a stretch that may still be open. */
export function isWithin(at: number, opened: string, closed: string | null): boolean {
  return at >= Date.parse(opened) && (closed === null || at <= Date.parse(closed));
}

/** From when to when there is something to look back on, in milliseconds; the first instant is before all knowledge. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** The stretch of time that a story covers. */
export function rangeOf(story: ExplanationView): Range {
  const told = story.detail.timeline.flatMap((entry) => [entry.arrived_at, entry.broker_at ?? entry.arrived_at]);
  const known = [...told, ...story.beliefs.map((belief) => belief.at)].map((each) => Date.parse(each));
  const isOver = story.detail.order.terminal;
  const last = Date.parse((isOver ? null : story.folded_at) ?? story.detail.order.updated_at);
  const end = story.beliefs_end_at === null ? Math.max(last, ...known) : Date.parse(story.beliefs_end_at) - 1;
  const first = Math.min(...known, end);
  return { from: first - Math.max(50, Math.round((end - first) / 25)), to: end };
}

/** The instants at which anything changed: at the broker, here, or in what was between. */
export function stopsOf(story: ExplanationView, range: Range): readonly number[] {
  const entries = story.detail.timeline.flatMap((entry) => [entry.broker_at, entry.arrived_at]);
  const beliefs = story.beliefs.map((belief) => belief.at);
  const gaps = story.detail.gaps.flatMap((gap) => [gap.opened_at, gap.closed_at]);
  const all = [...entries, ...beliefs, ...gaps].filter((each) => each !== null).map((each) => Date.parse(each));
  const inside = [range.from, ...all, range.to].filter((at) => at >= range.from && at <= range.to);
  return [...new Set(inside)].sort((a, b) => a - b);
}

/** What was believed at a time, and what the broker had done by then. */
export interface Believed {
  readonly belief: BelievedView | null;
  /** The last line that had changed the order; null before the first. */
  readonly learned: TimelineEntryView | null;
  readonly gap: GapView | null;
  readonly bands: readonly BandView[];
  /** Lines whose facts the broker had, and that changed belief only later. */
  readonly ahead: readonly TimelineEntryView[];
  /** Shares that the broker had filled by then, as far as has been learned since. */
  readonly brokerFilled: number;
}

/** What was believed at `at` (milliseconds), against what the broker knew then. */
export function believedAt(story: ExplanationView, at: number): Believed {
  const belief = story.beliefs.findLast((each) => Date.parse(each.at) <= at) ?? null;
  const fills = story.detail.executions.filter((each) => each.kind !== "bust" && Date.parse(each.entry_time) <= at);
  const facts = story.detail.timeline.filter((entry) => entry.changed);
  return {
    belief,
    learned: facts.findLast((entry) => Date.parse(entry.arrived_at) <= at) ?? null,
    gap: story.detail.gaps.find((gap) => gap.id === belief?.gap) ?? null,
    bands: shownBands(story).filter(
      (band) => Date.parse(band.opened_at) <= at && (band.closed_at === null || Date.parse(band.closed_at) > at),
    ),
    ahead: facts.filter(
      (entry) => entry.broker_at !== null && Date.parse(entry.broker_at) <= at && Date.parse(entry.arrived_at) > at,
    ),
    brokerFilled: exactSum(fills.map((each) => each.quantity)),
  };
}

/** Seconds between the broker's knowledge of a fact and ours; null when the broker gave no time. */
export function delayOf(entry: TimelineEntryView): number | null {
  return entry.broker_at === null ? null : (Date.parse(entry.arrived_at) - Date.parse(entry.broker_at)) / 1000;
}
