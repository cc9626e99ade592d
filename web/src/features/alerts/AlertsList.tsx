/** Risk alerts of this session, newest first, repetitions counted. Not the toasts, which leave. */
import { Age } from "../../components/Age";
import { Chip, type Tone } from "../../components/Badge";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { words } from "../../lib/format";
import "./alerts.css";

const TONES: Record<string, Tone> = { critical: "fill-crit", warning: "fill-warn", info: "neutral" };
const MARKS: Record<string, string> = { critical: "■", warning: "▲", info: "●" };

/** The list of alerts. */
export function AlertsList() {
  const alerts = useChannel((state) => state.alerts);
  return (
    <Panel title="Alerts" count={alerts.length} empty={alerts.length === 0 && "No alerts"} isText className="alerts">
      <ul className="alert-list">
        {alerts.slice(0, 50).map(({ key, view, count }) => (
          <li key={key} data-severity={view.severity}>
            <p className="alert-line">
              <Chip small tone={TONES[view.severity] ?? "neutral"}>
                <span aria-hidden="true">{MARKS[view.severity] ?? "●"}</span> {words(view.severity)}
              </Chip>
              <span className="quiet">{words(view.type)}</span>
              {count > 1 && <span>×{count}</span>}
              <Age at={view.timestamp} suffix=" ago" />
            </p>
            <p>{view.reason}</p>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
