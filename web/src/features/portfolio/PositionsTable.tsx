/**
 * What the account holds: quantity as the books prove it, value as the quotes make it, each with its own age.
 *
 * Not for closing positions. Invariant: a price that nobody has confirmed lately is marked, and so is the total made
 * from it.
 */
import type { PortfolioView, PositionView } from "../../api/types";
import { Age } from "../../components/Age";
import { Figure, Signed } from "../../components/Figure";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { counted, exactSum, money, price, quantity } from "../../lib/format";
import { fresh, LIMITS } from "../../lib/fresh";
import "./portfolio.css";

/** The table of positions. */
export function PositionsTable() {
  const portfolio = useChannel((state) => state.portfolio);
  const isFrozen = useChannel((state) => state.phase !== "live");
  const positions = portfolio?.positions ?? [];
  return (
    <Panel
      title="Positions"
      count={positions.length}
      asOf={portfolio?.as_of ?? null}
      empty={positions.length === 0 && "No open positions"}
      isText
      className="positions"
      testId="positions-table"
    >
      <table className="table positions-grid">
        <thead>
          <tr>
            <th scope="col" className="c-symbol">
              Symbol
            </th>
            <th scope="col" className="num c-qty">
              Quantity
            </th>
            <th scope="col" className="num p3">
              Average
            </th>
            <th scope="col" className="num c-price">
              Last
            </th>
            <th scope="col" className="num p2">
              Value
            </th>
            <th scope="col" className="num">
              Open P&L
            </th>
            <th scope="col" className="num c-age" title="Age of the price used">
              Quote
            </th>
            <th scope="col" className="num c-age p4" title="When the broker's books last proved the quantity">
              Proven
            </th>
          </tr>
        </thead>
        <tbody>
          {positions.map((position) => (
            <PositionRow
              key={position.symbol}
              position={position}
              isStale={isFrozen || (portfolio?.stale_symbols.includes(position.symbol) ?? false)}
            />
          ))}
        </tbody>
        {portfolio !== null && <Totals portfolio={portfolio} isFrozen={isFrozen} />}
      </table>
    </Panel>
  );
}

function PositionRow({ position, isStale }: { readonly position: PositionView; readonly isStale: boolean }) {
  const noPrice = "no quote yet";
  const isDrifting = position.drift !== "";
  return (
    <tr data-testid="position-row" data-symbol={position.symbol} data-quantity={position.quantity}>
      <td className="symbol text" title={position.symbol}>
        {position.symbol}
      </td>
      <td className="num">
        {quantity(position.quantity)}
        {isDrifting && (
          <span
            className="sub warn"
            title={`Belief ${position.quantity}, broker ${position.broker_quantity ?? "unknown"}: ${position.drift}`}
          >
            ≠ broker {quantity(position.broker_quantity)}
          </span>
        )}
      </td>
      <td className="num p3">{price(position.average_price)}</td>
      <td className="num">
        <Figure
          fact={fresh(position.price, position.quote_at, noPrice)}
          format={price}
          limits={{ fresh: Number.POSITIVE_INFINITY, stale: Number.POSITIVE_INFINITY }}
          isStale={isStale}
        />
      </td>
      <td className="num p2">
        <Figure
          fact={fresh(position.market_value, position.quote_at, noPrice)}
          format={money}
          limits={{ fresh: Number.POSITIVE_INFINITY, stale: Number.POSITIVE_INFINITY }}
          isStale={isStale}
        />
      </td>
      <td className="num">
        <Signed value={position.unrealized_pnl} isStale={isStale} />
      </td>
      <td className="num">
        <QuoteAge at={position.quote_at} isStale={isStale} />
      </td>
      <td className="num p4">
        <Age at={position.as_of} limits={LIMITS.account} missing="not proven yet" />
      </td>
    </tr>
  );
}

/** A symbol that does not trade is quiet; only one whose quotes the server calls old is stale. */
function QuoteAge({ at, isStale }: { readonly at: string | null; readonly isStale: boolean }) {
  if (at === null)
    return (
      <span className="age" title="no quote yet">
        —
      </span>
    );
  return <Age at={at} {...(isStale ? { limits: { fresh: -1, stale: -1 } } : {})} />;
}

function Totals({ portfolio, isFrozen }: { readonly portfolio: PortfolioView; readonly isFrozen: boolean }) {
  const known = portfolio.positions.flatMap((position) => position.unrealized_pnl ?? []);
  const old = portfolio.stale_symbols.length;
  const unpriced = portfolio.positions.length - known.length;
  const notes = [old > 0 ? `${counted(old, "old quote")}` : "", unpriced > 0 ? `${unpriced} without a price` : ""];
  return (
    <tfoot>
      <tr>
        <td colSpan={2}>
          Total <span className="quiet">{notes.filter((note) => note !== "").join(", ")}</span>
        </td>
        <td className="num p3" />
        <td className="num" />
        <td className="num p2">{money(portfolio.positions_value)}</td>
        <td className="num">
          <Signed value={known.length === 0 ? null : exactSum(known)} isStale={isFrozen || old > 0} />
        </td>
        <td className="num" />
        <td className="num p4" />
      </tr>
    </tfoot>
  );
}
