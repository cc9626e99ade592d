import { screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { GIVE_UP_WORD_MS, RECONNECT_MS } from "./lib/socket";
import { FLUSH_MS } from "./state/store";
import { ago, fill, gap, health, order, orderStatus, portfolio, position } from "./testing/facts";
import { leave, openPage, pass, stopTime } from "./testing/render";

beforeEach(stopTime);
afterEach(leave);

describe("the header", () => {
  test.each([
    ["alpaca paper", "PAPER"],
    ["simulated alpaca", "SIMULATED"],
    ["alpaca", "REAL MONEY"],
    ["", "ACCOUNT ?"],
  ])("an account at %j is marked %s", async (broker, badge) => {
    await openPage({ health: health({ broker }) });
    expect(screen.getByTestId("account")).toHaveTextContent(badge);
  });

  test("connection: live, reconnecting, disconnected, live again", async () => {
    const server = await openPage();
    const connection = screen.getByTestId("connection");
    expect(connection).toHaveTextContent("Live");
    server.accepts = false;
    server.line.cut();
    await pass(FLUSH_MS);
    expect(connection).toHaveTextContent("Reconnecting…");
    await pass(GIVE_UP_WORD_MS);
    expect(connection).toHaveTextContent("Disconnected");
    expect(screen.getByText("Not connected to trueup")).toBeVisible();
    server.accepts = true;
    screen.getByRole("button", { name: "Retry now" }).click();
    await pass(RECONNECT_MS * 4);
    expect(connection).toHaveTextContent("Live");
    expect(screen.queryByText("Not connected to trueup")).toBeNull();
  });

  test("the trading state is the one in force", async () => {
    const server = await openPage();
    expect(screen.getByTestId("trading-state")).toHaveTextContent("Active");
    server.publish("system:health", health({ at: ago(-1), trading_state: "REDUCE_ONLY", entries_gated: true }));
    await pass(FLUSH_MS);
    expect(screen.getByTestId("trading-state")).toHaveTextContent("Reduce only");
  });
});

test("a gap from its opening to its healing, as a person sees it", async () => {
  const server = await openPage({
    orders: [order()],
    portfolio: portfolio({ positions: [position({ symbol: "MSFT", quantity: 40 })] }),
  });
  server.publish("system:feed:disconnected", { timestamp: ago(-1), reason: "closed", feed: "broker_events" });
  server.publish("truth:gap", gap({ opened_at: ago(-1) }));
  await pass(FLUSH_MS);
  expect(screen.getByTestId("gap-banner")).toBeVisible();
  expect(screen.getByTestId("broker-events-status")).toHaveTextContent("Down");
  expect(screen.getByTestId("ticket-submit")).toHaveAttribute("aria-disabled", "true");

  await pass(20_000);
  expect(screen.getByTestId("truth-lag")).toHaveTextContent("20 s");

  server.publish("trade:executed", fill({ source: "reconcile", missed_by_stream: true, late_s: 14, quantity: 60 }));
  const done = order({ detail: "FILLED", status: "FILLED", filled_quantity: 100, terminal: true, source: "reconcile" });
  server.publish("order:status", orderStatus(done));
  const closed = gap({ opened_at: ago(-1), closed_at: ago(-20), missed: 1, learned_by: { reconcile: 1 } });
  server.publish("truth:gap", closed);
  server.publish("system:health", health({ at: ago(-20) }));
  await pass(FLUSH_MS);
  expect(screen.queryByTestId("gap-banner")).toBeNull();
  expect(screen.getByTestId("heal-summary")).toHaveTextContent("1 fill missed, learned by reconcile 1");
  expect(screen.getByTestId("order-row")).toHaveAttribute("data-filled", "100");
  expect(screen.getByTestId("fill-row")).toHaveAttribute("data-missed", "true");
  expect(screen.getByTestId("broker-events-status")).toHaveTextContent("Up");
  expect(screen.getByTestId("ticket-submit")).toHaveAttribute("aria-disabled", "false");
});

test("a message that cannot be read is told, and the rest of the page goes on", async () => {
  const server = await openPage();
  server.line.say({ channel: "order:status", data: {}, epoch: "epoch-1", offset: 1, at: ago(0) });
  server.publish("order:status", orderStatus(order()));
  await pass(FLUSH_MS);
  expect(screen.getByText(/order:status lacks id, symbol, status, filled_quantity/)).toBeVisible();
  expect(screen.getByTestId("order-row")).toBeVisible();
});
