/** The account in one line: equity, cash, profit and loss, each as of when it was true. */
import { Figure, Signed } from "../../components/Figure";
import { useChannel } from "../../hooks/useChannel";
import { money, signedPercent } from "../../lib/format";
import { fresh, LIMITS } from "../../lib/fresh";
import "./portfolio.css";

/** Key figures of the account. */
export function CashLine() {
  const portfolio = useChannel((state) => state.portfolio);
  const isFrozen = useChannel((state) => state.phase !== "live" && state.snapshotAt !== null);
  const at = portfolio?.as_of ?? null;
  const missing = portfolio === null ? "no snapshot yet" : "the broker has not said yet";
  const priced =
    portfolio !== null && portfolio.stale_symbols.length > 0
      ? `${portfolio.stale_symbols.length} of ${portfolio.positions.length} priced with old quotes`
      : "";
  const amount = (value: number | null | undefined, testId?: string) => (
    <Figure
      fact={fresh(value ?? null, at, missing)}
      format={money}
      limits={LIMITS.account}
      isStale={isFrozen}
      {...(testId === undefined ? {} : { testId })}
    />
  );
  return (
    <section className="cash-line" aria-label="Account" data-frozen={isFrozen}>
      <Cell label="Equity" note={priced}>
        {amount(portfolio?.total_equity, "equity")}
      </Cell>
      <Cell label="Day P&L" note={portfolio?.daily_pnl_pct == null ? "" : signedPercent(portfolio.daily_pnl_pct)}>
        <Profit value={portfolio?.daily_pnl ?? null} missing={missing} isStale={isFrozen} />
      </Cell>
      <Cell label="Total P&L" note={portfolio?.total_pnl_pct == null ? "" : signedPercent(portfolio.total_pnl_pct)}>
        <Profit value={portfolio?.total_pnl ?? null} missing={missing} isStale={isFrozen} />
      </Cell>
      <Cell label="Positions value">{amount(portfolio?.positions_value)}</Cell>
      <Cell label="Cash">{amount(portfolio?.cash, "cash")}</Cell>
      <Cell label="Buying power">{amount(portfolio?.buying_power)}</Cell>
      <Cell label="Max drawdown">
        <Figure
          fact={fresh(portfolio?.max_drawdown_pct ?? null, at, missing)}
          format={signedPercent}
          limits={LIMITS.account}
          isStale={isFrozen}
        />
      </Cell>
    </section>
  );
}

function Cell({
  label,
  note = "",
  children,
}: {
  readonly label: string;
  readonly note?: string;
  readonly children: React.ReactNode;
}) {
  return (
    <div className="cash-cell">
      <h2 className="label">{label}</h2>
      <p className="kpi">
        {children}
        {note !== "" && <small>{note}</small>}
      </p>
    </div>
  );
}

function Profit({
  value,
  missing,
  isStale,
}: {
  readonly value: number | null;
  readonly missing: string;
  readonly isStale: boolean;
}) {
  if (value === null)
    return <Figure fact={fresh<number>(null, null, missing)} format={money} limits={LIMITS.account} />;
  return <Signed value={value} isStale={isStale} />;
}
