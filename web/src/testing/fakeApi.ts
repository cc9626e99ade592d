/**
 * A scripted HTTP server on the other end of `fetch`: it records requests and answers as told.
 *
 * Not for the socket (`fakeServer.ts`). Invariant: a request without a scripted answer is an error of the test.
 */
import { vi } from "vitest";

export interface Request {
  readonly method: string;
  readonly path: string;
  readonly body: Record<string, unknown> | null;
}

type Answer =
  | { readonly status: number; readonly body: unknown }
  | "unreachable"
  | Promise<{ status: number; body: unknown }>;

export class FakeApi {
  readonly requests: Request[] = [];
  readonly #answers = new Map<string, Answer[]>();

  constructor() {
    vi.stubGlobal("fetch", (path: string, init: { method: string; body?: string }) => this.#serve(path, init));
  }

  /** Answers requests such as `POST /api/kill` one after the other; the last answer is kept. */
  on(request: string, ...answers: Answer[]): void {
    this.#answers.set(request, answers);
  }

  /** The requests of one kind that came so far. */
  sent(request: string): readonly Request[] {
    return this.requests.filter((each) => `${each.method} ${each.path}` === request);
  }

  async #serve(path: string, init: { method: string; body?: string }): Promise<Response> {
    const body = init.body === undefined ? null : (JSON.parse(init.body) as Record<string, unknown>);
    this.requests.push({ method: init.method, path, body });
    const answers = this.#answers.get(`${init.method} ${path}`) ?? [];
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === undefined) throw new Error(`the test has no answer for ${init.method} ${path}`);
    if (answer === "unreachable") throw new TypeError("fetch failed");
    const { status, body: text } = await answer;
    return new Response(JSON.stringify(text), { status, headers: { "content-type": "application/json" } });
  }
}
