/**
 * Where belief and the broker's books differed: what, by which cause, since when, and what ended it; and the gaps.
 *
 * Not for the banner of an open gap. Invariant: both sides of a difference are shown, also after it is healed.
 */
import { type ReactNode, useEffect, useState } from "react";
import { ApiError, fetchDivergences } from "../../api/client";
import type { DivergencesView, DivergenceView, DriftView, GapView } from "../../api/types";
import { Age, ClockTime } from "../../components/Age";
import { Chip, type Tone } from "../../components/Badge";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { counted, lateness, stretch, words } from "../../lib/format";
import { openOrder } from "../../state/ui";
import "./drift.css";

const TONES: Record<string, Tone> = { suspected: "warn", confirmed: "fill-warn", healed: "ok", explained: "neutral" };

/** How many rows of the whole history are drawn at first, and are added at each wish for more. */
const DRAWN = 100;

/** The recent differences and gaps; on demand every one that the journal knows. */
export function DriftPanel() {
  const drifts = useChannel((state) => state.drifts);
  const gaps = useChannel((state) => state.gaps);
  const proven = useChannel((state) => state.health?.broker_events.last_reconciliation_at ?? null);
  const [isWhole, setWhole] = useState(false);
  const open = drifts.filter(isOpen).length;
  const isEmpty = drifts.length === 0 && gaps.length === 0;
  return (
    <Panel
      title="Drift and gaps"
      count={open > 0 ? `${open} open` : undefined}
      asOf={proven}
      empty={isEmpty && !isWhole && "Belief and the broker's books have not differed"}
      isText
      className="drift"
      testId="drift-panel"
      tools={
        <button
          type="button"
          className="button small plain"
          aria-pressed={isWhole}
          title="Every difference and gap that the journal knows"
          onClick={() => setWhole(!isWhole)}
        >
          All ever
        </button>
      }
    >
      {isWhole ? (
        <WholeHistory />
      ) : (
        <ul className="drift-list">
          {drifts.slice(0, 50).map((drift) => (
            <DriftRow key={drift.id} drift={drift} />
          ))}
          {gaps.slice(0, 20).map((gap) => (
            <GapRow key={gap.id} gap={gap} />
          ))}
        </ul>
      )}
    </Panel>
  );
}

/** Whether a difference still stands: suspected, or confirmed and not put right. */
function isOpen(drift: { readonly state: string; readonly trued_up: boolean }): boolean {
  return drift.state === "suspected" || (drift.state === "confirmed" && !drift.trued_up);
}

function WholeHistory() {
  const [told, setTold] = useState<DivergencesView | null>(null);
  const [fault, setFault] = useState<ApiError | null>(null);
  const [attempt, setAttempt] = useState(0);
  const [drawn, setDrawn] = useState(DRAWN);

  // biome-ignore lint/correctness/useExhaustiveDependencies: an attempt is a wish to ask again
  useEffect(() => {
    let isCurrent = true;
    fetchDivergences().then(
      (answer) => {
        if (!isCurrent) return;
        setTold(answer);
        setFault(null);
      },
      (error: unknown) => {
        if (isCurrent) setFault(error instanceof ApiError ? error : new ApiError(String(error)));
      },
    );
    return () => {
      isCurrent = false;
    };
  }, [attempt]);

  if (fault !== null) {
    return (
      <div className="panel-empty" role="alert">
        <span>
          {fault.code === "not_found"
            ? "No journal is kept on disk here; only what is remembered can be shown."
            : `The journal could not be asked. ${fault.message}`}
        </span>
        <button type="button" className="button small" onClick={() => setAttempt(attempt + 1)}>
          Ask the journal again
        </button>
      </div>
    );
  }
  if (told === null)
    return (
      <p className="panel-empty quiet" role="status">
        Folding the journal…
      </p>
    );
  const rows = [...told.drifts].reverse();
  const gaps = [...told.gaps].reverse();
  return (
    <>
      <p className="drift-foot quiet">
        {counted(told.drifts.length, "difference")} and {counted(told.gaps.length, "gap")} in{" "}
        {counted(told.folded_to, "entry", "entries")}, up to <ClockTime at={told.folded_at} /> (
        <Age at={told.folded_at} suffix=" ago" />)
        {told.left_out > 0 && `; ${counted(told.left_out, "older difference")} left out`}{" "}
        <button type="button" className="button small plain" onClick={() => setAttempt(attempt + 1)}>
          Ask again
        </button>
      </p>
      {rows.length === 0 && <p className="panel-empty quiet">Belief and the broker's books have never differed</p>}
      <ul className="drift-list">
        {rows.slice(0, drawn).map((row) => (
          <DivergenceRow key={row.id} row={row} />
        ))}
      </ul>
      {rows.length > drawn && (
        <button type="button" className="button small plain drift-more" onClick={() => setDrawn(drawn + DRAWN)}>
          Show {Math.min(DRAWN, rows.length - drawn)} older ones
        </button>
      )}
      <ul className="drift-list">
        {gaps.slice(0, drawn).map((gap) => (
          <GapRow key={gap.id} gap={gap} />
        ))}
      </ul>
    </>
  );
}

function DriftRow({ drift }: { readonly drift: DriftView }) {
  return (
    <Difference
      row={drift}
      ended={isOpen(drift) ? null : drift.at}
      why={drift.evidence !== "" && <p className="quiet drift-evidence">{drift.evidence}</p>}
    />
  );
}

function DivergenceRow({ row }: { readonly row: DivergenceView }) {
  const steps = row.history.length;
  return (
    <Difference
      row={row}
      ended={row.ended_at}
      why={
        <dl className="drift-why">
          <div>
            <dt className="label">cause</dt>
            <dd>{row.cause || "not known"}</dd>
          </div>
          {row.ended_by !== "" && (
            <div>
              <dt className="label">ended by</dt>
              <dd>
                {row.ended_by}
                {steps > 1 && <span className="quiet"> · in {steps} steps</span>}
              </dd>
            </div>
          )}
        </dl>
      }
    />
  );
}

/** Kinds of difference whose subject is an order of ours. */
const ABOUT_ORDERS: ReadonlySet<string> = new Set(["order", "order_absent", "missed_event"]);

function Subject({ kind, subject }: { readonly kind: string; readonly subject: string }) {
  if (!ABOUT_ORDERS.has(kind)) return <span className="symbol">{subject}</span>;
  return (
    <button
      type="button"
      className="link symbol"
      aria-label={`Open the story of order ${subject}`}
      onClick={() => openOrder(subject)}
    >
      {subject}
    </button>
  );
}

function Difference({
  row,
  ended,
  why,
}: {
  readonly row: DriftView | DivergenceView;
  readonly ended: string | null;
  readonly why: ReactNode;
}) {
  const end = row.trued_up ? "trued up" : row.state;
  const lasted = ended === null ? null : (Date.parse(ended) - Date.parse(row.first_seen_at)) / 1000;
  return (
    <li className="drift-row" data-testid="drift-row" data-state={row.state} data-drift-id={row.id}>
      <p className="drift-line">
        <Subject kind={row.kind} subject={row.subject} />
        <span className="quiet">{words(row.kind)}</span>
        <Chip small tone={TONES[row.trued_up ? "healed" : row.state] ?? "neutral"}>
          {end}
        </Chip>
        <span className="drift-age">
          <Age at={ended ?? row.first_seen_at} suffix=" ago" />
        </span>
      </p>
      <p className="drift-sides">
        <span className="quiet">belief</span> <b>{row.believed || "nothing"}</b>
        <span aria-hidden="true" className="quiet">
          ≠
        </span>
        <span className="quiet">broker</span> <b>{row.reported || "nothing"}</b>
      </p>
      <p className="quiet drift-evidence">
        {ended === null ? "stands since " : "seen "}
        <ClockTime at={row.first_seen_at} />
        {ended !== null && (
          <>
            , {end} <ClockTime at={ended} /> {lasted === 0 ? "at once" : `after ${lateness(lasted)}`}
          </>
        )}
      </p>
      {why}
    </li>
  );
}

function GapRow({ gap }: { readonly gap: GapView }) {
  const seconds = gap.closed_at === null ? null : (Date.parse(gap.closed_at) - Date.parse(gap.opened_at)) / 1000;
  return (
    <li className="drift-row" data-gap-id={gap.id}>
      <p className="drift-line">
        <span className="symbol">Gap</span>
        <span className="quiet">
          <ClockTime at={gap.opened_at} />
          {seconds === null ? "" : `, ${stretch(seconds)}`}
        </span>
        <Chip small tone={gap.closed_at === null ? "fill-warn" : "neutral"}>
          {gap.closed_at === null ? "open" : "closed"}
        </Chip>
        <span className={`drift-age ${gap.missed > 0 ? "warn" : "quiet"}`}>{counted(gap.missed, "fill")} missed</span>
      </p>
      {gap.reason !== "" && <p className="quiet drift-evidence">{gap.reason}</p>}
    </li>
  );
}
