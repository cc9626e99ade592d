/**
 * What was believed of an order at a time that the person chooses, against what the broker already knew then.
 *
 * Not for the order as it stands now (`OrderDrawer.tsx`). Invariant: the two sides are never mixed: nothing that had
 * not arrived by the chosen time is shown as belief, and what is known only since says when it came.
 */
import { type FormEvent, useId, useState } from "react";
import type { ExplanationView, TimelineEntryView } from "../../api/types";
import { Age, ClockTime } from "../../components/Age";
import { Chip, sourceWord } from "../../components/Badge";
import { OrderStatus, statusWords } from "../../components/OrderStatus";
import { useNow, useZone } from "../../hooks/useNow";
import { instantOf, lateness, price, quantity, time, words } from "../../lib/format";
import { type Believed, believedAt, delayOf, type Range, rangeOf, shownBands, stopsOf } from "./story";
import type { AskedStory } from "./useStory";

interface Props {
  readonly asked: AskedStory;
  /** The chosen time in milliseconds; null is the newest. */
  readonly at: number | null;
  readonly onChoose: (at: number | null) => void;
}

/** The scrubber with both sides of the chosen moment; a sentence while there is no story, and why. */
export function BelievedAt({ asked, at, onChoose }: Props) {
  const heading = useId();
  const { story, fault, isAsking, ask } = asked;
  return (
    <section aria-labelledby={heading} className="believed" data-testid="believed-at">
      <div className="believed-head">
        <h3 className="drawer-title" id={heading}>
          Believed at
        </h3>
        {story !== null && (
          <p className="quiet believed-asof">
            {isAsking ? "folding the journal again…" : "as the journal tells it"}, up to{" "}
            <ClockTime at={story.folded_at} /> (<Age at={story.folded_at} suffix=" ago" />)
          </p>
        )}
      </div>
      {fault !== null && (
        <p className="drawer-fault" role="alert">
          <span className="crit">{faultWords(fault.code, fault.message)}</span>
          <button type="button" className="button small" onClick={ask} aria-disabled={isAsking}>
            Ask the journal again
          </button>
        </p>
      )}
      {story === null && fault === null && (
        <p className="panel-empty quiet" role="status">
          Folding the journal…
        </p>
      )}
      {story !== null && story.beliefs.length === 0 && <p className="quiet drawer-none">Nothing was ever believed.</p>}
      {story !== null && story.beliefs.length > 0 && <Scrubber story={story} at={at} onChoose={onChoose} />}
    </section>
  );
}

function faultWords(code: string, message: string): string {
  if (code === "not_found") return "No journal is kept on disk here, so there is no looking back.";
  if (code === "unknown_order") return "The journal does not know this order yet.";
  return `The journal could not be asked. ${message}`;
}

function Scrubber({
  story,
  at,
  onChoose,
}: {
  readonly story: ExplanationView;
  readonly at: number | null;
  readonly onChoose: (at: number | null) => void;
}) {
  const zone = useZone();
  const now = useNow();
  const range = rangeOf(story);
  const stops = stopsOf(story, range);
  const chosen = Math.min(range.to, Math.max(range.from, at ?? range.to));
  const moment = believedAt(story, chosen);
  const shown = (instant: number) => time(new Date(instant).toISOString(), zone, now, true);
  const earlier = stops.findLast((stop) => stop < chosen);
  const later = stops.find((stop) => stop > chosen);
  return (
    <>
      <Track story={story} range={range} at={chosen} />
      <input
        className="scrub"
        type="range"
        aria-label="Believed at"
        aria-valuetext={`${shown(chosen)} ${zone.label}: ${sentence(moment, story)}`}
        min={range.from}
        max={range.to}
        step="any"
        value={chosen}
        onChange={(event) => onChoose(Math.round(Number(event.target.value)))}
        data-testid="scrub"
      />
      <div className="believed-tools">
        <Step label="Earlier change" isBack to={earlier} onChoose={onChoose} />
        <TimeField key={`${chosen}-${zone.label}`} shown={shown} at={chosen} range={range} onChoose={onChoose} />
        <Step label="Later change" to={later} onChoose={onChoose} />
        <button type="button" className="button small plain" onClick={() => onChoose(null)} aria-disabled={at === null}>
          Newest
        </button>
      </div>
      {story.beliefs_end_at !== null && (
        <p className="quiet believed-note">
          From <ClockTime at={story.beliefs_end_at} /> on there are more changes than one answer tells:{" "}
          <code className="mono">trueup explain {story.detail.order.id} --at TIME</code> has them all.
        </p>
      )}
      <Sides story={story} moment={moment} at={chosen} />
    </>
  );
}

function Step({
  label,
  isBack = false,
  to,
  onChoose,
}: {
  readonly label: string;
  readonly isBack?: boolean;
  readonly to: number | undefined;
  readonly onChoose: (at: number) => void;
}) {
  return (
    <button
      type="button"
      className="button small"
      aria-label={label}
      title={label}
      aria-disabled={to === undefined}
      onClick={() => to !== undefined && onChoose(to)}
    >
      <svg width="10" height="12" viewBox="0 0 10 12" aria-hidden="true">
        <path d={isBack ? "M8.5 1v10L1.5 6z" : "M1.5 1v10L8.5 6z"} fill="currentColor" />
      </svg>
    </button>
  );
}

const DAY_MS = 86_400_000;

function TimeField({
  shown,
  at,
  range,
  onChoose,
}: {
  readonly shown: (at: number) => string;
  readonly at: number;
  readonly range: Range;
  readonly onChoose: (at: number) => void;
}) {
  const zone = useZone();
  const [text, setText] = useState(shown(at).split(" ").at(-1) ?? "");
  const [fault, setFault] = useState("");
  const field = useId();
  const choose = (event: FormEvent) => {
    event.preventDefault();
    const read = instantOf(text, zone, at);
    // A second that is typed without its fraction may begin before the first instant that is known.
    const inside = [0, -DAY_MS, DAY_MS]
      .map((days) => (read ?? Number.NaN) + days)
      .find((each) => each >= range.from - 1000 && each <= range.to + 1000);
    if (inside !== undefined) onChoose(Math.min(range.to, Math.max(range.from, inside)));
    else if (read === null) setFault("Write a time such as 14:32:11.250.");
    else setFault(`Write a time between ${shown(range.from)} and ${shown(range.to)}.`);
  };
  return (
    <form className="believed-time" onSubmit={choose}>
      <label className="sr" htmlFor={field}>
        Time ({zone.label})
      </label>
      <input
        id={field}
        className="input mono"
        value={text}
        onChange={(event) => setText(event.target.value)}
        autoComplete="off"
        spellCheck={false}
        aria-invalid={fault !== ""}
        aria-describedby={fault === "" ? undefined : `${field}-fault`}
        data-testid="believed-time"
      />
      <span className="quiet" aria-hidden="true">
        {zone.label}
      </span>
      {fault !== "" && (
        <span className="fault" id={`${field}-fault`} role="alert">
          {fault}
        </span>
      )}
    </form>
  );
}

/** One moment in a sentence, for those who hear the page. */
function sentence(moment: Believed, story: ExplanationView): string {
  const { belief } = moment;
  const of = quantity(story.detail.order.quantity);
  const ours =
    belief === null
      ? "nothing was known of this order"
      : `believed ${statusWords(belief.detail)}, ${quantity(belief.filled_quantity)} of ${of} filled`;
  const gap = belief !== null && belief.gap !== "" ? ", during a gap" : "";
  if (moment.ahead.length === 0) return `${ours}${gap}; the broker knew nothing more`;
  return `${ours}${gap}; the broker had ${quantity(moment.brokerFilled)} of ${of} filled`;
}

function Sides({
  story,
  moment,
  at,
}: {
  readonly story: ExplanationView;
  readonly moment: Believed;
  readonly at: number;
}) {
  const { belief, learned, gap, bands, ahead, brokerFilled } = moment;
  const { order } = story.detail;
  const agrees = ahead.length === 0;
  const filled = belief?.filled_quantity ?? 0;
  return (
    <div className="sides-then" data-testid="believed" data-agrees={agrees} data-filled={filled}>
      <p className="sr" role="status">
        {sentence(moment, story)}
      </p>
      <dl className="side-then">
        <dt className="label">We believed</dt>
        <dd>
          {belief === null ? (
            <span className="quiet">nothing of this order yet</span>
          ) : (
            <>
              <OrderStatus status="" detail={belief.detail} inDoubt={belief.in_doubt} />{" "}
              <b>{quantity(belief.filled_quantity)}</b>{" "}
              <span className="quiet">of {quantity(order.quantity)} filled</span>
            </>
          )}
        </dd>
        <dd className="quiet">
          {belief !== null && (
            <>
              {quantity(belief.position)} {order.symbol} held
              {learned !== null && (
                <>
                  ; last word of the order by {sourceWord(learned.source)}{" "}
                  {lateness((at - Date.parse(learned.arrived_at)) / 1000)} before
                </>
              )}
            </>
          )}
        </dd>
        {belief !== null && (
          <dd className="side-state">
            <Chip small tone={belief.trading_state === "ACTIVE" ? "ok" : "warn"}>
              {words(belief.trading_state)}
            </Chip>
            <Chip small tone={belief.broker_events === "UP" ? "ok" : "warn"}>
              broker events {words(belief.broker_events).toLowerCase()}
            </Chip>
          </dd>
        )}
        {bands.map((band) => (
          <dd className="warn" key={`${band.name}-${band.opened_at}`}>
            {bandWords(band.kind, band.name, band.demand)}: {band.reason}
          </dd>
        ))}
        {belief !== null && belief.gap !== "" && (
          <dd className="warn">
            A gap was open since <ClockTime at={gap?.opened_at ?? null} />
            {belief.proved_at !== null && (
              <>; nothing was proven for {lateness((at - Date.parse(belief.proved_at)) / 1000)} (truth lag)</>
            )}
          </dd>
        )}
      </dl>
      <dl className="side-then">
        <dt className="label">The broker knew</dt>
        <dd>
          <b data-testid="broker-filled">{quantity(brokerFilled)}</b>{" "}
          <span className="quiet">of {quantity(order.quantity)} filled</span>{" "}
          <Chip small tone={agrees ? "ok" : "fill-warn"}>
            {agrees ? "✓ no more than we" : `≠ ${lines(ahead.length)} ahead of us`}
          </Chip>
        </dd>
        {ahead.map((entry) => (
          <dd key={`${entry.offset}-${entry.event}`} data-testid="ahead">
            <Ahead entry={entry} at={at} />
          </dd>
        ))}
        {agrees && <dd className="quiet">as far as it has told since</dd>}
      </dl>
    </div>
  );
}

function lines(count: number): string {
  return count === 1 ? "1 fact" : `${count} facts`;
}

/** Who stopped or narrowed trading, in words. */
export function bandWords(kind: string, name: string, demand: string): string {
  return kind === "kill" ? "Kill switch engaged" : `${words(demand)}, by ${words(name).toLowerCase()}`;
}

function Ahead({ entry, at }: { readonly entry: TimelineEntryView; readonly at: number }) {
  const fills = entry.fills.map((fill) => `${quantity(fill.quantity)} @ ${price(fill.price)}`).join(", ");
  return (
    <span className="warn">
      {entry.told}
      {fills === "" ? "" : ` ${fills}`}: we knew {lateness((Date.parse(entry.arrived_at) - at) / 1000)} later, by{" "}
      {sourceWord(entry.source)}
    </span>
  );
}

/** The story drawn to scale: what the broker knew above, what we knew below, the delay between as a slope. */
function Track({ story, range, at }: { readonly story: ExplanationView; readonly range: Range; readonly at: number }) {
  const place = (instant: number) =>
    range.to === range.from
      ? 100
      : (100 * Math.min(Math.max(instant - range.from, 0), range.to - range.from)) / (range.to - range.from);
  const stretchOf = (opened: string, closed: string | null) => {
    const left = place(Date.parse(opened));
    return { left: `${left}%`, width: `max(2px, ${place(closed === null ? range.to : Date.parse(closed)) - left}%)` };
  };
  const entries = story.detail.timeline.filter((entry) => entry.changed);
  return (
    <div className="track" aria-hidden="true">
      {story.detail.gaps.map((gap) => (
        <span key={gap.id} className="track-band gap" style={stretchOf(gap.opened_at, gap.closed_at)} />
      ))}
      {shownBands(story).map((band) => (
        <span
          key={`${band.name}-${band.opened_at}`}
          className={`track-band ${band.kind}`}
          style={stretchOf(band.opened_at, band.closed_at)}
        />
      ))}
      <svg className="track-slopes" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
        {entries.map((entry) =>
          entry.broker_at === null ? null : (
            <line
              key={`${entry.offset}-${entry.event}`}
              x1={place(Date.parse(entry.broker_at))}
              x2={place(Date.parse(entry.arrived_at))}
              y1="0"
              y2="10"
              className={(delayOf(entry) ?? 0) > 2 ? "late" : ""}
              vectorEffect="non-scaling-stroke"
            />
          ),
        )}
      </svg>
      {entries.map((entry) => (
        <Dots key={`${entry.offset}-${entry.event}`} entry={entry} place={place} />
      ))}
      <span className="track-word broker">broker</span>
      <span className="track-word ours">we</span>
      <span className="track-cursor" style={{ left: `${place(at)}%` }} />
    </div>
  );
}

function Dots({ entry, place }: { readonly entry: TimelineEntryView; readonly place: (instant: number) => number }) {
  return (
    <>
      {entry.broker_at !== null && (
        <span className="track-dot broker" style={{ left: `${place(Date.parse(entry.broker_at))}%` }} />
      )}
      <span className="track-dot ours" style={{ left: `${place(Date.parse(entry.arrived_at))}%` }} />
    </>
  );
}
