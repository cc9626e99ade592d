/** What the strategies think, newest first. Not what was done about it: that is in the orders. */
import { Age } from "../../components/Age";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { words } from "../../lib/format";
import "./signals.css";

/** The list of the newest signals. */
export function SignalsList() {
  const signals = useChannel((state) => state.signals);
  return (
    <Panel
      title="Signals"
      count={signals.length}
      empty={signals.length === 0 && "No signals yet"}
      isText
      className="signals"
    >
      <ul className="signal-list">
        {signals.slice(0, 20).map((signal) => (
          <li key={`${signal.timestamp}|${signal.symbol}|${signal.strategy_name}`}>
            <span className="side">
              <span className="glyph" aria-hidden="true">
                {{ BUY: "▲", SELL: "▼" }[signal.direction] ?? "●"}
              </span>
              {words(signal.direction)}
            </span>
            <span className="symbol">{signal.symbol}</span>
            <span className="quiet signal-name">{signal.strategy_name}</span>
            <meter
              min={0}
              max={1}
              value={signal.strength}
              aria-label={`Strength ${signal.strength}`}
              title={`Strength ${signal.strength}`}
            />
            <Age at={signal.timestamp} />
          </li>
        ))}
      </ul>
    </Panel>
  );
}
