/** Plausible facts for tests, each complete; a test names only what it is about. */
import type {
  BelievedView,
  DriftView,
  ExplanationView,
  GapView,
  HealthView,
  OrderStatusView,
  OrderView,
  PortfolioView,
  PositionView,
  RiskAlertView,
  SystemSnapshotView,
  TimelineEntryView,
  TradeExecutedView,
} from "../api/types";

/** The instant that tests take for now. */
export const NOW = "2026-03-12T18:00:00.000Z";

/** An instant so many seconds before `NOW`. */
export function ago(seconds: number): string {
  return new Date(Date.parse(NOW) - seconds * 1000).toISOString();
}

export function position(part: Partial<PositionView> = {}): PositionView {
  return {
    symbol: "AAPL",
    quantity: 400,
    average_price: 226.1,
    market_value: 90816,
    unrealized_pnl: 376,
    as_of: ago(12),
    price: 227.04,
    quote_at: ago(0.3),
    realized_pnl: 0,
    broker_quantity: 400,
    drift: "",
    ...part,
  };
}

export function portfolio(part: Partial<PortfolioView> = {}): PortfolioView {
  return {
    total_equity: 1024310.55,
    cash: 831204.18,
    positions_value: 193106.37,
    daily_pnl: -270,
    daily_pnl_pct: -2.05,
    total_pnl: 1500,
    total_pnl_pct: 6.38,
    max_drawdown_pct: -2.5,
    positions: [],
    sector_exposure: {},
    as_of: ago(1),
    stale_symbols: [],
    buying_power: 402118,
    ...part,
  };
}

export function order(part: Partial<OrderView> = {}): OrderView {
  return {
    id: "o-1",
    client_order_id: "tu-1",
    broker_order_id: "b-1",
    symbol: "MSFT",
    side: "BUY",
    quantity: 100,
    filled_quantity: 0,
    average_price: null,
    status: "SUBMITTED",
    detail: "NEW",
    source: "stream",
    updated_at: ago(30),
    type: "LIMIT",
    time_in_force: "DAY",
    limit_price: 415.2,
    stop_price: null,
    leaves_quantity: 100,
    in_doubt: "",
    origin: "trueup",
    strategy_name: "",
    reason: "",
    submitted_at: ago(60),
    filled_at: null,
    confirmed_at: ago(12),
    terminal: false,
    broker_order_ids: ["b-1"],
    ...part,
  };
}

export function orderStatus(row: OrderView): OrderStatusView {
  return {
    id: row.id,
    broker_order_id: row.broker_order_id,
    symbol: row.symbol,
    status: row.status,
    filled_at: row.filled_at,
    filled_price: row.average_price,
    filled_quantity: row.filled_quantity,
    detail: row.detail,
    order: row,
  };
}

export function fill(part: Partial<TradeExecutedView> = {}): TradeExecutedView {
  return {
    id: "f-1",
    symbol: "MSFT",
    side: "BUY",
    quantity: 40,
    entry_price: 415.19,
    entry_time: ago(20),
    strategy_name: "",
    order_id: "o-1",
    broker_order_id: "b-1",
    execution_id: "x-1",
    source: "stream",
    learned_at: ago(19.9),
    late_s: 0.088,
    missed_by_stream: false,
    inferred: false,
    replaces_inferred: false,
    kind: "fill",
    ...part,
  };
}

export function gap(part: Partial<GapView> = {}): GapView {
  return {
    id: "g-1",
    feed: "broker_events",
    reason: "the stream was closed",
    opened_at: ago(47),
    closed_at: null,
    missed: 0,
    learned_by: {},
    ...part,
  };
}

export function drift(part: Partial<DriftView> = {}): DriftView {
  return {
    id: "d-1",
    kind: "position_quantity",
    subject: "AAPL",
    state: "confirmed",
    believed: "300",
    reported: "400",
    evidence: "two snapshots agree",
    at: ago(3),
    first_seen_at: ago(5),
    trued_up: false,
    ...part,
  };
}

export function alert(part: Partial<RiskAlertView> = {}): RiskAlertView {
  return {
    type: "position_limit",
    severity: "warning",
    reason: "AAPL position size 6.2% exceeds 5% limit",
    symbol: "AAPL",
    current_value: 6.2,
    limit_value: 5,
    timestamp: NOW,
    order_id: "",
    ...part,
  };
}

export function health(part: Partial<HealthView> = {}): HealthView {
  return {
    status: "healthy",
    trading_state: "ACTIVE",
    truth_lag_s: 0.4,
    broker_events: {
      status: "UP",
      last_trade_update_at: ago(840),
      last_reconnect_at: ago(3600),
      reconnect_count: 3,
      last_reconciliation_at: ago(24),
      reconciliation_age_s: 24,
      last_result: "clean",
      reason: "",
      since: ago(3600),
    },
    market_data: {
      status: "UP",
      last_message_at: ago(0.4),
      age_s: 0.4,
      reconnect_count: 1,
      symbol_count: 12,
      reason: "",
    },
    at: NOW,
    reasons: [],
    entries_gated: false,
    gap: null,
    open_drifts: 0,
    in_doubt_orders: 0,
    working_orders: 0,
    journal_offset: 10,
    epoch: "epoch-1",
    broker: "alpaca paper",
    account: "PA1",
    queues: {},
    counters: {},
    version: "0.1.0",
    ...part,
  };
}

export function snapshot(part: Partial<SystemSnapshotView> = {}): SystemSnapshotView {
  return {
    portfolio: portfolio(),
    orders: [],
    executions: [],
    health: health(),
    quotes: { quotes: [] },
    gaps: [],
    drifts: [],
    kill_switch: null,
    breakers: [],
    pending_approvals: [],
    alerts: [],
    signals: [],
    ...part,
  };
}

export function timelineEntry(part: Partial<TimelineEntryView> = {}): TimelineEntryView {
  return {
    offset: 1,
    event: "intent",
    source: "command",
    broker_at: null,
    arrived_at: ago(60),
    status_after: "PENDING_NEW",
    filled_after: 0,
    text: "",
    changed: true,
    told: "order allowed, to be sent",
    fills: [],
    ...part,
  };
}

export function believed(part: Partial<BelievedView> = {}): BelievedView {
  return {
    at: ago(60),
    offset: 1,
    detail: "PENDING_NEW",
    filled_quantity: 0,
    in_doubt: "",
    source: "command",
    position: 0,
    trading_state: "ACTIVE",
    broker_events: "UP",
    gap: "",
    proved_at: null,
    ...part,
  };
}

export function explanation(part: Partial<ExplanationView> = {}): ExplanationView {
  return {
    detail: { order: order(), timeline: [timelineEntry()], executions: [], gaps: [] },
    deeds: [],
    moment: null,
    folded_to: 20,
    folded_at: NOW,
    meanwhile: [],
    bands: [],
    beliefs: [believed()],
    beliefs_end_at: null,
    ...part,
  };
}
