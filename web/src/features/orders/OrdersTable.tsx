/**
 * The blotter: every order, how exactly it stands, how the last change was learned, and a way to cancel it.
 *
 * Not for sending orders. Invariant: an order that may still fill never looks finished, and cancelling is offered
 * whatever state the rest of the page is in.
 */
import { type FormEvent, type KeyboardEvent, useMemo, useRef, useState } from "react";
import { ApiError, cancelOrder } from "../../api/client";
import type { OrderView } from "../../api/types";
import { Age } from "../../components/Age";
import { SideWord, SourceBadge } from "../../components/Badge";
import { OrderStatus } from "../../components/OrderStatus";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { price, quantity, words } from "../../lib/format";
import { isWorking } from "../../state/selectors";
import { store } from "../../state/store";
import { notify, openOrder, useOpenOrder } from "../../state/ui";
import "./orders.css";

type Filter = "working" | "filled" | "all";

const FILTERS: readonly { readonly id: Filter; readonly label: string }[] = [
  { id: "working", label: "Working" },
  { id: "filled", label: "Filled" },
  { id: "all", label: "All" },
];

const EMPTY: Record<Filter, string> = {
  working: "No working orders",
  filled: "No filled orders",
  all: "No orders yet",
};

function matches(order: OrderView, filter: Filter): boolean {
  if (filter === "all") return true;
  return filter === "working" ? isWorking(order) : order.filled_quantity > 0;
}

/** The table of orders with its filters. */
export function OrdersTable() {
  const orders = useChannel((state) => state.orders);
  const at = useChannel((state) => state.health?.at ?? state.snapshotAt);
  const [filter, setFilter] = useState<Filter>("all");
  const all = useMemo(() => [...orders.values()], [orders]);
  const shown = all.filter((order) => matches(order, filter));

  return (
    <Panel
      title="Orders"
      asOf={at}
      empty={shown.length === 0 && EMPTY[filter]}
      className="orders"
      testId="orders-table"
      tools={
        <>
          <fieldset className="tabs">
            <legend className="sr">Which orders</legend>
            {FILTERS.map(({ id, label }) => (
              <label key={id} className="tab">
                <input
                  type="radio"
                  name="orders-filter"
                  className="sr"
                  checked={filter === id}
                  onChange={() => setFilter(id)}
                />
                {label} <span>{all.filter((order) => matches(order, id)).length}</span>
              </label>
            ))}
          </fieldset>
          <FindOrder />
        </>
      }
    >
      <table className="table orders-grid" onKeyDown={moveBetweenRows}>
        <thead>
          <tr>
            <th scope="col" className="c-status">
              Status
            </th>
            <th scope="col" className="c-symbol">
              Symbol
            </th>
            <th scope="col" className="c-side p2">
              Side
            </th>
            <th scope="col" className="num c-filled">
              Filled / qty
            </th>
            <th scope="col" className="num c-terms p3">
              Terms
            </th>
            <th scope="col" className="num c-price p2">
              Avg price
            </th>
            <th scope="col" className="c-source" title="How the last change was learned">
              Src
            </th>
            <th scope="col" className="num c-age p1">
              Changed
            </th>
            <th scope="col" className="c-action">
              <span className="sr">Cancel</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((order) => (
            <OrderRow key={order.id} order={order} />
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

/** Opens any order that there ever was, also one that has left the table long ago. */
function FindOrder() {
  const [id, setId] = useState("");
  const open = (event: FormEvent) => {
    event.preventDefault();
    if (id.trim() !== "") openOrder(id.trim());
  };
  return (
    <form className="find-order" onSubmit={open}>
      <input
        className="input"
        aria-label="Open an order by any of its ids"
        placeholder="Open by id"
        value={id}
        onChange={(event) => setId(event.target.value)}
        autoComplete="off"
        spellCheck={false}
      />
    </form>
  );
}

/** Arrow keys, and j and k, go from one order to the next. */
function moveBetweenRows(event: KeyboardEvent<HTMLTableElement>): void {
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (step === undefined) return;
  const openers = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-opener]")];
  const here = openers.findIndex((opener) => opener.closest("tr")?.contains(document.activeElement));
  const next = openers[here + step];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

/** The terms of an order in few words: `Limit 415.20 DAY`. */
export function termsOf(order: OrderView): string {
  const prices = [order.stop_price, order.limit_price].filter((each) => each !== null).map((each) => price(each));
  return [words(order.type), ...prices].join(" ");
}

function OrderRow({ order }: { readonly order: OrderView }) {
  const isOpen = useOpenOrder() === order.id;
  const filledShare = order.quantity === null || order.quantity === 0 ? 0 : order.filled_quantity / order.quantity;
  return (
    <tr
      data-testid="order-row"
      data-order-id={order.id}
      data-status={order.status}
      data-filled={order.filled_quantity}
      data-in-doubt={order.in_doubt === "" ? undefined : order.in_doubt}
      data-open={isOpen || undefined}
      className={order.terminal ? "ended" : undefined}
      onClick={() => openOrder(order.id)}
    >
      <td>
        <OrderStatus status={order.status} detail={order.detail} inDoubt={order.in_doubt} />
      </td>
      <td className="text" title={order.symbol}>
        <button
          type="button"
          className="link symbol"
          data-opener
          aria-label={`Open the story of ${order.side} ${quantity(order.quantity)} ${order.symbol}`}
          onClick={(event) => {
            event.stopPropagation();
            openOrder(order.id);
          }}
        >
          {order.symbol}
        </button>
        <span className="sub narrow">
          <SideWord side={order.side} />
        </span>
      </td>
      <td className="p2">
        <SideWord side={order.side} />
      </td>
      <td className="num">
        <span className="filled">
          {quantity(order.filled_quantity)}
          <span className="quiet"> / {quantity(order.quantity)}</span>
          <span className="bar" aria-hidden="true">
            <span style={{ width: `${Math.min(100, filledShare * 100)}%` }} />
          </span>
        </span>
      </td>
      <td className="num p3">
        {termsOf(order)} <span className="quiet p4">{order.time_in_force}</span>
      </td>
      <td className="num p2">{price(order.average_price)}</td>
      <td>
        <SourceBadge source={order.source} />
      </td>
      <td className="num p1">
        <Age at={order.updated_at} />
      </td>
      <td className="num">{!order.terminal && <CancelButton order={order} />}</td>
    </tr>
  );
}

/** Asks the broker to cancel; the row changes when the broker has said so. */
export function CancelButton({ order }: { readonly order: OrderView }) {
  const [isSending, setSending] = useState(false);
  const lock = useRef(false);
  const isPending = order.detail === "PENDING_CANCEL";

  async function cancel(): Promise<void> {
    if (lock.current) return;
    lock.current = true;
    setSending(true);
    try {
      store.dispatch({ type: "order", order: await cancelOrder(order.id) });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      notify("failed", `Cancel of ${order.symbol} was not taken. ${error.message}`);
    } finally {
      lock.current = false;
      setSending(false);
    }
  }

  if (isPending) return <span className="quiet cancel-note">cancelling</span>;
  return (
    <button
      type="button"
      className="button small"
      aria-label={`Cancel ${order.side} ${quantity(order.quantity)} ${order.symbol}`}
      aria-disabled={isSending}
      onClick={(event) => {
        event.stopPropagation();
        void cancel();
      }}
    >
      {isSending ? "…" : "Cancel"}
    </button>
  );
}
