import { render, screen } from "@testing-library/react";
import { StrictMode } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { GIVE_UP_WORD_MS, PING_MS, RECONNECT_MS, SILENCE_MS } from "../lib/socket";
import { store } from "../state/store";
import { fill, order, orderStatus } from "../testing/facts";
import type { FakeServer } from "../testing/fakeServer";
import { fakeNetwork, leave, pass, stopTime } from "../testing/render";
import { RESYNC_MS, useWebSocket } from "./useWebSocket";

const seen: string[] = [];

function Watcher() {
  const { lastMessage, connected } = useWebSocket();
  if (lastMessage !== null) seen.push(lastMessage.channel);
  return <p>{connected ? "Live" : "Reconnecting..."}</p>;
}

let server: FakeServer;

beforeEach(() => {
  stopTime();
  server = fakeNetwork();
  seen.length = 0;
});

afterEach(leave);

async function open(): Promise<() => Promise<void>> {
  const { unmount } = render(<Watcher />);
  await pass(10);
  return async () => {
    unmount();
    await pass(0);
  };
}

const pings = () => server.line.heard.filter((message) => message.type === "ping").length;
const resyncs = () => server.line.heard.filter((message) => message.type === "resync").length;

describe("connecting", () => {
  test("happens on mount, to /ws of the page's own server", async () => {
    await open();
    expect(server.line.url).toBe(`ws://${location.host}/ws`);
    expect(screen.getByText("Live")).toBeVisible();
    expect(store.current().phase).toBe("live");
  });

  test("is undone on unmount: the socket closes and nothing runs on", async () => {
    const close = await open();
    const line = server.line;
    await close();
    expect(line.readyState).toBe(WebSocket.CLOSED);
    await pass(PING_MS * 3);
    expect(server.lines).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("is done once for two users, and for a mount that React repeats", async () => {
    render(
      <StrictMode>
        <Watcher />
        <Watcher />
      </StrictMode>,
    );
    await pass(10);
    expect(server.lines).toHaveLength(1);
    expect(server.line.readyState).toBe(WebSocket.OPEN);
  });
});

describe("messages", () => {
  test("ten in one task all reach the store", async () => {
    await open();
    for (let n = 1; n <= 10; n += 1) server.publish("trade:executed", fill({ id: `f-${n}` }));
    expect(store.current().executions).toHaveLength(10);
    expect(store.current().awaiting).toBeNull();
  });

  test("the last one is lastMessage, and a pong never is", async () => {
    await open();
    server.publish("order:status", orderStatus(order()));
    await pass(PING_MS);
    expect(server.line.heard).toContainEqual({ type: "ping" });
    expect(seen.at(-1)).toBe("order:status");
    expect(new Set(seen)).toEqual(new Set(["system:snapshot", "order:status"]));
  });

  test("what cannot be read is counted and harms nothing", async () => {
    await open();
    server.line.say("{");
    server.line.say({ channel: "moon:phase", data: {}, epoch: "epoch-1", offset: 1 });
    server.publish("order:status", orderStatus(order()));
    expect(store.current().counts).toMatchObject({ malformed: 1, unknown: 1 });
    expect(store.current().orders.size).toBe(1);
  });
});

describe("keepalive", () => {
  test("a ping goes out each 30 seconds and not before", async () => {
    await open();
    await pass(PING_MS - 11);
    expect(pings()).toBe(0);
    await pass(1);
    expect(pings()).toBe(1);
    await pass(PING_MS);
    expect(pings()).toBe(2);
  });

  test("a connection that answers no ping is taken for dead and opened anew", async () => {
    await open();
    server.isSilent = true;
    await pass(PING_MS + SILENCE_MS);
    expect(screen.getByText("Reconnecting...")).toBeVisible();
    server.isSilent = false;
    await pass(RECONNECT_MS);
    expect(server.lines).toHaveLength(2);
    expect(screen.getByText("Live")).toBeVisible();
  });

  test("any message is a sign of life, not only a pong", async () => {
    await open();
    server.isSilent = true;
    await pass(PING_MS);
    server.publish("order:status", orderStatus(order()));
    await pass(SILENCE_MS);
    expect(screen.getByText("Live")).toBeVisible();
  });

  test("a hidden page does not judge: its timers are late by themselves", async () => {
    await open();
    vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    server.isSilent = true;
    await pass(PING_MS + SILENCE_MS);
    expect(server.lines).toHaveLength(1);
    expect(screen.getByText("Live")).toBeVisible();
  });

  test("a page that is looked at again asks at once", async () => {
    await open();
    document.dispatchEvent(new Event("visibilitychange"));
    expect(pings()).toBe(1);
  });
});

describe("reconnecting", () => {
  test("happens 3 seconds after a close, once", async () => {
    await open();
    server.line.cut();
    await pass(RECONNECT_MS - 1);
    expect(server.lines).toHaveLength(1);
    await pass(1);
    expect(server.lines).toHaveLength(2);
    expect(screen.getByText("Live")).toBeVisible();
    await pass(PING_MS - 100);
    expect(server.lines).toHaveLength(2);
  });

  test("goes on each 3 seconds, and is called disconnected when it has failed for long", async () => {
    await open();
    server.accepts = false;
    server.line.cut();
    await pass(1);
    expect(store.current().phase).toBe("reconnecting");
    for (let n = 0; n < 5; n += 1) {
      await pass(RECONNECT_MS);
      server.line.cut();
    }
    expect(server.lines).toHaveLength(6);
    await pass(GIVE_UP_WORD_MS - 5 * RECONNECT_MS);
    expect(store.current().phase).toBe("disconnected");
    server.accepts = true;
    await pass(RECONNECT_MS);
    expect(store.current().phase).toBe("live");
  });

  test("does not wait when the net is back", async () => {
    await open();
    server.line.cut();
    await pass(10);
    window.dispatchEvent(new Event("online"));
    await pass(10);
    expect(server.lines).toHaveLength(2);
  });

  test("what happened meanwhile comes with the new snapshot", async () => {
    await open();
    server.line.cut();
    server.lose("trade:executed", fill());
    server.facts = { executions: [fill()] };
    await pass(RECONNECT_MS + 10);
    expect(store.current().executions).toHaveLength(1);
    server.publish("trade:executed", fill({ id: "f-2" }));
    expect(store.current().awaiting).toBeNull();
    expect(store.current().executions).toHaveLength(2);
  });
});

describe("resync", () => {
  test("a hole is made good by a snapshot, asked for once", async () => {
    await open();
    server.lose("trade:executed", fill({ id: "lost" }));
    server.facts = { executions: [fill({ id: "lost" }), fill({ id: "told" })] };
    server.publish("trade:executed", fill({ id: "told" }));
    await pass(0);
    expect(resyncs()).toBe(1);
    expect(store.current().executions.map((each) => each.id)).toEqual(["lost", "told"]);
    expect(store.current().awaiting).toBeNull();
  });

  test("a request without an answer is repeated, not multiplied", async () => {
    await open();
    server.isSilent = true;
    server.lose("trade:executed", fill({ id: "lost" }));
    for (let n = 0; n < 5; n += 1) server.publish("trade:executed", fill({ id: `f-${n}` }));
    expect(resyncs()).toBe(1);
    await pass(RESYNC_MS);
    expect(resyncs()).toBe(2);
    server.isSilent = false;
    await pass(RESYNC_MS);
    expect(resyncs()).toBe(3);
    await pass(RESYNC_MS * 3);
    expect(resyncs()).toBe(3);
  });

  test("a new epoch asks for a snapshot too", async () => {
    await open();
    server.epoch = "epoch-2";
    server.facts = { orders: [order()] };
    server.publish("order:status", orderStatus(order()));
    await pass(0);
    expect(resyncs()).toBe(1);
    expect(store.current().epoch).toBe("epoch-2");
    expect(store.current().orders.size).toBe(1);
  });
});

describe("coming back", () => {
  test("resumes where it was: what was missed arrives, once, and no snapshot is needed", async () => {
    await open();
    server.publish("trade:executed", fill({ id: "f-1" }));
    server.line.cut();
    await pass(10);
    server.lose("trade:executed", fill({ id: "f-2" }));
    await pass(RECONNECT_MS);
    expect(server.line.url.endsWith("/ws?resume")).toBe(true);
    expect(server.line.heard).toContainEqual({
      type: "resume",
      cursors: { "trade:executed": { epoch: "epoch-1", offset: 1 } },
    });
    expect(store.current().executions.map((each) => each.id)).toEqual(["f-2", "f-1"]);
    expect(store.current()).toMatchObject({ phase: "live", synced: true, awaiting: null });
    expect(store.current().counts.repeated).toBe(0);
    server.publish("trade:executed", fill({ id: "f-3" }));
    expect(store.current().executions).toHaveLength(3);
  });

  test("takes a snapshot when the server has begun anew", async () => {
    await open();
    server.publish("trade:executed", fill({ id: "f-1" }));
    server.line.cut();
    server.epoch = "epoch-2";
    await pass(RECONNECT_MS);
    expect(store.current()).toMatchObject({ phase: "live", epoch: "epoch-2" });
    expect(store.current().executions).toEqual([]);
  });

  test("waits as long as a restarting server asks", async () => {
    await open();
    server.line.cut("the gateway restarts; retry_after_ms=700");
    await pass(690);
    expect(server.lines).toHaveLength(1);
    await pass(20);
    expect(server.lines).toHaveLength(2);
  });
});

describe("what somebody else published", () => {
  test("is shown at once over what is known, and is lastMessage", async () => {
    await open();
    const before = store.current().portfolio;
    const data = { total_equity: 26000, cash: 6000, positions_value: 20000 };
    server.line.say({ channel: "portfolio:update", data });
    expect(store.current().portfolio).toMatchObject({ ...before, ...data });
    const signal = { symbol: "AAPL", direction: "BUY", strength: 0.8, strategy_name: "test" };
    server.line.say({ channel: "signal:generated", data: signal });
    expect(store.current().signals[0]).toMatchObject(signal);
    await pass(200);
    expect(seen.at(-1)).toBe("signal:generated");
    expect(store.current().counts.malformed).toBe(0);
  });

  test("harms nobody when it makes no sense", async () => {
    await open();
    server.line.say({ channel: "portfolio:update", data: { raw: "not json" } });
    server.line.say({ channel: "risk:alert", data: {} });
    expect(store.current().counts.malformed).toBe(2);
    expect(store.current().alerts).toEqual([]);
  });
});
