import { act, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FLUSH_MS, store } from "../../state/store";
import { fill, gap, health, NOW, order, orderStatus, portfolio, position } from "../../testing/facts";
import { FakeApi } from "../../testing/fakeApi";
import { asEnvelope, leave, pass, person, show, stopTime } from "../../testing/render";
import { FillsTable } from "./FillsTable";
import { OrdersTable } from "./OrdersTable";
import { OrderTicket } from "./OrderTicket";

beforeEach(stopTime);
afterEach(leave);

const rows = () => screen.getAllByTestId("order-row");

describe("the orders table", () => {
  const orders = [
    order({ id: "w", symbol: "TSLA", detail: "PENDING_NEW", status: "PENDING", in_doubt: "submit" }),
    order({ id: "p", detail: "PARTIALLY_FILLED", filled_quantity: 40, average_price: 415.19 }),
    order({ id: "c", symbol: "SPY", detail: "PENDING_CANCEL" }),
    order({ id: "f", detail: "FILLED", status: "FILLED", filled_quantity: 100, terminal: true, source: "reconcile" }),
    order({ id: "x", detail: "CANCELED", status: "CANCELLED", terminal: true, source: "poll" }),
  ];

  test("says exactly how each order stands and how that was learned", () => {
    show(<OrdersTable />, { orders });
    expect(rows().map((row) => [row.dataset.orderId, row.dataset.status, row.dataset.filled])).toEqual([
      ["w", "PENDING", "0"],
      ["p", "SUBMITTED", "40"],
      ["c", "SUBMITTED", "0"],
      ["f", "FILLED", "100"],
      ["x", "CANCELLED", "0"],
    ]);
    expect(rows()[0]).toHaveTextContent("in doubt: submit");
    expect(rows()[2]).toHaveTextContent("may still fill");
    expect(within(rows()[3] as HTMLElement).getByRole("img")).toHaveAccessibleName(/^reconcile:/);
    expect(within(rows()[4] as HTMLElement).getByRole("img")).toHaveAccessibleName(/^poll:/);
  });

  test("filters by what is working and what has filled", async () => {
    show(<OrdersTable />, { orders });
    const user = person();
    await user.click(screen.getByRole("radio", { name: /^Working/ }));
    expect(rows().map((row) => row.dataset.orderId)).toEqual(["w", "p", "c"]);
    await user.click(screen.getByRole("radio", { name: /^Filled/ }));
    expect(rows().map((row) => row.dataset.orderId)).toEqual(["p", "f"]);
  });

  test("cancels once, also while nothing else may be sent", async () => {
    const api = new FakeApi();
    let finish = () => {};
    const cancelling = order({ id: "p", detail: "PENDING_CANCEL", updated_at: NOW });
    api.on("DELETE /api/orders/p", new Promise((done) => (finish = () => done({ status: 202, body: cancelling }))));
    show(<OrdersTable />, { orders: [order({ id: "p" })], health: health({ trading_state: "KILLED" }) });
    await person().dblClick(screen.getByRole("button", { name: "Cancel BUY 100 MSFT" }));
    expect(api.sent("DELETE /api/orders/p")).toHaveLength(1);
    finish();
    await pass(FLUSH_MS);
    expect(rows()[0]).toHaveTextContent("Cancel pending");
    expect(screen.queryByRole("button", { name: /^Cancel/ })).toBeNull();
  });

  test("opens any order by its id, also one that is not in it", async () => {
    show(<OrdersTable />, { orders });
    await person().type(
      screen.getByRole("textbox", { name: "Open an order by any of its ids" }),
      " tu-long-ago{Enter}",
    );
    expect(window.location.hash).toBe("#order=tu-long-ago");
  });

  test("arrow keys go from row to row", async () => {
    show(<OrdersTable />, { orders });
    const user = person();
    const openers = screen.getAllByRole("button", { name: /^Open the story/ });
    act(() => openers[0]?.focus());
    await user.keyboard("{ArrowDown}j");
    expect(openers[2]).toHaveFocus();
    await user.keyboard("{ArrowUp}");
    expect(openers[1]).toHaveFocus();
  });
});

describe("the fills table", () => {
  test("says how each fill was learned, how late, and what the stream had missed", () => {
    show(<FillsTable />, {
      executions: [
        fill({ id: "a" }),
        fill({ id: "b", source: "reconcile", late_s: 38.2, missed_by_stream: true }),
        fill({ id: "c", source: "poll", inferred: true }),
      ],
    });
    const fills = screen.getAllByTestId("fill-row");
    expect(fills.map((row) => [row.dataset.source, row.dataset.missed])).toEqual([
      ["stream", "false"],
      ["reconcile", "true"],
      ["poll", "false"],
    ]);
    expect(fills[0]).toHaveTextContent("88 ms");
    expect(fills[1]).toHaveTextContent("missed by stream");
    expect(fills[1]).toHaveTextContent("38.2 s");
    expect(fills[2]).toHaveTextContent("inferred");
    expect(screen.getByText("1 missed by stream")).toBeVisible();
  });
});

describe("the order ticket", () => {
  async function fillIn(part: { symbol?: string; quantity?: string } = {}) {
    const user = person();
    await user.type(screen.getByLabelText("Symbol"), part.symbol ?? "msft");
    await user.type(screen.getByLabelText("Quantity"), part.quantity ?? "10");
    return user;
  }
  const send = () => screen.getByTestId("ticket-submit");
  async function press(user: ReturnType<typeof person>) {
    await user.click(send());
    await pass(0);
  }

  test("a double click sends one order", async () => {
    const api = new FakeApi();
    let finish = () => {};
    const placed = order({ id: "o-9", quantity: 10, detail: "PENDING_NEW" });
    api.on("POST /api/orders", new Promise((done) => (finish = () => done({ status: 201, body: placed }))));
    show(<OrderTicket />);
    const user = await fillIn();
    await user.dblClick(send());
    await user.keyboard("{Enter}");
    expect(api.sent("POST /api/orders")).toHaveLength(1);
    expect(send()).toHaveTextContent("Sending…");
    finish();
    await pass(FLUSH_MS);
    expect(api.sent("POST /api/orders")[0]?.body).toMatchObject({
      symbol: "MSFT",
      side: "BUY",
      quantity: "10",
      type: "MARKET",
      time_in_force: "DAY",
    });
    expect(screen.getByText(/Buy 10 MSFT: Unconfirmed/)).toBeVisible();
    expect(store.current().orders.has("o-9")).toBe(true);
  });

  test("what becomes of the order is told where it was sent", async () => {
    new FakeApi().on("POST /api/orders", { status: 201, body: order({ detail: "PENDING_NEW", status: "PENDING" }) });
    show(<OrderTicket />);
    await press(await fillIn());
    expect(screen.getByText(/MSFT: Unconfirmed/)).toBeVisible();
    const refused = order({ detail: "REJECTED", status: "REJECTED", reason: "no such asset", terminal: true });
    act(() =>
      store.dispatch({ type: "envelope", now: 0, envelope: asEnvelope("order:status", orderStatus(refused), 1) }),
    );
    await pass(FLUSH_MS);
    expect(screen.getByText(/MSFT: Rejected, no such asset/)).toHaveClass("fault");
  });

  test("each order has its own client order id; a repetition after an unknown outcome has the same", async () => {
    const api = new FakeApi();
    const placed = { status: 201, body: order({ id: "o-9" }) };
    api.on("POST /api/orders", "unreachable", placed, placed);
    show(<OrderTicket />);
    const user = await fillIn();
    await press(user);
    expect(screen.getByText(/whether it took this is not known/)).toBeVisible();
    await press(user);
    await press(user);
    const ids = api.sent("POST /api/orders").map((request) => request.body?.client_order_id);
    expect(ids[0]).toBe(ids[1]);
    expect(ids[2]).not.toBe(ids[1]);
  });

  test("the server's word about a field stands at that field", async () => {
    const api = new FakeApi();
    const error = { field: "symbol", message: "MSFTX is not a symbol that the broker knows.", code: "bad_input" };
    api.on("POST /api/orders", { status: 422, body: { error } });
    show(<OrderTicket />);
    const user = await fillIn({ symbol: "MSFTX" });
    await press(user);
    expect(screen.getByLabelText("Symbol")).toHaveAccessibleDescription(error.message);
    expect(screen.getByLabelText("Symbol")).toBeInvalid();
    expect(screen.getByLabelText("Quantity")).toBeValid();
  });

  test("a refusal that is about no field stands under the button", async () => {
    const api = new FakeApi();
    const error = { field: null, message: "Denied: the order is larger than the limit.", code: "denied" };
    api.on("POST /api/orders", { status: 422, body: { error } });
    show(<OrderTicket />);
    const user = await fillIn();
    await press(user);
    expect(screen.getByText(error.message)).toBeVisible();
  });

  test("what is missing is said before anything is sent", async () => {
    const api = new FakeApi();
    show(<OrderTicket />);
    const user = person();
    await press(user);
    expect(screen.getByLabelText("Symbol")).toHaveAccessibleDescription("Name a symbol, such as AAPL.");
    await user.type(screen.getByLabelText("Symbol"), "AAPL");
    await user.type(screen.getByLabelText("Quantity"), "-1");
    await press(user);
    expect(screen.getByLabelText("Quantity")).toHaveAccessibleDescription("Give a quantity above zero.");
    await user.clear(screen.getByLabelText("Quantity"));
    await user.type(screen.getByLabelText("Quantity"), "1");
    await user.selectOptions(screen.getByLabelText("Type"), "LIMIT");
    await press(user);
    expect(screen.getByLabelText("Limit price")).toHaveAccessibleDescription(/needs a limit price/);
    expect(api.requests).toHaveLength(0);
  });

  test("while a gap is open an entry is refused with the reason, a closing order is not", async () => {
    const api = new FakeApi();
    api.on("POST /api/orders", { status: 201, body: order({ id: "o-9" }) });
    show(<OrderTicket />, {
      gaps: [gap()],
      portfolio: portfolio({ positions: [position({ symbol: "MSFT", quantity: 40 })] }),
    });
    const user = await fillIn({ quantity: "40" });
    expect(send()).toHaveAttribute("aria-disabled", "true");
    await press(user);
    expect(api.requests).toHaveLength(0);
    expect(screen.getAllByText(/entries wait for a clean reconciliation/)[0]).toBeVisible();
    await user.click(screen.getByRole("radio", { name: /Sell/ }));
    expect(send()).toHaveAttribute("aria-disabled", "false");
    await press(user);
    expect(api.sent("POST /api/orders")).toHaveLength(1);
  });

  test("while killed nothing is sent, not even a closing order", async () => {
    const api = new FakeApi();
    show(<OrderTicket />, {
      health: health({ trading_state: "KILLED" }),
      portfolio: portfolio({ positions: [position({ symbol: "MSFT", quantity: 40 })] }),
    });
    const user = await fillIn({ quantity: "40" });
    await user.click(screen.getByRole("radio", { name: /Sell/ }));
    await press(user);
    expect(api.requests).toHaveLength(0);
    expect(screen.getByText("The kill switch is engaged.")).toBeVisible();
  });
});
