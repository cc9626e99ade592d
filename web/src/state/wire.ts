/**
 * What travels on the socket, and the border where a text becomes an envelope.
 *
 * Not for deciding what an envelope changes (`reducer.ts`). Invariant: nothing past this border is of unknown shape: a
 * payload that lacks a field that the store depends on is refused whole, never applied by half.
 */
import type { AnyEnvelope, Channel, ChannelMap } from "../api/types";

/** One message of the server on one channel; a snapshot names the offset up to which each channel is contained in it. */
export type Envelope = AnyEnvelope;

/** What a frame turned out to be. */
export type Frame =
  | { readonly kind: "envelope"; readonly envelope: Envelope }
  | { readonly kind: "pong"; readonly serverTime: string | undefined }
  | { readonly kind: "resumed"; readonly recovered: boolean }
  | { readonly kind: "foreign"; readonly channel: Channel; readonly data: Readonly<Record<string, unknown>> }
  | { readonly kind: "unknown"; readonly channel: string }
  | { readonly kind: "malformed"; readonly why: string };

/** Fields without which the store cannot place a payload; a renamed field in Python is a compile error here. */
const REQUIRED: { readonly [C in Channel]: readonly (keyof ChannelMap[C])[] } = {
  "portfolio:update": ["total_equity", "cash", "positions", "stale_symbols"],
  "trade:executed": ["id", "symbol", "side", "quantity", "entry_time"],
  "trade:pending_approval": ["symbol", "side", "quantity", "requires_approval_by"],
  "order:status": ["id", "symbol", "status", "filled_quantity"],
  "signal:generated": ["symbol", "direction", "strength", "timestamp"],
  "risk:alert": ["type", "severity", "reason", "timestamp"],
  "risk:circuit_breaker": ["breaker", "action", "reason", "timestamp"],
  "risk:kill_switch": ["action", "reason", "operator", "timestamp"],
  "system:feed:disconnected": ["timestamp", "reason"],
  "system:feed:reconnected": ["timestamp", "symbol_count"],
  "system:health": ["status", "trading_state", "broker_events", "market_data", "at", "reasons"],
  "system:snapshot": [
    "portfolio",
    "orders",
    "executions",
    "health",
    "quotes",
    "gaps",
    "drifts",
    "breakers",
    "pending_approvals",
  ],
  "market:quotes": ["quotes"],
  "truth:gap": ["id", "opened_at", "learned_by"],
  "truth:drift": ["id", "state", "subject"],
};

/** Channels of which only the newest message matters; every other one must come without holes. */
const STATE_CHANNELS: ReadonlySet<string> = new Set<Channel>([
  "portfolio:update",
  "system:health",
  "market:quotes",
  "system:snapshot",
]);

/** Whether a missing offset on this channel means that something was lost. */
export function isLogChannel(channel: Channel): boolean {
  return !STATE_CHANNELS.has(channel);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isChannel(name: string): name is Channel {
  return Object.hasOwn(REQUIRED, name);
}

/** A stranger's payload as one of ours, over what is known or can be assumed; null when too much is missing. */
export function completed(
  channel: Channel,
  data: Readonly<Record<string, unknown>>,
  known: object,
  at: string,
): Envelope | null {
  const whole: Record<string, unknown> = { timestamp: at, ...known, ...data };
  if (REQUIRED[channel].some((field) => whole[field as string] === undefined)) return null;
  return { channel, data: whole, epoch: "", offset: 0, at } as unknown as Envelope;
}

/** Reads one text frame; never throws. */
export function readFrame(text: unknown): Frame {
  let message: unknown;
  try {
    message = JSON.parse(String(text));
  } catch {
    return { kind: "malformed", why: "a frame is not JSON" };
  }
  if (!isRecord(message)) return { kind: "malformed", why: "a frame is not an object" };
  if (message.type === "pong") {
    const serverTime = message.server_time;
    return { kind: "pong", serverTime: typeof serverTime === "string" ? serverTime : undefined };
  }
  if (message.type === "resumed") return { kind: "resumed", recovered: message.recovered === true };
  const { channel, data, epoch, offset } = message;
  if (typeof channel !== "string") {
    const detail = typeof message.message === "string" ? `: ${message.message}` : "";
    return { kind: "malformed", why: `a frame names no channel${detail}` };
  }
  if (!isChannel(channel)) return { kind: "unknown", channel };
  if (epoch === undefined && offset === undefined && isRecord(data)) {
    // Published by somebody else: it has no place that one could resume from.
    const text = data.raw;
    if (typeof text === "string") return { kind: "malformed", why: `${channel} brought what is no JSON: ${text}` };
    return { kind: "foreign", channel, data };
  }
  if (typeof epoch !== "string" || typeof offset !== "number") {
    return { kind: "malformed", why: `${channel} came without epoch or offset` };
  }
  if (!isRecord(data)) return { kind: "malformed", why: `${channel} carries no data` };
  const missing = REQUIRED[channel].filter((field) => data[field as string] === undefined);
  if (missing.length > 0) {
    return { kind: "malformed", why: `${channel} lacks ${missing.join(", ")}` };
  }
  return { kind: "envelope", envelope: message as unknown as Envelope };
}
