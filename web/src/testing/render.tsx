/**
 * Renders the page, or a part of it, over a fake server or over plain facts.
 *
 * Not for what tests expect. Invariant: the time on screen is `NOW` until a test lets it pass.
 */
import { act, cleanup, type RenderResult, render } from "@testing-library/react";
import userEvent, { type UserEvent } from "@testing-library/user-event";
import type { ReactElement } from "react";
import { vi } from "vitest";
import { App } from "../App";
import type { ChannelMap } from "../api/types";
import { FLUSH_MS, store } from "../state/store";
import type { Envelope } from "../state/wire";
import { NOW, snapshot } from "./facts";
import { FakeServer, Line } from "./fakeServer";

/** Stops the clock at `NOW`; timers run when a test advances them. */
export function stopTime(): void {
  vi.useFakeTimers({
    now: Date.parse(NOW),
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "performance"],
  });
  // The testing library waits one turn of the clock after each press, and looks for the clock under this name.
  vi.stubGlobal("jest", { advanceTimersByTime: (ms: number) => vi.advanceTimersByTime(ms) });
}

/** Takes the page away, with everything it waited for, and lets the clock run again. */
export async function leave(): Promise<void> {
  cleanup();
  await vi.advanceTimersByTimeAsync(FLUSH_MS);
  vi.useRealTimers();
}

/** Lets time pass, and everything that waits for it happen. */
export async function pass(ms: number): Promise<void> {
  await act(async () => {
    await vi.advanceTimersByTimeAsync(ms);
  });
}

/** Puts a fake server in the place of the network. */
export function fakeNetwork(): FakeServer {
  vi.stubGlobal("WebSocket", Line);
  return new FakeServer();
}

/** A person whose keys and clicks take no time of their own. */
export function person(): UserEvent {
  return userEvent.setup({ delay: null });
}

/** The whole page, connected to a server that knows these facts. */
export async function openPage(facts: Partial<ChannelMap["system:snapshot"]> = {}): Promise<FakeServer> {
  const server = fakeNetwork();
  server.facts = facts;
  render(<App />);
  await pass(FLUSH_MS * 2);
  return server;
}

/** A part of the page over a state made of these facts, without a socket. */
export function show(part: ReactElement, facts: Partial<ChannelMap["system:snapshot"]> = {}): RenderResult {
  store.dispatch({ type: "envelope", now: Date.parse(NOW), envelope: asEnvelope("system:snapshot", snapshot(facts)) });
  return render(part);
}

/** A message as the server would have sent it. */
export function asEnvelope<C extends keyof ChannelMap>(channel: C, data: ChannelMap[C], offset = 0): Envelope {
  return { channel, data, epoch: "epoch-1", offset, at: NOW, cursors: {} } as Envelope;
}
