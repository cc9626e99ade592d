/**
 * An order's story line by line: when the broker knew, when we did, by which way, what it changed, what we did.
 *
 * Not for choosing a moment (`BelievedAt.tsx`). Invariant: nothing is smoothed over: a late fact stands at the broker's
 * time with its lateness, an inferred fill stays readable once the real one is known, and a gap stands between the rows
 * that it separates.
 */
import type { BandView, DeedView, ExplanationView, GapView, OrderDetailView, TimelineFillView } from "../../api/types";
import { ClockTime } from "../../components/Age";
import { SourceBadge, sourceWord } from "../../components/Badge";
import { statusWords } from "../../components/OrderStatus";
import { lateness, price, quantity, stretch } from "../../lib/format";
import { bandWords } from "./BelievedAt";
import { delayOf, type EntryLine, isWithin, type Line, shownBands, storyLines } from "./story";

/** How late, in seconds, something may be before the delay is marked. */
const LATE_S = 2;

interface Props {
  readonly detail: OrderDetailView;
  readonly story: ExplanationView | null;
  /** The chosen moment in milliseconds: what came later is dimmed. Null dims nothing. */
  readonly at: number | null;
}

/** The lines of a story, oldest first. */
export function Timeline({ detail, story, at }: Props) {
  const lines = storyLines(detail, story);
  return (
    <section aria-label="Timeline">
      <h3 className="drawer-title">Timeline</h3>
      <ol className="timeline">
        {lines.map((line, place) => (
          <StoryLine key={keyOf(line, place)} line={line} detail={detail} story={story} at={at} />
        ))}
      </ol>
    </section>
  );
}

function keyOf(line: Line, place: number): string {
  if (line.kind === "gap") return `gap-${line.gap.id}`;
  if (line.kind === "band") return `band-${line.band.name}-${line.band.opened_at}`;
  // Several lines of one entry may say the same; their order never changes.
  return `${line.kind}-${line.kind === "entry" ? line.entry.offset : line.deed.offset}-${place}`;
}

function StoryLine({ line, detail, story, at }: Props & { readonly line: Line }) {
  if (line.kind === "gap") return <GapLine gap={line.gap} />;
  if (line.kind === "band") return <BandLine band={line.band} />;
  const isInGap = detail.gaps.some((gap) => isWithin(line.at, gap.opened_at, gap.closed_at));
  const band = shownBands(story).find((each) => isWithin(line.at, each.opened_at, each.closed_at));
  const known = Date.parse(line.kind === "entry" ? line.entry.arrived_at : line.deed.at);
  const isLater = at !== null && known > at;
  const classes = `${isInGap ? " in-gap" : ""}${band === undefined ? "" : ` in-${band.kind}`}${isLater ? " later" : ""}`;
  if (line.kind === "deed") {
    return <DeedLine deed={line.deed} isAbout={line.isAbout} classes={classes} isLater={isLater} />;
  }
  return <FactLine line={line} classes={classes} isLater={isLater} />;
}

function Stretch({ opened, closed }: { readonly opened: string; readonly closed: string | null }) {
  return (
    <span>
      <ClockTime at={opened} /> to {closed === null ? "now" : <ClockTime at={closed} />}
    </span>
  );
}

function lasted(opened: string, closed: string | null): string {
  return closed === null ? "" : `, ${stretch((Date.parse(closed) - Date.parse(opened)) / 1000)}`;
}

function GapLine({ gap }: { readonly gap: GapView }) {
  return (
    <li className="timeline-gap">
      <Stretch opened={gap.opened_at} closed={gap.closed_at} />
      <span>
        Broker events interrupted{lasted(gap.opened_at, gap.closed_at)}
        {gap.reason === "" ? "" : `: ${gap.reason}`}
      </span>
    </li>
  );
}

function BandLine({ band }: { readonly band: BandView }) {
  return (
    <li className={`timeline-gap timeline-${band.kind}`} data-testid="timeline-band">
      <Stretch opened={band.opened_at} closed={band.closed_at} />
      <span>
        {bandWords(band.kind, band.name, band.demand)}
        {lasted(band.opened_at, band.closed_at)}
        {band.reason === "" ? "" : `: ${band.reason}`}
      </span>
    </li>
  );
}

function DeedLine({
  deed,
  isAbout,
  classes,
  isLater,
}: {
  readonly deed: DeedView;
  readonly isAbout: "order" | "account";
  readonly classes: string;
  readonly isLater: boolean;
}) {
  return (
    <li className={`timeline-deed${classes}`} data-testid="timeline-deed" data-about={isAbout}>
      <span className="accent" aria-hidden="true">
        →
      </span>
      <p>
        <span className="label">{isAbout === "order" ? "we" : "account"}</span> {deed.what}
        {deed.times > 1 && <span className="quiet"> · {deed.times} times</span>}
        {isLater && <span className="sr"> (after the chosen moment)</span>}
      </p>
      <p className="timeline-when">
        <ClockTime at={deed.at} ms />
      </p>
    </li>
  );
}

function FactLine({
  line,
  classes,
  isLater,
}: {
  readonly line: EntryLine;
  readonly classes: string;
  readonly isLater: boolean;
}) {
  const { entry, before } = line;
  const late = delayOf(entry);
  const isLate = late !== null && late > LATE_S;
  // An answer's text names the request that it answers, which says more than that there was one.
  const isAnswer = entry.event === "STATUS" && entry.source === "reply" && entry.text !== "";
  return (
    <li
      className={`timeline-row${classes}${entry.changed ? "" : " no-change"}`}
      data-testid="timeline-row"
      data-source={entry.source}
      data-later={isLater}
    >
      <SourceBadge source={entry.source} />
      <div className="timeline-what">
        <p>
          <strong>{sentenceCase(isAnswer ? entry.text : entry.told || entry.event)}</strong>{" "}
          {entry.event !== "STATUS" && <span className="quiet">· {sourceWord(entry.source)}</span>}
          {!entry.changed && <span className="quiet"> · changed nothing</span>}
          {isLater && <span className="sr"> (not known yet at the chosen moment)</span>}
        </p>
        {entry.fills.length === 0 && entry.text !== "" && !isAnswer && <p className="quiet">{entry.text}</p>}
        {entry.fills.map((fill) => (
          <FillLine key={`${fill.kind}-${fill.execution_id}-${fill.quantity}`} fill={fill} />
        ))}
      </div>
      <div className="timeline-when">
        {entry.broker_at !== null && (
          <p>
            <span className="label">broker</span> <ClockTime at={entry.broker_at} ms />
          </p>
        )}
        <p>
          <span className="label">we</span> <ClockTime at={entry.arrived_at} ms />
        </p>
        {late !== null && (
          <p className={isLate ? "warn" : "quiet"}>{isLate ? `known ${lateness(late)} late` : `+${lateness(late)}`}</p>
        )}
      </div>
      <div className="timeline-belief">
        <Change before={before?.status_after ?? null} after={entry.status_after} show={statusWords} />
        <Change before={before?.filled_after ?? null} after={entry.filled_after} show={quantity} word="filled" />
      </div>
    </li>
  );
}

function sentenceCase(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function Change<T>({
  before,
  after,
  show,
  word = "",
}: {
  readonly before: T | null;
  readonly after: T;
  readonly show: (value: T) => string;
  readonly word?: string;
}) {
  const isNew = before !== null && before !== after;
  return (
    <p className={isNew ? "" : "quiet"}>
      {word !== "" && `${word} `}
      {isNew && (
        <>
          <span className="quiet">{show(before)}</span> <span aria-hidden="true">→</span>
          <span className="sr">became</span>{" "}
        </>
      )}
      {show(after)}
    </p>
  );
}

/** One fill of a line; one that was only inferred is struck through once real executions have named its shares. */
function FillLine({ fill }: { readonly fill: TimelineFillView }) {
  const shares = `${quantity(fill.quantity)} @ ${price(fill.price)}`;
  const name = fill.execution_id === "" ? "" : ` · ${fill.execution_id}`;
  if (fill.inferred && fill.replaced >= fill.quantity) {
    return (
      <p className="timeline-fill" data-testid="timeline-fill" data-inferred="replaced">
        <s>{shares}</s> <span className="quiet">inferred; the real execution has replaced it</span>
      </p>
    );
  }
  if (fill.inferred) {
    const rest = fill.replaced > 0 ? `, ${quantity(fill.replaced)} of it named since` : ", no execution names it yet";
    return (
      <p className="timeline-fill" data-testid="timeline-fill" data-inferred="open">
        {shares} <span className="warn">inferred{rest}</span>
      </p>
    );
  }
  const what = fill.kind === "fill" ? "" : `${fill.kind} of `;
  return (
    <p className="timeline-fill" data-testid="timeline-fill" data-inferred="no">
      {what}
      {shares}
      <span className="quiet">
        {name}
        {fill.replaces_inferred && " · takes the place of an inferred one"}
      </span>
    </p>
  );
}
