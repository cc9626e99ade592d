/**
 * The order ticket: terms in, one order out.
 *
 * Not for judging the order: the server does, and names the field that is wrong. Invariant: one press is one order,
 * whatever is pressed again meanwhile; and a repetition after an unknown outcome carries the same client order id.
 */
import { type FormEvent, useId, useRef, useState } from "react";
import { ApiError, type OrderTerms, submitOrder } from "../../api/client";
import type { OrderView } from "../../api/types";
import { Age } from "../../components/Age";
import { statusWords } from "../../components/OrderStatus";
import { Panel } from "../../components/Panel";
import { useChannel } from "../../hooks/useChannel";
import { money, price, quantity, words } from "../../lib/format";
import { LIMITS } from "../../lib/fresh";
import { entriesBlocked, isKilled } from "../../state/selectors";
import { store } from "../../state/store";
import { openOrder } from "../../state/ui";
import "./orders.css";

const TYPES = ["MARKET", "LIMIT", "STOP", "STOP_LIMIT"] as const;
const TIMES_IN_FORCE = ["DAY", "GTC", "IOC", "FOK", "OPG", "CLS"] as const;

interface Draft {
  readonly symbol: string;
  readonly side: "BUY" | "SELL";
  readonly quantity: string;
  readonly type: (typeof TYPES)[number];
  readonly time_in_force: string;
  readonly limit_price: string;
  readonly stop_price: string;
}

const BLANK: Draft = {
  symbol: "",
  side: "BUY",
  quantity: "",
  type: "MARKET",
  time_in_force: "DAY",
  limit_price: "",
  stop_price: "",
};

interface Fault {
  readonly field: string | null;
  readonly message: string;
}

/** Says what is missing before anything is sent; null when the terms can be judged. */
function incomplete(draft: Draft): Fault | null {
  if (draft.symbol.trim() === "") return { field: "symbol", message: "Name a symbol, such as AAPL." };
  const amount = Number(draft.quantity);
  if (draft.quantity.trim() === "" || !(amount > 0)) {
    return { field: "quantity", message: "Give a quantity above zero." };
  }
  if (draft.type.includes("LIMIT") && !(Number(draft.limit_price) > 0)) {
    return { field: "limit_price", message: "A limit order needs a limit price above zero." };
  }
  if (draft.type.startsWith("STOP") && !(Number(draft.stop_price) > 0)) {
    return { field: "stop_price", message: "A stop order needs a stop price above zero." };
  }
  return null;
}

function toTerms(draft: Draft, clientOrderId: string): OrderTerms {
  return {
    client_order_id: clientOrderId,
    symbol: draft.symbol.trim().toUpperCase(),
    side: draft.side,
    quantity: draft.quantity.trim(),
    type: draft.type,
    time_in_force: draft.time_in_force,
    ...(draft.type.includes("LIMIT") ? { limit_price: draft.limit_price.trim() } : {}),
    ...(draft.type.startsWith("STOP") ? { stop_price: draft.stop_price.trim() } : {}),
  };
}

/** The form for a new order. */
export function OrderTicket() {
  const [draft, setDraft] = useState<Draft>(BLANK);
  const [fault, setFault] = useState<Fault | null>(null);
  const [outcome, setOutcome] = useState<OrderView | null>(null);
  const [isSending, setSending] = useState(false);
  const lock = useRef(false);
  const unanswered = useRef<string | null>(null);
  const symbol = draft.symbol.trim().toUpperCase();
  const quote = useChannel((state) => state.quotes.get(symbol) ?? null);
  const held = useChannel(
    (state) => state.portfolio?.positions.find((position) => position.symbol === symbol)?.quantity ?? 0,
  );
  const blocked = useChannel(entriesBlocked);
  const killed = useChannel(isKilled);
  const amount = Number(draft.quantity);
  const reduces = held !== 0 && amount > 0 && amount <= Math.abs(held) && (draft.side === "SELL") === held > 0;
  const refusal = blocked === "" || (reduces && !killed) ? "" : blocked;

  function change(part: Partial<Draft>): void {
    setDraft({ ...draft, ...part });
    setFault(null);
    setOutcome(null);
    // Other terms are another order.
    unanswered.current = null;
  }

  async function send(event: FormEvent): Promise<void> {
    event.preventDefault();
    if (lock.current) return;
    const missing = refusal === "" ? incomplete(draft) : { field: null, message: refusal };
    setFault(missing);
    if (missing !== null) return;
    lock.current = true;
    setSending(true);
    setOutcome(null);
    const clientOrderId = unanswered.current ?? `web-${crypto.randomUUID()}`;
    unanswered.current = clientOrderId;
    try {
      const order = await submitOrder(toTerms(draft, clientOrderId));
      unanswered.current = null;
      store.dispatch({ type: "order", order });
      setOutcome(order);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status >= 400 && error.status < 500) unanswered.current = null;
      setFault({ field: error.field, message: error.message });
    } finally {
      lock.current = false;
      setSending(false);
    }
  }

  const reference = quote === null ? null : draft.side === "BUY" ? quote.ask : quote.bid;
  const at = draft.type.includes("LIMIT") && Number(draft.limit_price) > 0 ? Number(draft.limit_price) : reference;
  const worth = at === null || !(amount > 0) ? null : at * amount;

  return (
    <Panel title="Order ticket" className="ticket">
      <form className="ticket-form" onSubmit={(event) => void send(event)} noValidate aria-label="Order ticket">
        <fieldset className="sides">
          <legend className="sr">Side</legend>
          {(["BUY", "SELL"] as const).map((side) => (
            <label key={side} className="side-choice">
              <input
                type="radio"
                name="side"
                className="sr"
                checked={draft.side === side}
                onChange={() => change({ side })}
              />
              <span aria-hidden="true">{side === "BUY" ? "▲" : "▼"}</span> {words(side)}
            </label>
          ))}
        </fieldset>
        <TextField
          label="Symbol"
          name="symbol"
          value={draft.symbol}
          fault={fault}
          list="ticket-symbols"
          onChange={(value) => change({ symbol: value.toUpperCase() })}
        />
        <TextField
          label="Quantity"
          name="quantity"
          value={draft.quantity}
          fault={fault}
          numeric
          onChange={(value) => change({ quantity: value })}
        />
        <Choice
          label="Type"
          value={draft.type}
          options={TYPES}
          onChange={(type) => change({ type: type as Draft["type"] })}
        />
        <Choice
          label="Time in force"
          value={draft.time_in_force}
          options={TIMES_IN_FORCE}
          asIs
          onChange={(time_in_force) => change({ time_in_force })}
        />
        {draft.type.startsWith("STOP") && (
          <TextField
            label="Stop price"
            name="stop_price"
            value={draft.stop_price}
            fault={fault}
            numeric
            onChange={(value) => change({ stop_price: value })}
          />
        )}
        {draft.type.includes("LIMIT") && (
          <TextField
            label="Limit price"
            name="limit_price"
            value={draft.limit_price}
            fault={fault}
            numeric
            onChange={(value) => change({ limit_price: value })}
          />
        )}
        <p className="ticket-quote label">
          {quote === null ? (
            <span>{symbol === "" ? "Bid and ask show here" : `No quote for ${symbol}`}</span>
          ) : (
            <span>
              <b>{price(quote.bid)}</b> × <b>{price(quote.ask)}</b> <Age at={quote.at} limits={LIMITS.quote} />
            </span>
          )}
          <span>{worth === null ? "" : `≈ ${money(worth)}`}</span>
        </p>
        <button
          type="submit"
          className="button primary ticket-send"
          data-testid="ticket-submit"
          aria-disabled={isSending || refusal !== ""}
        >
          {isSending ? "Sending…" : `${words(draft.side)} ${amount > 0 ? `${quantity(amount)} ` : ""}${symbol}`.trim()}
        </button>
        <div className="ticket-word" aria-live="polite">
          {fault !== null && isGeneral(fault) && <p className="fault">{fault.message}</p>}
          {fault === null && refusal !== "" && <p className="label warn">{refusal}</p>}
          {outcome !== null && <Outcome sent={outcome} />}
        </div>
      </form>
      <Symbols />
    </Panel>
  );
}

/** What has become of the order so far, by the store's newest word. */
function Outcome({ sent }: { readonly sent: OrderView }) {
  const order = useChannel((state) => state.orders.get(sent.id)) ?? sent;
  const isRefused = order.status === "REJECTED";
  return (
    <p className={isRefused ? "fault" : "label"}>
      {words(order.side)} {quantity(order.quantity)} {order.symbol}: {statusWords(order.detail || order.status)}
      {order.reason === "" ? "" : `, ${order.reason}`}{" "}
      <button type="button" className="link ticket-open" onClick={() => openOrder(order.id)}>
        Open
      </button>
    </p>
  );
}

const FIELDS = new Set(["symbol", "quantity", "limit_price", "stop_price"]);

function isGeneral(fault: Fault): boolean {
  return fault.field === null || !FIELDS.has(fault.field);
}

function Symbols() {
  const quotes = useChannel((state) => state.quotes);
  return (
    <datalist id="ticket-symbols">
      {[...quotes.keys()].sort().map((symbol) => (
        <option key={symbol} value={symbol} />
      ))}
    </datalist>
  );
}

function TextField({
  label,
  name,
  value,
  fault,
  onChange,
  numeric = false,
  list,
}: {
  readonly label: string;
  readonly name: string;
  readonly value: string;
  readonly fault: Fault | null;
  readonly onChange: (value: string) => void;
  readonly numeric?: boolean;
  readonly list?: string;
}) {
  const id = useId();
  const wrong = fault?.field === name ? fault.message : "";
  return (
    <div className="field">
      <label className="label" htmlFor={id}>
        {label}
      </label>
      <input
        id={id}
        name={name}
        className="input"
        value={value}
        inputMode={numeric ? "decimal" : "text"}
        autoComplete="off"
        spellCheck={false}
        {...(list === undefined ? {} : { list })}
        aria-invalid={wrong !== ""}
        aria-describedby={wrong === "" ? undefined : `${id}-fault`}
        onChange={(event) => onChange(event.target.value)}
      />
      {wrong !== "" && (
        <p className="fault" id={`${id}-fault`}>
          {wrong}
        </p>
      )}
    </div>
  );
}

function Choice({
  label,
  value,
  options,
  onChange,
  asIs = false,
}: {
  readonly label: string;
  readonly value: string;
  readonly options: readonly string[];
  readonly onChange: (value: string) => void;
  readonly asIs?: boolean;
}) {
  const id = useId();
  return (
    <div className="field">
      <label className="label" htmlFor={id}>
        {label}
      </label>
      <select id={id} className="input" value={value} onChange={(event) => onChange(event.target.value)}>
        {options.map((option) => (
          <option key={option} value={option}>
            {asIs ? option : words(option)}
          </option>
        ))}
      </select>
    </div>
  );
}
