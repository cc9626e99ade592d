/**
 * Trades that wait for a person, with the time that is left.
 *
 * Not for deciding them: the server has no door for that yet. Invariant: an expired one never looks as if it waited.
 */
import type { PendingApprovalView } from "../../api/types";
import { ClockTime } from "../../components/Age";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { useNow } from "../../hooks/useNow";
import { quantity, stretch, words } from "../../lib/format";
import "./approvals.css";

/** The panel of pending approvals; absent while nothing waits. */
export function Approvals() {
  const approvals = useChannel((state) => state.approvals);
  if (approvals.length === 0) return null;
  return (
    <Panel title="Waiting for approval" count={approvals.length} className="approvals">
      <ul>
        {approvals.map((approval) => (
          <ApprovalCard key={approval.approval_id || approval.requires_approval_by} approval={approval} />
        ))}
      </ul>
    </Panel>
  );
}

function ApprovalCard({ approval }: { readonly approval: PendingApprovalView }) {
  const now = useNow();
  const left = (Date.parse(approval.requires_approval_by) - now) / 1000;
  return (
    <li className="approval">
      <p>
        <strong>
          {words(approval.side)} {quantity(approval.quantity)} {approval.symbol}
        </strong>{" "}
        <span className="quiet">{approval.strategy_name}</span>
      </p>
      <p className={left <= 0 ? "quiet" : left < 30 ? "warn" : undefined}>
        {left <= 0 ? "Expired at " : `${stretch(left)} left, until `}
        <ClockTime at={approval.requires_approval_by} />
      </p>
      <ul className="approval-checks">
        {Object.entries(approval.risk_assessment).map(([check, isPassed]) => (
          <li key={check} className={isPassed ? "ok" : "crit"}>
            <span aria-hidden="true">{isPassed ? "✓" : "✗"}</span> {words(check.replace(/_ok$/, ""))}:{" "}
            {isPassed ? "passed" : "failed"}
          </li>
        ))}
      </ul>
    </li>
  );
}
