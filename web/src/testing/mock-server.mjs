/**
 * A stand-in for trueup while the dashboard is being drawn: it serves the built page, a snapshot, and live messages.
 *
 * `npm run build && npm run mock`, then open http://localhost:8123/ and choose a scene by address:
 * `/?` is healthy; POST /scene/gap, /scene/heal, /scene/kill, /scene/breaker, /scene/drift, /scene/alerts,
 * /scene/approval, /scene/hole, /scene/busy, /scene/empty and /scene/healthy change it, and POST /scene/drop cuts every socket.
 *
 * Not for tests (`fakeServer.ts`), and no broker: nothing here decides what is right.
 */
import { randomInt } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const PORT = Number(process.env.PORT ?? 8123);
const STATIC = fileURLToPath(new URL("../../../src/trueup/api/static/", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};

const epoch = `mock-${Date.now()}`;
const offsets = {};
const iso = (agoS = 0) => new Date(Date.now() - agoS * 1000).toISOString();
const jitter = (size) => (randomInt(2001) / 1000 - 1) * size;

let state;

const PRICES = { AAPL: 227.04, NVDA: 143.0, MSFT: 415.2, AMD: 162.4, SPY: 591.37, TSLA: 338.74 };

function order(id, symbol, side, quantity, filled, detail, extra = {}) {
  const seed = {
    FILLED: "FILLED",
    CANCELED: "CANCELLED",
    EXPIRED: "CANCELLED",
    REJECTED: "REJECTED",
    DENIED: "REJECTED",
    PENDING_NEW: "PENDING",
  }[detail];
  const terminal = ["FILLED", "CANCELED", "EXPIRED", "REJECTED", "DENIED"].includes(detail);
  return {
    id,
    client_order_id: `tu-${id}-1`,
    broker_order_id: detail === "PENDING_NEW" ? null : `b0c4e8-${id}`,
    symbol,
    side,
    quantity,
    filled_quantity: filled,
    average_price: filled > 0 ? (extra.price ?? PRICES[symbol]) : null,
    status: seed ?? "SUBMITTED",
    detail,
    source: "stream",
    updated_at: iso(30),
    type: "LIMIT",
    time_in_force: "DAY",
    limit_price: PRICES[symbol],
    stop_price: null,
    leaves_quantity: terminal ? 0 : quantity - filled,
    in_doubt: "",
    origin: "trueup",
    strategy_name: "sma_cross",
    reason: "",
    submitted_at: iso(120),
    filled_at: detail === "FILLED" ? iso(30) : null,
    confirmed_at: iso(12),
    terminal,
    broker_order_ids: [`b0c4e8-${id}`],
    ...extra,
  };
}

function fill(id, orderId, symbol, side, quantity, agoS, extra = {}) {
  return {
    id,
    symbol,
    side,
    quantity,
    entry_price: PRICES[symbol],
    entry_time: iso(agoS),
    strategy_name: "sma_cross",
    order_id: orderId,
    broker_order_id: `b0c4e8-${orderId}`,
    execution_id: `x-${id}`,
    source: "stream",
    learned_at: iso(agoS - 0.09),
    late_s: 0.088,
    missed_by_stream: false,
    inferred: false,
    replaces_inferred: false,
    kind: "fill",
    ...extra,
  };
}

function position(symbol, quantity, average) {
  const price = PRICES[symbol];
  return {
    symbol,
    quantity,
    average_price: average,
    market_value: round(price * quantity),
    unrealized_pnl: round((price - average) * quantity),
    as_of: iso(12),
    price,
    quote_at: iso(0.3),
    realized_pnl: 0,
    broker_quantity: quantity,
    drift: "",
  };
}

const round = (value) => Math.round(value * 100) / 100;

function healthy() {
  return {
    tradingState: "ACTIVE",
    brokerStatus: "UP",
    reason: "",
    reconnects: 3,
    lastUpdate: Date.now() - 31_000,
    proven: Date.now() - 1_200,
    reconciled: Date.now() - 12_000,
    gap: null,
    gaps: [
      {
        id: "gap-1",
        feed: "broker_events",
        reason: "process started",
        opened_at: iso(5400),
        closed_at: iso(5398),
        missed: 0,
        learned_by: {},
      },
    ],
    drifts: [
      {
        id: "drift-1",
        kind: "position_quantity",
        subject: "AAPL",
        state: "healed",
        believed: "300",
        reported: "400",
        evidence: "execution x-f3 found by reconcile; belief 400",
        at: iso(2530),
        first_seen_at: iso(2532),
        trued_up: true,
      },
    ],
    positions: [
      position("AAPL", 400, 226.1),
      position("NVDA", -150, 141.2),
      position("MSFT", 40, 415.19),
      position("SPY", 120, 588.02),
      position("AMD", 0.0375, 160.1),
    ],
    orders: [
      order("o-107", "TSLA", "SELL", 50, 0, "PENDING_NEW", {
        updated_at: iso(2),
        source: "command",
        confirmed_at: null,
        type: "MARKET",
        limit_price: null,
      }),
      order("o-106", "MSFT", "BUY", 100, 40, "PARTIALLY_FILLED", { updated_at: iso(9) }),
      order("o-105", "SPY", "BUY", 120, 0, "PENDING_CANCEL", { updated_at: iso(14), limit_price: 590.05 }),
      order("o-104", "AMD", "BUY", 200, 0, "NEW", { updated_at: iso(66), limit_price: 160.5, time_in_force: "GTC" }),
      order("o-103", "AAPL", "BUY", 100, 100, "FILLED", { updated_at: iso(2530), source: "reconcile" }),
      order("o-102", "NVDA", "SELL", 150, 150, "FILLED", { updated_at: iso(3000), source: "poll" }),
      order("o-101", "AAPL", "BUY", 300, 300, "FILLED", { updated_at: iso(3200) }),
      order("o-100", "TSLA", "BUY", 10, 0, "CANCELED", { updated_at: iso(4000) }),
      order("o-099", "AMD", "BUY", 1000, 0, "REJECTED", {
        updated_at: iso(4100),
        reason: "insufficient buying power",
        source: "reply",
      }),
    ],
    executions: [
      fill("f5", "o-106", "MSFT", "BUY", 40, 31),
      fill("f3", "o-103", "AAPL", "BUY", 100, 2568, { source: "reconcile", late_s: 38.2, missed_by_stream: true }),
      fill("f2", "o-102", "NVDA", "SELL", 150, 3006, { source: "poll", late_s: 6.41, missed_by_stream: true }),
      fill("f1b", "o-101", "AAPL", "BUY", 200, 3201, { late_s: 0.112 }),
      fill("f1a", "o-101", "AAPL", "BUY", 100, 3203),
    ],
    alerts: [],
    signals: [signal("MSFT", "BUY", 0.82, 40), signal("NVDA", "SELL", 0.64, 3010), signal("AMD", "HOLD", 0.12, 3600)],
    breakers: [],
    kill: null,
    approvals: [],
    symbols: Object.keys(PRICES),
    quiet: new Set(["AMD"]),
  };
}

function empty() {
  return {
    ...healthy(),
    positions: [],
    orders: [],
    executions: [],
    drifts: [],
    gaps: [],
    signals: [],
    reconnects: 0,
  };
}

function signal(symbol, direction, strength, agoS) {
  return {
    symbol,
    direction,
    strength,
    strategy_name: "sma_cross",
    timestamp: iso(agoS),
    metadata: { indicators: { fast: 1.2, slow: 1.1 } },
  };
}

function portfolio() {
  const value = round(state.positions.reduce((sum, each) => sum + each.market_value, 0));
  const open = state.positions.reduce((sum, each) => sum + each.unrealized_pnl, 0);
  const cash = 831_204.18;
  return {
    total_equity: round(cash + value),
    cash,
    positions_value: value,
    daily_pnl: state.positions.length === 0 ? 0 : round(open - 812.4),
    daily_pnl_pct: state.positions.length === 0 ? 0 : -0.21,
    total_pnl: state.positions.length === 0 ? 0 : round(open + 24_310.55),
    total_pnl_pct: state.positions.length === 0 ? 0 : 2.43,
    max_drawdown_pct: state.positions.length === 0 ? 0 : -2.5,
    positions: state.positions,
    sector_exposure: {},
    as_of: new Date(state.proven).toISOString(),
    stale_symbols: state.positions.filter((each) => state.quiet.has(each.symbol)).map((each) => each.symbol),
    buying_power: 402_118,
  };
}

function health() {
  const now = Date.now();
  return {
    status: state.gap === null ? "healthy" : "degraded",
    trading_state: state.tradingState,
    truth_lag_s: Math.round(now - state.proven) / 1000,
    broker_events: {
      status: state.brokerStatus,
      last_trade_update_at: new Date(state.lastUpdate).toISOString(),
      last_reconnect_at: state.reconnects > 0 ? iso(2600) : null,
      reconnect_count: state.reconnects,
      last_reconciliation_at: new Date(state.reconciled).toISOString(),
      reconciliation_age_s: (now - state.reconciled) / 1000,
      last_result: state.drifts.some((drift) => drift.state === "confirmed") ? "unsettled: NVDA" : "clean",
      reason: state.reason,
      since: iso(2600),
    },
    market_data: {
      status: "UP",
      last_message_at: iso(0.2),
      age_s: 0.2,
      reconnect_count: 0,
      symbol_count: state.symbols.length,
      reason: "",
    },
    at: iso(),
    reasons: state.reason === "" ? [] : [state.reason],
    entries_gated: state.tradingState !== "ACTIVE",
    gap: state.gap,
    open_drifts: state.drifts.filter((drift) => ["suspected", "confirmed"].includes(drift.state)).length,
    in_doubt_orders: state.orders.filter((each) => each.in_doubt !== "").length,
    working_orders: state.orders.filter((each) => !each.terminal).length,
    journal_offset: 48_211,
    epoch,
    broker: process.env.BROKER ?? "alpaca paper",
    account: "PA3D4821",
    queues: {},
    counters: {},
    version: "0.1.0",
  };
}

const quotes = () => ({
  quotes: state.symbols.map((symbol) => ({
    symbol,
    bid: round(PRICES[symbol] - 0.02),
    ask: round(PRICES[symbol] + 0.02),
    at: state.quiet.has(symbol) ? iso(47) : iso(0.2),
  })),
});

function snapshot() {
  return {
    channel: "system:snapshot",
    data: {
      portfolio: portfolio(),
      orders: state.orders,
      executions: state.executions,
      health: health(),
      quotes: quotes(),
      gaps: state.gaps,
      drifts: state.drifts,
      kill_switch: state.kill,
      breakers: state.breakers,
      pending_approvals: state.approvals,
      alerts: state.alerts,
      signals: state.signals,
    },
    epoch,
    offset: 0,
    at: iso(),
    cursors: { ...offsets },
  };
}

const sockets = new WebSocketServer({ noServer: true });

function publish(channel, data) {
  offsets[channel] = (offsets[channel] ?? 0) + 1;
  const text = JSON.stringify({ channel, data, epoch, offset: offsets[channel], at: iso() });
  for (const client of sockets.clients) client.send(text);
}

function putOrder(next) {
  state.orders = state.orders.some((each) => each.id === next.id)
    ? state.orders.map((each) => (each.id === next.id ? next : each))
    : [next, ...state.orders];
  publish("order:status", {
    id: next.id,
    broker_order_id: next.broker_order_id,
    symbol: next.symbol,
    status: next.status,
    filled_at: next.filled_at,
    filled_price: next.average_price,
    filled_quantity: next.filled_quantity,
    detail: next.detail,
    order: next,
  });
}

function putFill(next) {
  state.executions = [next, ...state.executions];
  publish("trade:executed", next);
}

function putDrift(next) {
  state.drifts = [next, ...state.drifts.filter((each) => each.id !== next.id)];
  publish("truth:drift", next);
}

function putGap(next) {
  state.gaps = [next, ...state.gaps.filter((each) => each.id !== next.id)];
  state.gap = next.closed_at === null ? next : null;
  publish("truth:gap", next);
}

function alert(type, severity, reason, symbol = null) {
  const view = {
    type,
    severity,
    reason,
    symbol,
    current_value: null,
    limit_value: null,
    timestamp: iso(),
    order_id: "",
  };
  state.alerts = [view, ...state.alerts];
  publish("risk:alert", view);
}

const SCENES = {
  healthy() {
    state = healthy();
    for (const client of sockets.clients) client.send(JSON.stringify(snapshot()));
  },
  empty() {
    state = empty();
    for (const client of sockets.clients) client.send(JSON.stringify(snapshot()));
  },
  gap() {
    state.brokerStatus = "DOWN";
    state.tradingState = "REDUCE_ONLY";
    state.reason = "the broker closed the trade updates stream (1006)";
    state.proven = Date.now();
    publish("system:feed:disconnected", { timestamp: iso(), reason: state.reason, feed: "broker_events" });
    putGap({
      id: "gap-2",
      feed: "broker_events",
      reason: state.reason,
      opened_at: iso(),
      closed_at: null,
      missed: 0,
      learned_by: {},
    });
    publish("system:health", health());
  },
  heal() {
    const learned = state.orders.find((each) => each.id === "o-106") ?? state.orders[0];
    putFill(fill("f6", "o-106", "MSFT", "BUY", 45, 21, { source: "reconcile", late_s: 21.3, missed_by_stream: true }));
    putFill(fill("f7", "o-106", "MSFT", "BUY", 15, 14, { source: "reconcile", late_s: 14.02, missed_by_stream: true }));
    putFill(
      fill("f8", "o-104", "AMD", "BUY", 200, 9, {
        source: "poll",
        late_s: 3.4,
        missed_by_stream: true,
        inferred: true,
      }),
    );
    if (learned !== undefined) {
      putOrder(order("o-106", "MSFT", "BUY", 100, 100, "FILLED", { updated_at: iso(), source: "reconcile" }));
    }
    putDrift({
      id: "drift-2",
      kind: "order_filled_quantity",
      subject: "MSFT",
      state: "healed",
      believed: "40",
      reported: "100",
      evidence: "executions x-f6 and x-f7 found in the activity list",
      at: iso(),
      first_seen_at: iso(1),
      trued_up: true,
    });
    state.brokerStatus = "UP";
    state.tradingState = "ACTIVE";
    state.reason = "";
    state.reconnects += 1;
    state.proven = Date.now();
    state.reconciled = Date.now();
    publish("system:feed:reconnected", { timestamp: iso(), symbol_count: 0, feed: "broker_events" });
    const opened = state.gap?.opened_at ?? iso(40);
    putGap({
      id: "gap-2",
      feed: "broker_events",
      reason: "the broker closed the trade updates stream (1006)",
      opened_at: opened,
      closed_at: iso(),
      missed: 3,
      learned_by: { reconcile: 2, poll: 1 },
    });
    publish("system:health", health());
  },
  kill() {
    engage("unusual fills on NVDA", "system");
  },
  breaker() {
    const view = {
      breaker: "vix_spike",
      action: "activated",
      reason: "VIX crossed threshold: 37.2 > 35",
      timestamp: iso(),
      demand: "REDUCE_ONLY",
    };
    state.breakers = [view];
    state.tradingState = "REDUCE_ONLY";
    publish("risk:circuit_breaker", view);
  },
  drift() {
    state.positions = state.positions.map((each) =>
      each.symbol === "NVDA" ? { ...each, broker_quantity: -120, drift: "confirmed" } : each,
    );
    state.orders = state.orders.map((each) => (each.id === "o-107" ? { ...each, in_doubt: "submit" } : each));
    putDrift({
      id: "drift-3",
      kind: "position_quantity",
      subject: "NVDA",
      state: "confirmed",
      believed: "-150",
      reported: "-120",
      evidence: "two snapshots 2.1 s apart agree; no event under way explains it",
      at: iso(),
      first_seen_at: iso(2.1),
      trued_up: false,
    });
    for (const client of sockets.clients) client.send(JSON.stringify(snapshot()));
  },
  alerts() {
    alert("position_limit", "warning", "AAPL position size 6.2% exceeds 5% limit", "AAPL");
    alert("position_limit", "warning", "AAPL position size 6.4% exceeds 5% limit", "AAPL");
    alert("drawdown", "critical", "Day loss 2.1% exceeds 2.0% limit");
  },
  approval() {
    const view = {
      symbol: "AMD",
      side: "BUY",
      quantity: 100,
      signal_strength: 0.82,
      strategy_name: "ml_signal",
      risk_assessment: { position_limit_ok: true, portfolio_limit_ok: true, pdt_ok: false },
      requires_approval_by: new Date(Date.now() + 41_000).toISOString(),
      approval_id: "a-1",
    };
    state.approvals = [view];
    publish("trade:pending_approval", view);
  },
  hole() {
    offsets["order:status"] = (offsets["order:status"] ?? 0) + 3;
    putOrder(order("o-108", "SPY", "BUY", 5, 0, "NEW", { updated_at: iso() }));
  },
  busy() {
    state.hasNoJournal = true;
  },
  drop() {
    for (const client of sockets.clients) client.terminate();
  },
};

function engage(reason, operator) {
  state.tradingState = "KILLED";
  state.kill = { action: "activate", reason, operator, timestamp: iso(), state: "KILLED", open_orders_remaining: 4 };
  publish("risk:kill_switch", state.kill);
  publish("system:health", health());
  setTimeout(() => {
    for (const each of state.orders.filter((one) => !one.terminal)) {
      putOrder({ ...each, status: "CANCELLED", detail: "CANCELED", terminal: true, updated_at: iso(), in_doubt: "" });
    }
    state.reconciled = Date.now();
    publish("system:health", health());
  }, 1_500);
}

function story(one) {
  const start = Date.parse(one.submitted_at ?? one.updated_at);
  const at = (ms) => new Date(start + ms).toISOString();
  const shares = (quantity, price, id, extra = {}) => ({
    kind: "fill",
    quantity,
    price,
    execution_id: id,
    replaced: 0,
    inferred: false,
    replaces_inferred: false,
    ...extra,
  });
  const line = (offset, event, told, source, brokerMs, arrivedMs, status, filled, extra = {}) => ({
    offset,
    event,
    source,
    broker_at: brokerMs === null ? null : at(brokerMs),
    arrived_at: at(arrivedMs),
    status_after: status,
    filled_after: filled,
    text: "",
    changed: true,
    told,
    fills: [],
    ...extra,
  });
  return {
    order: one,
    timeline: [
      line(101, "intent", "order allowed, to be sent", "command", null, 0, "PENDING_NEW", 0, {
        text: "allowed; client order id tu-mock-101",
      }),
      line(103, "STATUS", "broker's answer to our request", "reply", 131, 171, "NEW", 0),
      line(104, "NEW", "broker works the order", "stream", 131, 219, "NEW", 0, { changed: false }),
      line(110, "TRADE", "fill", "stream", 22_900, 22_988, "PARTIALLY_FILLED", 40, {
        fills: [shares(40, 415.19, "x-f5")],
      }),
      line(
        140,
        "STATUS",
        "fill inferred from the broker's total, found by a poll",
        "poll",
        41_007,
        49_100,
        "FILLED",
        100,
        {
          fills: [shares(60, 415.2, "", { inferred: true, replaced: 60 })],
        },
      ),
      line(158, "TRADE", "fill", "reconcile", 41_007, 79_207, "FILLED", 100, {
        fills: [shares(60, 415.2, "x-f6", { replaces_inferred: true })],
      }),
      line(160, "TRADE", "fill", "stream", 41_007, 80_004, "FILLED", 100, { changed: false, text: "x-f6 is known" }),
    ],
    executions: [
      fill("f5", one.id, one.symbol, one.side, 40, 0, { entry_time: at(22_900), learned_at: at(22_988) }),
      fill("f6", one.id, one.symbol, one.side, 60, 0, {
        entry_time: at(41_007),
        learned_at: at(79_207),
        late_s: 38.2,
        source: "reconcile",
        missed_by_stream: true,
      }),
    ],
    gaps: [
      {
        id: "gap-2",
        feed: "broker_events",
        reason: "the broker closed the trade updates stream (1006)",
        opened_at: at(30_000),
        closed_at: at(77_400),
        missed: 2,
        learned_by: { reconcile: 2 },
      },
    ],
  };
}

function explanation(one) {
  const detail = story(one);
  const start = Date.parse(one.submitted_at ?? one.updated_at);
  const at = (ms) => new Date(start + ms).toISOString();
  const deed = (offset, ms, what, times = 1) => ({ offset, at: at(ms), what, times });
  const belief = (offset, ms, status, filled, source, extra = {}) => ({
    at: at(ms),
    offset,
    detail: status,
    filled_quantity: filled,
    in_doubt: "",
    source,
    position: filled,
    trading_state: "ACTIVE",
    broker_events: "UP",
    gap: "",
    proved_at: null,
    ...extra,
  });
  const blind = { trading_state: "REDUCE_ONLY", broker_events: "DOWN", gap: "gap-2", proved_at: at(29_600) };
  return {
    detail,
    deeds: [deed(101, 0, "sent the order as tu-mock-101")],
    moment: null,
    folded_to: 161,
    folded_at: at(81_000),
    meanwhile: [
      deed(120, 30_000, "stream of broker events lost: closed by the broker (1006)", 3),
      deed(131, 35_000, "got the broker's orders by poll", 7),
      deed(150, 61_000, "kill switch engaged by human: unusual fills"),
      deed(155, 77_200, "compared with the broker's books: clean"),
    ],
    bands: [
      {
        kind: "kill",
        name: "kill",
        demand: "KILLED",
        reason: "unusual fills",
        opened_at: at(61_000),
        closed_at: at(70_000),
      },
      {
        kind: "breaker",
        name: "vix_spike",
        demand: "REDUCE_ONLY",
        reason: "VIX crossed threshold: 37.2 > 35",
        opened_at: at(8_000),
        closed_at: at(20_000),
      },
    ],
    beliefs: [
      belief(101, 0, "PENDING_NEW", 0, "command"),
      belief(103, 171, "NEW", 0, "reply"),
      belief(110, 22_988, "PARTIALLY_FILLED", 40, "stream"),
      belief(120, 30_000, "PARTIALLY_FILLED", 40, "stream", blind),
      belief(140, 49_100, "FILLED", 100, "poll", blind),
      belief(150, 61_000, "FILLED", 100, "poll", { ...blind, trading_state: "KILLED" }),
      belief(158, 79_207, "FILLED", 100, "reconcile"),
    ],
    beliefs_end_at: null,
  };
}

function divergences() {
  const steps = (drift) => [{ ...drift, state: "suspected", evidence: "one snapshot differs" }, drift];
  return {
    drifts: [...state.drifts].reverse().map((drift) => ({
      ...drift,
      ended_at: drift.state === "suspected" ? null : drift.at,
      cause: "one snapshot differs; fills under way or a lagging position list could explain it",
      history: steps(drift),
      ended_by: drift.state === "suspected" ? "" : drift.evidence,
    })),
    gaps: [...state.gaps].reverse(),
    folded_to: 48_211,
    folded_at: iso(),
    left_out: 0,
  };
}

async function readBody(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text === "" ? {} : JSON.parse(text);
}

function answer(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function refuse(response, status, field, message, code = "bad_input") {
  answer(response, status, { error: { field, message, code } });
}

let nextOrder = 110;

async function serveApi(request, response, path) {
  const [, , room, id] = path.split("/");
  if (room === "orders" && request.method === "POST") {
    const terms = await readBody(request);
    if (!(terms.symbol in PRICES)) {
      return refuse(response, 422, "symbol", `${terms.symbol} is not a symbol that the broker knows.`);
    }
    const placed = order(`o-${nextOrder++}`, terms.symbol, terms.side, Number(terms.quantity), 0, "PENDING_NEW", {
      client_order_id: terms.client_order_id,
      source: "command",
      updated_at: iso(),
      type: terms.type,
      limit_price: terms.limit_price === undefined ? null : Number(terms.limit_price),
      confirmed_at: null,
    });
    answer(response, 201, placed);
    putOrder(placed);
    setTimeout(
      () => putOrder({ ...placed, status: "SUBMITTED", detail: "NEW", source: "stream", updated_at: iso() }),
      300,
    );
    return undefined;
  }
  const known = state.orders.find((each) => each.id === id);
  if (state.hasNoJournal && (room === "explain" || room === "divergences")) {
    return refuse(response, 503, "", "4 questions to the journal wait already; nothing was taken, try again", "busy");
  }
  if (room === "explain" && known !== undefined) return answer(response, 200, explanation(known));
  if (room === "divergences") return answer(response, 200, divergences());
  if (room === "orders" && known === undefined) return refuse(response, 404, "id", `There is no order ${id}.`);
  if (room === "orders" && request.method === "GET") return answer(response, 200, story(known));
  if (room === "orders" && request.method === "DELETE") {
    const cancelling = { ...known, detail: "PENDING_CANCEL", source: "command", updated_at: iso() };
    answer(response, 202, cancelling);
    putOrder(cancelling);
    setTimeout(() => {
      const end = { status: "CANCELLED", detail: "CANCELED", terminal: true, source: "stream", updated_at: iso() };
      putOrder({ ...cancelling, ...end });
    }, 700);
    return undefined;
  }
  if (room === "reconcile") {
    answer(response, 202, {});
    state.reconciled = Date.now();
    state.proven = Date.now();
    return publish("system:health", health());
  }
  if (room === "kill") {
    const { reason } = await readBody(request);
    answer(response, 202, {});
    return engage(reason, "human");
  }
  if (room === "resume") {
    const { reason } = await readBody(request);
    answer(response, 202, {});
    state.tradingState = "ACTIVE";
    state.kill = { ...state.kill, action: "deactivate", reason, operator: "human", timestamp: iso(), state: "ACTIVE" };
    publish("risk:kill_switch", state.kill);
    return publish("system:health", health());
  }
  return refuse(response, 404, null, `There is nothing at ${path}.`, "not_found");
}

function serveFile(response, path) {
  const wanted = join(STATIC, normalize(path));
  const file = existsSync(wanted) && statSync(wanted).isFile() ? wanted : join(STATIC, "index.html");
  if (!existsSync(file)) {
    response.writeHead(503);
    return response.end("Build the page first: npm run build\n");
  }
  response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
  return createReadStream(file).pipe(response);
}

const server = createServer((request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  if (path.startsWith("/scene/")) {
    const scene = SCENES[path.slice("/scene/".length)];
    if (scene === undefined) return refuse(response, 404, "scene", `Scenes are ${Object.keys(SCENES).join(", ")}.`);
    scene();
    return answer(response, 200, {});
  }
  if (path.startsWith("/api/")) return void serveApi(request, response, path);
  return serveFile(response, path);
});

server.on("upgrade", (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (client) => {
    client.send(JSON.stringify(snapshot()));
    client.on("message", (text) => {
      const message = JSON.parse(String(text));
      if (message.type === "ping") client.send(JSON.stringify({ type: "pong", server_time: iso() }));
      if (message.type === "resync") client.send(JSON.stringify(snapshot()));
    });
  });
});

state = healthy();
setInterval(() => {
  for (const symbol of state.symbols) {
    if (!state.quiet.has(symbol)) PRICES[symbol] = round(PRICES[symbol] + jitter(0.04));
  }
  state.positions = state.positions.map((each) => {
    const quiet = state.quiet.has(each.symbol);
    const fresh = position(each.symbol, each.quantity, each.average_price);
    return {
      ...fresh,
      quote_at: quiet ? iso(47) : iso(0.2),
      as_of: new Date(state.reconciled).toISOString(),
      broker_quantity: each.broker_quantity,
      drift: each.drift,
    };
  });
  if (state.gap === null && randomInt(4) === 0) state.proven = Date.now() - randomInt(900);
  publish("market:quotes", quotes());
  publish("portfolio:update", portfolio());
  publish("system:health", health());
}, 1_000);
setInterval(() => {
  if (state.gap === null) state.reconciled = Date.now();
}, 30_000);

server.listen(PORT, "127.0.0.1", () => process.stdout.write(`trueup mock at http://localhost:${PORT}/\n`));
