/**
 * Questions that several panels ask of the state, answered in one place so that one fact has one answer.
 *
 * Not for anything that only one panel needs. Invariant: pure, and the newer of two statements always wins.
 */
import type { CircuitBreakerView, GapView, KillSwitchView, OrderView } from "../api/types";
import type { State } from "./reducer";

export type Environment = "simulated" | "paper" | "real" | "unknown";

/** Whose money it is. A name that says neither simulator nor paper is taken for real money: the safe mistake. */
export function environment(broker: string): Environment {
  if (broker === "") return "unknown";
  if (/simul|demo|sandbox/i.test(broker)) return "simulated";
  return /paper/i.test(broker) ? "paper" : "real";
}

/** Whether the kill switch is engaged, by whichever of its own channel and health spoke last. */
export function isKilled(state: State): boolean {
  const { killSwitch, health } = state;
  if (killSwitch !== null && (health === null || Date.parse(killSwitch.timestamp) >= Date.parse(health.at))) {
    return killSwitch.action === "activate";
  }
  return health?.trading_state === "KILLED";
}

/** What the kill switch last said, when that explains the present kill. */
export function killStatement(state: State): KillSwitchView | null {
  return state.killSwitch?.action === "activate" ? state.killSwitch : null;
}

/** The trading state to show: a kill is shown in the moment it is told. */
export function tradingState(state: State): string | null {
  if (isKilled(state)) return "KILLED";
  const word = state.health?.trading_state ?? null;
  // The kill was just taken back and health has not caught up: what may leave now is not known yet.
  return word === "KILLED" ? null : word;
}

/** The gap in broker events that is open, if any. */
export function openGap(state: State): GapView | null {
  const listed = state.gaps.find((gap) => gap.closed_at === null && gap.feed !== "market_data");
  if (listed !== undefined) return listed;
  const said = state.health?.gap ?? null;
  // Health is a state message and may be a moment behind the gap's own closing word.
  if (said === null || state.gaps.some((gap) => gap.id === said.id && gap.closed_at !== null)) return null;
  return said.closed_at === null ? said : null;
}

/** The status word of a feed, by whichever of its own channel and health spoke last; null before either. */
export function feedStatus(state: State, feed: "broker_events" | "market_data"): string | null {
  const word = state.feedWords[feed];
  const { health } = state;
  if (word !== undefined && (health === null || Date.parse(word.at) > Date.parse(health.at))) {
    return word.up ? "UP" : "DOWN";
  }
  return health?.[feed].status ?? null;
}

/** Truth lag in seconds at `now`: what health stated, plus the time since it stated it. */
export function truthLag(state: State, now: number): number | null {
  const { health } = state;
  if (health === null || health.truth_lag_s === null) return null;
  return health.truth_lag_s + Math.max(0, (now - Date.parse(health.at)) / 1000);
}

/** A danger that is told by the gap banner, and so is no breaker of its own on screen. */
const TOLD_BY_GAP = "stale_data";

/** Whether a breaker has a banner of its own. */
export function isShownBreaker(breaker: CircuitBreakerView): boolean {
  return breaker.breaker !== TOLD_BY_GAP;
}

/** Why nothing that increases risk may be sent now, in one sentence; "" when it may. */
export function entriesBlocked(state: State): string {
  if (state.phase !== "live") return "Not connected: nobody can tell what an order would do now.";
  if (isKilled(state)) return "The kill switch is engaged.";
  const breaker = state.breakers.find(isShownBreaker);
  if (breaker !== undefined) return `Circuit breaker ${breaker.breaker} is on.`;
  if (openGap(state) !== null) return "Broker events are interrupted; entries wait for a clean reconciliation.";
  if (state.health?.entries_gated === true) {
    return state.health.reasons[0] ?? `Trading state is ${state.health.trading_state}.`;
  }
  return "";
}

/** Whether an order may still change at the broker. */
export function isWorking(order: OrderView): boolean {
  return !order.terminal;
}
