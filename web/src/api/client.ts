/**
 * Commands over HTTP, and the few questions that the socket does not answer.
 *
 * Not for keeping what comes back: the socket tells what a command has changed. Invariant: a command is sent once;
 * when its outcome is unknown the caller is told exactly that.
 */
import type { DivergencesView, ExplanationView, OrderDetailView, OrderView } from "./types";

/** What went wrong: `field` names the input that is wrong, `status` is 0 when the server could not be reached. */
export class ApiError extends Error {
  readonly field: string | null;
  readonly code: string;
  readonly status: number;

  constructor(message: string, options: { field?: string | null; code?: string; status?: number } = {}) {
    super(message);
    this.name = "ApiError";
    this.field = options.field ?? null;
    this.code = options.code ?? "";
    this.status = options.status ?? 0;
  }
}

/** How long a command may take; the order itself is decided within a moment, the broker's answer comes by the socket. */
const TIMEOUT_MS = 10_000;

/** How long a question to the journal may take: it is folded from its beginning. The server gives up before. */
const HISTORY_TIMEOUT_MS = 130_000;

/** The terms of a new order; amounts are texts as typed, so that no digit is lost on the way. */
export interface OrderTerms {
  readonly client_order_id: string;
  readonly symbol: string;
  readonly side: "BUY" | "SELL";
  readonly quantity: string;
  readonly type: string;
  readonly time_in_force: string;
  readonly limit_price?: string;
  readonly stop_price?: string;
}

/** Sends a new order; a repetition under the same client order id returns the first one. */
export function submitOrder(terms: OrderTerms): Promise<OrderView> {
  return request<OrderView>("POST", "/api/orders", terms);
}

/** Asks the broker to cancel an order. */
export function cancelOrder(id: string): Promise<OrderView> {
  return request<OrderView>("DELETE", `/api/orders/${encodeURIComponent(id)}`);
}

/** An order's row, timeline, executions and gaps, by any of its ids. */
export function fetchOrder(id: string): Promise<OrderDetailView> {
  return request<OrderDetailView>("GET", `/api/orders/${encodeURIComponent(id)}`);
}

/** An order's whole story out of the journal: what was believed when, who stopped trading, what was done meanwhile. */
export function fetchStory(id: string): Promise<ExplanationView> {
  return request<ExplanationView>("GET", `/api/explain/${encodeURIComponent(id)}`, undefined, HISTORY_TIMEOUT_MS);
}

/** Every drift and every gap that the journal knows, oldest first. */
export function fetchDivergences(): Promise<DivergencesView> {
  return request<DivergencesView>("GET", "/api/divergences", undefined, HISTORY_TIMEOUT_MS);
}

/** Has belief compared with a whole snapshot of the broker now. */
export function reconcileNow(): Promise<unknown> {
  return request("POST", "/api/reconcile");
}

/** Engages the kill switch; safe to repeat. */
export function kill(reason: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
  return request("POST", "/api/kill", { reason }, timeoutMs);
}

/** Takes the kill back. */
export function resume(reason: string): Promise<unknown> {
  return request("POST", "/api/resume", { reason });
}

async function request<T>(method: string, path: string, body?: object, timeoutMs = TIMEOUT_MS): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      signal: AbortSignal.timeout(timeoutMs),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
  } catch {
    throw new ApiError(
      method === "GET"
        ? "The server cannot be reached."
        : "The server cannot be reached: whether it took this is not known. The orders table tells once connected.",
    );
  }
  const answer = await readJson(response);
  if (response.ok) return answer as T;
  throw toError(answer, response.status);
}

async function readJson(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

function toError(answer: unknown, status: number): ApiError {
  const error = (answer as { error?: { field?: string | null; message?: string; code?: string } } | null)?.error;
  return new ApiError(error?.message ?? `The server answered ${status} without a reason.`, {
    field: error?.field ?? null,
    code: error?.code ?? "",
    status,
  });
}
