/**
 * (state, action) -> state: all that the dashboard knows, and how each message changes it. Pure.
 *
 * Not for drawing, sockets or clocks. Invariant: whatever comes twice, late or out of turn changes nothing twice, for
 * every fact is kept under its id; and a hole in a channel that must not lose anything is never passed over in silence.
 */
import type {
  Channel,
  CircuitBreakerView,
  DriftView,
  GapView,
  HealthView,
  KillSwitchView,
  OrderStatusView,
  OrderView,
  PendingApprovalView,
  PortfolioView,
  QuoteView,
  RiskAlertView,
  SignalView,
  SystemSnapshotView,
  TradeExecutedView,
} from "../api/types";
import { exactSum } from "../lib/format";
import { completed, type Envelope, isLogChannel } from "./wire";

/** `live` only once a snapshot has arrived on an open socket; `disconnected` after a longer time without one. */
export type Phase = "connecting" | "live" | "reconnecting" | "disconnected";

/** A risk alert with its repetitions; `onToast` while it should float above the page. */
export interface AlertEntry {
  readonly key: string;
  readonly view: RiskAlertView;
  readonly count: number;
  readonly onToast: boolean;
}

/** The last word about a feed that a feed channel has given. */
export interface FeedWord {
  readonly up: boolean;
  readonly at: string;
  readonly reason: string;
}

export interface LagSample {
  readonly at: number;
  readonly lag: number;
}

export interface State {
  readonly phase: Phase;
  /** When the phase began, milliseconds by the server's clock. */
  readonly phaseSince: number;
  /** How many connection attempts have failed in a row. */
  readonly attempt: number;
  /** Null until the first snapshot; a snapshot's envelope time after that. */
  readonly snapshotAt: string | null;
  /** False between the opening of a socket and its snapshot. */
  readonly synced: boolean;
  readonly epoch: string;
  readonly cursors: Readonly<Record<string, number>>;
  /** Whether the snapshot said how far each channel was; a channel that it did not name stood at 0 then. */
  readonly cursorsKnown: boolean;
  /** Why a snapshot must be asked for, or null. */
  readonly awaiting: "hole" | "epoch" | null;
  /** When the last message of any kind arrived, milliseconds by the server's clock; 0 before the first. */
  readonly lastMessageAt: number;
  readonly portfolio: PortfolioView | null;
  readonly orders: ReadonlyMap<string, OrderView>;
  readonly executions: readonly TradeExecutedView[];
  readonly health: HealthView | null;
  readonly quotes: ReadonlyMap<string, QuoteView>;
  readonly gaps: readonly GapView[];
  readonly drifts: readonly DriftView[];
  readonly killSwitch: KillSwitchView | null;
  readonly breakers: readonly CircuitBreakerView[];
  readonly approvals: readonly PendingApprovalView[];
  readonly alerts: readonly AlertEntry[];
  readonly signals: readonly SignalView[];
  readonly feedWords: Readonly<Record<string, FeedWord>>;
  readonly lagHistory: readonly LagSample[];
  readonly dismissedHeal: string;
  readonly counts: {
    readonly malformed: number;
    readonly unknown: number;
    readonly holes: number;
    readonly repeated: number;
  };
  readonly lastFault: string;
}

export type Action =
  | { readonly type: "envelope"; readonly envelope: Envelope; readonly now: number }
  | { readonly type: "opened" }
  | { readonly type: "phase"; readonly phase: Phase; readonly now: number; readonly attempt: number }
  | { readonly type: "resumed"; readonly now: number }
  | {
      readonly type: "foreign";
      readonly channel: Channel;
      readonly data: Readonly<Record<string, unknown>>;
      readonly now: number;
    }
  | { readonly type: "heard"; readonly now: number }
  | { readonly type: "malformed"; readonly why: string }
  | { readonly type: "unknown"; readonly channel: string }
  | { readonly type: "order"; readonly order: OrderView }
  | { readonly type: "hide-toast"; readonly key: string }
  | { readonly type: "dismiss-heal"; readonly id: string };

/** Nothing here grows without bound: so many of each are kept, the newest. */
export const KEPT = { orders: 2_000, executions: 1_000, alerts: 200, signals: 50, truth: 200, lag: 150 } as const;

export const EMPTY: State = {
  phase: "connecting",
  phaseSince: 0,
  attempt: 0,
  snapshotAt: null,
  synced: false,
  epoch: "",
  cursors: {},
  cursorsKnown: false,
  awaiting: null,
  lastMessageAt: 0,
  portfolio: null,
  orders: new Map(),
  executions: [],
  health: null,
  quotes: new Map(),
  gaps: [],
  drifts: [],
  killSwitch: null,
  breakers: [],
  approvals: [],
  alerts: [],
  signals: [],
  feedWords: {},
  lagHistory: [],
  dismissedHeal: "",
  counts: { malformed: 0, unknown: 0, holes: 0, repeated: 0 },
  lastFault: "",
};

/** Folds one action into the state; returns the same object when nothing changed. */
export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "envelope":
      return applyEnvelope(state, action.envelope, action.now);
    case "opened":
      return { ...state, synced: false, awaiting: null };
    case "phase":
      return {
        ...state,
        phase: action.phase,
        attempt: action.attempt,
        phaseSince: action.phase === state.phase ? state.phaseSince : action.now,
      };
    case "resumed":
      return {
        ...state,
        synced: true,
        phase: "live",
        attempt: 0,
        phaseSince: state.phase === "live" ? state.phaseSince : action.now,
        lastMessageAt: action.now,
      };
    case "foreign":
      return applyForeign(state, action);
    case "heard":
      return { ...state, lastMessageAt: action.now };
    case "malformed":
      return {
        ...state,
        counts: { ...state.counts, malformed: state.counts.malformed + 1 },
        lastFault: action.why,
      };
    case "unknown":
      return { ...state, counts: { ...state.counts, unknown: state.counts.unknown + 1 } };
    case "order":
      return withOrder(state, action.order);
    case "hide-toast":
      return {
        ...state,
        alerts: state.alerts.map((each) => (each.key === action.key ? { ...each, onToast: false } : each)),
      };
    case "dismiss-heal":
      return { ...state, dismissedHeal: action.id };
  }
}

const NO_PORTFOLIO = {
  total_equity: null,
  cash: null,
  positions_value: null,
  daily_pnl: null,
  daily_pnl_pct: null,
  total_pnl: null,
  total_pnl_pct: null,
  max_drawdown_pct: null,
  positions: [],
  sector_exposure: {},
  as_of: null,
  stale_symbols: [],
  buying_power: null,
};

/** What somebody else published: shown at once, and gone with the next word of the server on the same thing. */
function applyForeign(before: State, action: Extract<Action, { type: "foreign" }>): State {
  const state = { ...before, lastMessageAt: action.now };
  const known = action.channel === "portfolio:update" ? { ...NO_PORTFOLIO, ...state.portfolio } : {};
  const envelope = completed(action.channel, action.data, known, new Date(action.now).toISOString());
  if (envelope !== null && envelope.channel !== "system:snapshot") return applyData(state, envelope, action.now);
  const lastFault = `${action.channel} was published by somebody else and lacks fields`;
  return { ...state, counts: { ...state.counts, malformed: state.counts.malformed + 1 }, lastFault };
}

function applyEnvelope(before: State, envelope: Envelope, now: number): State {
  const state = { ...before, lastMessageAt: now };
  if (envelope.channel === "system:snapshot") return fromSnapshot(state, envelope, now);
  // Between a socket's opening and its snapshot, and after a new epoch, nothing fits onto what we hold.
  if (!state.synced || state.awaiting === "epoch") return state;
  if (envelope.epoch !== state.epoch) return { ...state, awaiting: "epoch" };

  const { channel, offset } = envelope;
  const cursor = state.cursors[channel] ?? (state.cursorsKnown ? 0 : undefined);
  if (cursor !== undefined && offset <= cursor) {
    return { ...state, counts: { ...state.counts, repeated: state.counts.repeated + 1 } };
  }
  const next = { ...applyData(state, envelope, now), cursors: { ...state.cursors, [channel]: offset } };
  const hole = isLogChannel(channel) && cursor !== undefined && offset > cursor + 1;
  if (!hole) return next;
  return { ...next, awaiting: "hole", counts: { ...next.counts, holes: next.counts.holes + 1 } };
}

function fromSnapshot(state: State, envelope: Extract<Envelope, { channel: "system:snapshot" }>, now: number): State {
  const view: SystemSnapshotView = envelope.data;
  const alerts = view.alerts ?? [];
  return {
    ...state,
    phase: "live",
    phaseSince: state.phase === "live" ? state.phaseSince : now,
    attempt: 0,
    snapshotAt: envelope.at,
    synced: true,
    epoch: envelope.epoch,
    cursors: envelope.cursors ?? {},
    cursorsKnown: envelope.cursors !== undefined,
    awaiting: null,
    portfolio: view.portfolio,
    orders: new Map(view.orders.slice(0, KEPT.orders).map((order) => [order.id, order])),
    executions: view.executions.slice(0, KEPT.executions),
    health: view.health,
    quotes: new Map(view.quotes.quotes.map((quote) => [quote.symbol, quote])),
    gaps: newestFirst(view.gaps, (gap) => gap.opened_at),
    drifts: newestFirst(view.drifts, (drift) => drift.at),
    killSwitch: view.kill_switch,
    breakers: view.breakers.filter((breaker) => breaker.action === "activated"),
    approvals: view.pending_approvals,
    alerts: keepToasts(
      newestFirst(alerts, (alert) => alert.timestamp),
      state.alerts,
    ),
    signals: newestFirst(view.signals ?? [], (signal) => signal.timestamp).slice(0, KEPT.signals),
    feedWords: {},
    lagHistory: withLag(state.lagHistory, view.health),
  };
}

function applyData(state: State, envelope: Envelope, now: number): State {
  switch (envelope.channel) {
    case "portfolio:update":
      return { ...state, portfolio: envelope.data };
    case "trade:executed":
      return { ...state, executions: withFill(state.executions, envelope.data) };
    case "trade:pending_approval":
      return {
        ...state,
        approvals: [
          ...state.approvals.filter((each) => approvalKey(each) !== approvalKey(envelope.data)),
          envelope.data,
        ],
      };
    case "order:status":
      return withOrderStatus(state, envelope.data);
    case "signal:generated":
      return { ...state, signals: [envelope.data, ...state.signals].slice(0, KEPT.signals) };
    case "risk:alert":
      return withAlert(state, envelope.data);
    case "risk:circuit_breaker": {
      const others = state.breakers.filter((each) => each.breaker !== envelope.data.breaker);
      const breakers = envelope.data.action === "activated" ? [envelope.data, ...others] : others;
      return { ...state, breakers };
    }
    case "risk:kill_switch":
      return { ...state, killSwitch: envelope.data };
    case "system:feed:disconnected":
      return withFeedWord(state, envelope.data.feed, {
        up: false,
        at: envelope.data.timestamp,
        reason: envelope.data.reason,
      });
    case "system:feed:reconnected":
      return withFeedWord(state, envelope.data.feed, {
        up: true,
        at: envelope.data.timestamp,
        reason: "",
      });
    case "system:health":
      return {
        ...state,
        health: envelope.data,
        lagHistory: withLag(state.lagHistory, envelope.data),
        breakers: withoutEnded(state.breakers, envelope.data),
      };
    case "market:quotes": {
      const quotes = new Map(state.quotes);
      for (const quote of envelope.data.quotes) quotes.set(quote.symbol, quote);
      return { ...state, quotes };
    }
    case "truth:gap":
      return { ...state, gaps: withNewest(state.gaps, envelope.data, (gap) => gap.opened_at) };
    case "truth:drift":
      return { ...state, drifts: withNewest(state.drifts, envelope.data, (drift) => drift.at) };
    case "system:snapshot":
      return fromSnapshot(state, envelope, now);
  }
}

/** Puts a fill in by the time of its match; one that names shares inferred before takes their place. */
function withFill(list: readonly TradeExecutedView[], fill: TradeExecutedView): readonly TradeExecutedView[] {
  let named = fill.replaces_inferred ? fill.quantity : 0;
  const kept: TradeExecutedView[] = [];
  for (const each of list) {
    if (each.id === fill.id) continue;
    if (named > 0 && each.inferred && each.broker_order_id === fill.broker_order_id) {
      const left = exactSum([each.quantity, -named]);
      named = Math.max(0, -left);
      if (left > 0) kept.push({ ...each, quantity: left });
    } else {
      kept.push(each);
    }
  }
  const place = kept.findIndex((each) => Date.parse(each.entry_time) <= Date.parse(fill.entry_time));
  kept.splice(place === -1 ? kept.length : place, 0, fill);
  return kept.slice(0, KEPT.executions);
}

/** Leaves out breakers that cannot be on any more: the trading state is the strictest that any of them demands. */
function withoutEnded(breakers: readonly CircuitBreakerView[], health: HealthView): readonly CircuitBreakerView[] {
  if (health.trading_state !== "ACTIVE") return breakers;
  const left = breakers.filter((each) => each.demand === "" || Date.parse(each.timestamp) > Date.parse(health.at));
  return left.length === breakers.length ? breakers : left;
}

/** The key under which repeated alerts become one. */
export function alertKey(view: RiskAlertView): string {
  return [view.type, view.symbol ?? "", view.severity, view.order_id ?? ""].join("|");
}

function approvalKey(view: PendingApprovalView): string {
  return view.approval_id || [view.symbol, view.side, view.requires_approval_by].join("|");
}

function withAlert(state: State, view: RiskAlertView): State {
  const key = alertKey(view);
  const known = state.alerts.find((each) => each.key === key);
  const entry: AlertEntry = {
    key,
    view,
    count: (known?.count ?? 0) + 1,
    onToast: view.severity !== "info",
  };
  return {
    ...state,
    alerts: [entry, ...state.alerts.filter((each) => each.key !== key)].slice(0, KEPT.alerts),
  };
}

/** Old alerts of a snapshot do not pop up again; those that float already stay where they are. */
function keepToasts(views: readonly RiskAlertView[], before: readonly AlertEntry[]): readonly AlertEntry[] {
  const entries = new Map<string, AlertEntry>();
  for (const view of views) {
    const key = alertKey(view);
    const known = entries.get(key);
    const onToast = before.some((each) => each.key === key && each.onToast);
    entries.set(key, known === undefined ? { key, view, count: 1, onToast } : { ...known, count: known.count + 1 });
  }
  return [...entries.values()].slice(0, KEPT.alerts);
}

function withOrderStatus(state: State, view: OrderStatusView): State {
  if (view.order !== null && view.order !== undefined) return putOrder(state, view.order);
  const known = state.orders.get(view.id);
  if (known === undefined) return state;
  return putOrder(state, {
    ...known,
    status: view.status,
    detail: view.detail,
    broker_order_id: view.broker_order_id,
    filled_quantity: view.filled_quantity,
    average_price: view.filled_price ?? known.average_price,
    filled_at: view.filled_at,
  });
}

/** Puts in a row that came as an answer over HTTP, unless the socket has already told something newer. */
function withOrder(state: State, order: OrderView): State {
  const known = state.orders.get(order.id);
  if (known !== undefined && Date.parse(known.updated_at) >= Date.parse(order.updated_at)) return state;
  return putOrder(state, order);
}

function putOrder(state: State, order: OrderView): State {
  // A known order keeps its place, a new one goes to the top: rows do not jump under the pointer.
  if (state.orders.has(order.id)) {
    const orders = new Map(state.orders);
    orders.set(order.id, order);
    return { ...state, orders };
  }
  const orders = new Map([[order.id, order], ...state.orders]);
  if (orders.size > KEPT.orders) {
    const oldest = [...orders.values()].reverse().find((each) => each.terminal);
    if (oldest !== undefined) orders.delete(oldest.id);
  }
  return { ...state, orders };
}

function withFeedWord(state: State, feed: string, word: FeedWord): State {
  return { ...state, feedWords: { ...state.feedWords, [feed || "market_data"]: word } };
}

function withLag(history: readonly LagSample[], health: HealthView): readonly LagSample[] {
  const at = Date.parse(health.at);
  const last = history.at(-1);
  if (health.truth_lag_s === null || Number.isNaN(at) || (last !== undefined && at <= last.at)) return history;
  return [...history, { at, lag: health.truth_lag_s }].slice(-KEPT.lag);
}

function withNewest<T extends { readonly id: string }>(
  list: readonly T[],
  view: T,
  key: (item: T) => string,
): readonly T[] {
  return newestFirst([view, ...list.filter((each) => each.id !== view.id)], key).slice(0, KEPT.truth);
}

function newestFirst<T>(list: readonly T[], key: (item: T) => string): readonly T[] {
  return [...list].sort((a, b) => Date.parse(key(b)) - Date.parse(key(a)));
}

/** Channels that are shown at once; the rest may wait for the next flush. */
export const URGENT: ReadonlySet<Channel> = new Set<Channel>([
  "system:snapshot",
  "risk:alert",
  "risk:circuit_breaker",
  "risk:kill_switch",
  "trade:pending_approval",
  "truth:gap",
]);
