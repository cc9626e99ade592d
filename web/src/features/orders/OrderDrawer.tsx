/**
 * One order in a drawer: how it stands, what was believed at a chosen time, its story, its executions and its names.
 *
 * Not for changing terms. Invariant: how it stands is what the socket told last; only the looking back is asked for.
 */
import { useEffect, useRef, useState } from "react";
import { ApiError, fetchOrder } from "../../api/client";
import type { OrderDetailView, OrderView, TradeExecutedView } from "../../api/types";
import { Age } from "../../components/Age";
import { SideWord, SourceBadge, sourceWord } from "../../components/Badge";
import { OrderStatus } from "../../components/OrderStatus";
import { useChannel } from "../../hooks/useChannel";
import { lateness, price, quantity, words } from "../../lib/format";
import { chooseMoment, openOrder, useMoment, useOpenOrder } from "../../state/ui";
import { BelievedAt } from "./BelievedAt";
import { fillMark } from "./FillsTable";
import { CancelButton, termsOf } from "./OrdersTable";
import { fullDetail } from "./story";
import { Timeline } from "./Timeline";
import { useStory } from "./useStory";

/** The drawer of whichever order is open. */
export function OrderDrawer() {
  const id = useOpenOrder();
  return id === null ? null : <Drawer key={id} id={id} />;
}

function findRow(orders: ReadonlyMap<string, OrderView>, id: string): OrderView | undefined {
  const direct = orders.get(id);
  if (direct !== undefined) return direct;
  return [...orders.values()].find((order) => order.client_order_id === id || order.broker_order_id === id);
}

function Drawer({ id }: { readonly id: string }) {
  const row = useChannel((state) => findRow(state.orders, id));
  // Whatever changes one of these has added to the story.
  const fills = useChannel((state) => state.executions.filter((fill) => fill.order_id === row?.id).length);
  const gaps = useChannel((state) => state.gaps);
  const [detail, setDetail] = useState<OrderDetailView | null>(null);
  const [fault, setFault] = useState("");
  const [attempt, setAttempt] = useState(0);
  const at = useMoment();
  const asked = useStory(id, versionOf(detail));
  const heading = useRef<HTMLHeadingElement>(null);
  const opener = useRef<Element | null>(null);

  // biome-ignore lint/correctness/useExhaustiveDependencies: row, fills and gaps say when to ask again
  useEffect(() => {
    let isCurrent = true;
    fetchOrder(id).then(
      (story) => {
        if (!isCurrent) return;
        setDetail(story);
        setFault("");
      },
      (error: unknown) => {
        if (isCurrent) setFault(error instanceof ApiError ? error.message : String(error));
      },
    );
    return () => {
      isCurrent = false;
    };
  }, [id, row, fills, gaps, attempt]);

  useEffect(() => {
    opener.current = document.activeElement;
    heading.current?.focus();
    const close = (event: KeyboardEvent) => {
      if (event.key === "Escape" && document.querySelector("dialog[open]") === null) openOrder(null);
    };
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("keydown", close);
      if (opener.current instanceof HTMLElement) opener.current.focus();
    };
  }, []);

  const order = row ?? detail?.order;
  return (
    <section className="drawer" role="dialog" aria-labelledby="drawer-title" data-testid="order-drawer">
      <div className="drawer-head">
        <div>
          <h2 id="drawer-title" ref={heading} tabIndex={-1}>
            {order === undefined ? `Order ${id}` : <Sentence order={order} />}
          </h2>
          {order !== undefined && <p className="mono quiet drawer-id">{order.client_order_id || order.id}</p>}
        </div>
        {order !== undefined && !order.terminal && <CancelButton order={order} />}
        <button type="button" className="button small plain" onClick={() => openOrder(null)}>
          Close <kbd>Esc</kbd>
        </button>
      </div>
      <div className="drawer-body">
        {order !== undefined && <Standing order={order} />}
        {fault !== "" && (
          <p className="drawer-fault" role="alert">
            <span className="crit">The story could not be fetched. {fault}</span>
            <button type="button" className="button small" onClick={() => setAttempt(attempt + 1)}>
              Try again
            </button>
          </p>
        )}
        {detail === null && fault === "" && <p className="panel-empty quiet">Loading the story…</p>}
        {detail !== null && (
          <>
            <BelievedAt asked={asked} at={at} onChoose={chooseMoment} />
            <Timeline detail={fullDetail(detail, asked.story)} story={asked.story} at={at} />
            <Executions executions={detail.executions} />
            {order !== undefined && <Identifiers order={order} />}
          </>
        )}
      </div>
    </section>
  );
}

/** Changes whenever the journal may have more to tell of an order; null before there is an order. */
function versionOf(detail: OrderDetailView | null): string | null {
  if (detail === null) return null;
  const gaps = detail.gaps.map((gap) => `${gap.id}/${gap.closed_at}/${gap.missed}`);
  return [detail.timeline.length, detail.timeline.at(-1)?.offset, detail.order.terminal, ...gaps].join(" ");
}

function Sentence({ order }: { readonly order: OrderView }) {
  return (
    <>
      {words(order.side)} {quantity(order.quantity)} {order.symbol}{" "}
      <span className="quiet">
        {termsOf(order)} {order.time_in_force}
      </span>
    </>
  );
}

function Standing({ order }: { readonly order: OrderView }) {
  return (
    <dl className="standing">
      <div>
        <dt className="label">Belief</dt>
        <dd>
          <OrderStatus status={order.status} detail={order.detail} inDoubt={order.in_doubt} />
        </dd>
      </div>
      <div>
        <dt className="label">Filled</dt>
        <dd>
          {quantity(order.filled_quantity)} <span className="quiet">of {quantity(order.quantity)}</span>
        </dd>
      </div>
      <div>
        <dt className="label">Average price</dt>
        <dd>{price(order.average_price)}</dd>
      </div>
      <div>
        <dt className="label">Confirmed by the broker</dt>
        <dd>
          <Age at={order.confirmed_at} missing="never" suffix=" ago" />
        </dd>
      </div>
      {order.reason !== "" && (
        <div className="wide">
          <dt className="label">Reason</dt>
          <dd>{order.reason}</dd>
        </div>
      )}
    </dl>
  );
}

function Executions({ executions }: { readonly executions: readonly TradeExecutedView[] }) {
  return (
    <section aria-label="Executions">
      <h3 className="drawer-title">
        Executions <span className="quiet">{executions.length}</span>
      </h3>
      {executions.length === 0 ? (
        <p className="quiet drawer-none">None yet.</p>
      ) : (
        <table className="table drawer-table">
          <thead>
            <tr>
              <th scope="col">Fill</th>
              <th scope="col" className="num">
                Price
              </th>
              <th scope="col">Learned by</th>
              <th scope="col" className="num">
                Late
              </th>
            </tr>
          </thead>
          <tbody>
            {executions.map((fill) => (
              <tr key={fill.id} data-source={fill.source} data-missed={fill.missed_by_stream}>
                <td title={fill.execution_id}>
                  <SideWord side={fill.side} /> {quantity(fill.quantity)}
                </td>
                <td className="num">{price(fill.entry_price)}</td>
                <td className="text">
                  <SourceBadge source={fill.source} />{" "}
                  <span className={fill.missed_by_stream || fill.inferred ? "warn" : "quiet"}>
                    {fillMark(fill) || sourceWord(fill.source)}
                  </span>
                </td>
                <td className="num">{lateness(fill.late_s)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Identifiers({ order }: { readonly order: OrderView }) {
  const rows: readonly (readonly [string, string])[] = [
    ["Order", order.id],
    ["Client order", order.client_order_id],
    ["Broker order", order.broker_order_ids.join(", ") || (order.broker_order_id ?? "not known yet")],
    ["Origin", [order.origin, order.strategy_name].filter((word) => word !== "").join(", ")],
  ];
  return (
    <section aria-label="Identifiers">
      <h3 className="drawer-title">Identifiers</h3>
      <dl className="identifiers">
        {rows
          .filter(([, value]) => value !== "")
          .map(([name, value]) => (
            <div key={name}>
              <dt className="label">{name}</dt>
              <dd className="mono">{value}</dd>
            </div>
          ))}
      </dl>
    </section>
  );
}
