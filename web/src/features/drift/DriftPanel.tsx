/**
 * Where belief and the broker's books differed: what, by which evidence, and how it was trued up; and the gaps.
 *
 * Not for the banner of an open gap. Invariant: both sides of a difference are shown, also after it is healed.
 */
import type { DriftView, GapView } from "../../api/types";
import { Age, ClockTime } from "../../components/Age";
import { Chip, type Tone } from "../../components/Badge";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { counted, stretch, words } from "../../lib/format";
import "./drift.css";

const TONES: Record<string, Tone> = { suspected: "warn", confirmed: "fill-warn", healed: "ok", explained: "neutral" };

/** The list of differences, then the recent gaps. */
export function DriftPanel() {
  const drifts = useChannel((state) => state.drifts);
  const gaps = useChannel((state) => state.gaps);
  const proven = useChannel((state) => state.health?.broker_events.last_reconciliation_at ?? null);
  const open = drifts.filter((drift) => drift.state === "suspected" || drift.state === "confirmed").length;
  return (
    <Panel
      title="Drift and gaps"
      count={open > 0 ? `${open} open` : undefined}
      asOf={proven}
      empty={drifts.length === 0 && gaps.length === 0 && "Belief and the broker's books have not differed"}
      className="drift"
      testId="drift-panel"
    >
      <ul className="drift-list">
        {drifts.slice(0, 50).map((drift) => (
          <DriftRow key={drift.id} drift={drift} />
        ))}
        {gaps.slice(0, 20).map((gap) => (
          <GapRow key={gap.id} gap={gap} />
        ))}
      </ul>
    </Panel>
  );
}

function DriftRow({ drift }: { readonly drift: DriftView }) {
  return (
    <li className="drift-row" data-testid="drift-row" data-state={drift.state} data-drift-id={drift.id}>
      <p className="drift-line">
        <span className="symbol">{drift.subject}</span>
        <span className="quiet">{words(drift.kind)}</span>
        <Chip small tone={TONES[drift.state] ?? "neutral"}>
          {drift.trued_up && drift.state === "healed" ? "trued up" : drift.state}
        </Chip>
        <span className="drift-age">
          <Age at={drift.at} suffix=" ago" />
        </span>
      </p>
      <p className="drift-sides">
        <span className="quiet">belief</span> <b>{drift.believed || "nothing"}</b>
        <span aria-hidden="true" className="quiet">
          ≠
        </span>
        <span className="quiet">broker</span> <b>{drift.reported || "nothing"}</b>
      </p>
      {drift.evidence !== "" && <p className="quiet drift-evidence">{drift.evidence}</p>}
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
