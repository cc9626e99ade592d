/**
 * Every execution, how it was learned, how late, and whether the stream had missed it.
 *
 * Not for orders without fills. Invariant: a fill that is only inferred from a count is never shown as one that the
 * broker named.
 */
import type { TradeExecutedView } from "../../api/types";
import { ClockTime } from "../../components/Age";
import { Chip, SideWord, SourceBadge } from "../../components/Badge";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { lateness, price, quantity, words } from "../../lib/format";
import { openOrder } from "../../state/ui";
import "./orders.css";

/** How many fills the table draws; the order's own story has all of its fills. */
const DRAWN = 200;

/** The table of fills, the newest match first; one that was learned late stands where it belongs. */
export function FillsTable() {
  const executions = useChannel((state) => state.executions);
  const at = useChannel((state) => state.health?.at ?? state.snapshotAt);
  const missed = executions.filter((each) => each.missed_by_stream).length;
  return (
    <Panel
      title="Fills"
      count={executions.length}
      asOf={at}
      empty={executions.length === 0 && "No fills yet"}
      className="fills"
      testId="fills-table"
      tools={
        missed > 0 && (
          <Chip small tone="warn" title="Fills that the stream should have told and did not">
            {missed} missed by stream
          </Chip>
        )
      }
    >
      <table className="table fills-grid">
        <thead>
          <tr>
            <th scope="col" className="c-time">
              Time
            </th>
            <th scope="col">Fill</th>
            <th scope="col" className="num c-price">
              Price
            </th>
            <th scope="col" className="c-source">
              Src
            </th>
            <th scope="col" className="num c-late" title="Between the match and our knowledge of it">
              Late
            </th>
          </tr>
        </thead>
        <tbody>
          {executions.slice(0, DRAWN).map((fill) => (
            <FillRow key={fill.id} fill={fill} />
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

/** What is special about a fill, in a word or two; "" for an ordinary one. */
export function fillMark(fill: TradeExecutedView): string {
  if (fill.inferred) return "inferred";
  if (fill.kind !== "" && fill.kind !== "fill") return words(fill.kind).toLowerCase();
  if (fill.missed_by_stream) return "missed by stream";
  return fill.replaces_inferred ? "names an inferred fill" : "";
}

function FillRow({ fill }: { readonly fill: TradeExecutedView }) {
  const mark = fillMark(fill);
  return (
    <tr
      data-testid="fill-row"
      data-source={fill.source}
      data-missed={fill.missed_by_stream}
      data-inferred={fill.inferred || undefined}
    >
      <td>
        <ClockTime at={fill.entry_time} />
      </td>
      <td className="text">
        <SideWord side={fill.side} /> {quantity(fill.quantity)}{" "}
        <button
          type="button"
          className="link symbol"
          aria-label={`Open the order of this fill in ${fill.symbol}`}
          onClick={() => openOrder(fill.order_id || fill.broker_order_id)}
        >
          {fill.symbol}
        </button>
        {mark !== "" && (
          <span className={`fill-mark ${fill.missed_by_stream || fill.inferred ? "warn" : "quiet"}`}>{mark}</span>
        )}
      </td>
      <td className="num">{price(fill.entry_price)}</td>
      <td>
        <SourceBadge source={fill.source} />
      </td>
      <td className={`num ${fill.missed_by_stream ? "warn" : "quiet"}`}>{lateness(fill.late_s)}</td>
    </tr>
  );
}
