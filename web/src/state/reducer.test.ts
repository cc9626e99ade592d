import { describe, expect, test } from "vitest";
import type { Channel, ChannelMap } from "../api/types";
import { ago, alert, drift, fill, gap, health, NOW, order, orderStatus, portfolio, snapshot } from "../testing/facts";
import { type Action, EMPTY, KEPT, reduce, type State } from "./reducer";
import type { Envelope } from "./wire";

const now = Date.parse(NOW);

function message<C extends Channel>(channel: C, data: ChannelMap[C], offset = 1, epoch = "epoch-1"): Action {
  return { type: "envelope", now, envelope: { channel, data, epoch, offset, at: NOW } as Envelope };
}

function opening(part: Partial<ChannelMap["system:snapshot"]> = {}, cursors: Record<string, number> = {}): Action {
  const data = snapshot(part);
  return {
    type: "envelope",
    now,
    envelope: { channel: "system:snapshot", data, epoch: "epoch-1", offset: 0, at: NOW, cursors },
  };
}

function play(...actions: Action[]): State {
  return actions.reduce(reduce, EMPTY);
}

describe("a snapshot", () => {
  test("replaces everything that was held before", () => {
    const state = play(
      opening({ orders: [order({ id: "old" })], executions: [fill({ id: "old" })], drifts: [drift()] }),
      opening({ orders: [order({ id: "new" })] }),
    );
    expect([...state.orders.keys()]).toEqual(["new"]);
    expect(state.executions).toEqual([]);
    expect(state.drifts).toEqual([]);
    expect(state.phase).toBe("live");
  });

  test("is waited for after a socket has opened: nothing else fits onto what is held", () => {
    const state = play(opening(), { type: "opened" }, message("order:status", orderStatus(order())));
    expect(state.orders.size).toBe(0);
    expect(state.synced).toBe(false);
  });

  test("brings alerts into the list without letting them pop up", () => {
    const state = play(opening({ alerts: [alert(), alert()] }));
    expect(state.alerts.map(({ count, onToast }) => ({ count, onToast }))).toEqual([{ count: 2, onToast: false }]);
  });

  test("keeps only breakers that are on", () => {
    const breaker = { breaker: "stale_data", reason: "", timestamp: NOW, demand: "" };
    const state = play(
      opening({
        breakers: [
          { ...breaker, action: "activated" },
          { ...breaker, breaker: "vix_spike", action: "deactivated" },
        ],
      }),
    );
    expect(state.breakers.map((each) => each.breaker)).toEqual(["stale_data"]);
  });
});

describe("what each channel changes", () => {
  test.each<[string, Action[], (state: State) => unknown, unknown]>([
    [
      "portfolio:update replaces the portfolio",
      [message("portfolio:update", portfolio({ cash: 5 }))],
      (state) => state.portfolio?.cash,
      5,
    ],
    [
      "trade:executed puts the fill on top",
      [message("trade:executed", fill({ id: "a" }), 1), message("trade:executed", fill({ id: "b" }), 2)],
      (state) => state.executions.map((each) => each.id),
      ["b", "a"],
    ],
    [
      "a fill that was learned late stands at the time of its match",
      [
        message("trade:executed", fill({ id: "new", entry_time: ago(1) }), 1),
        message("trade:executed", fill({ id: "late", entry_time: ago(90) }), 2),
        message("trade:executed", fill({ id: "mid", entry_time: ago(30) }), 3),
      ],
      (state) => state.executions.map((each) => each.id),
      ["new", "mid", "late"],
    ],
    [
      "a fill that names inferred shares takes their place, by as many as it has",
      [
        message("trade:executed", fill({ id: "i", quantity: 60, inferred: true }), 1),
        message("trade:executed", fill({ id: "j", quantity: 5, inferred: true, broker_order_id: "b-2" }), 2),
        message("trade:executed", fill({ id: "x", quantity: 45.5, replaces_inferred: true }), 3),
      ],
      (state) => state.executions.map((each) => [each.id, each.quantity]),
      [
        ["x", 45.5],
        ["j", 5],
        ["i", 14.5],
      ],
    ],
    [
      "inferred shares that are all named are gone",
      [
        message("trade:executed", fill({ id: "i", quantity: 60, inferred: true }), 1),
        message("trade:executed", fill({ id: "x", quantity: 45, replaces_inferred: true }), 2),
        message("trade:executed", fill({ id: "y", quantity: 15, replaces_inferred: true }), 3),
      ],
      (state) => state.executions.map((each) => each.id),
      ["y", "x"],
    ],
    [
      "a breaker that demands something is over once trading is active",
      [
        message(
          "risk:circuit_breaker",
          { breaker: "a", action: "activated", reason: "", timestamp: ago(5), demand: "HALTED" },
          1,
        ),
        message(
          "risk:circuit_breaker",
          { breaker: "b", action: "activated", reason: "", timestamp: ago(5), demand: "" },
          2,
        ),
        message("system:health", health({ trading_state: "ACTIVE" }), 1),
      ],
      (state) => state.breakers.map((each) => each.breaker),
      ["b"],
    ],
    [
      "a fill told twice under one id is one fill",
      [message("trade:executed", fill(), 1), message("trade:executed", fill({ entry_price: 1 }), 2)],
      (state) => state.executions.map((each) => each.entry_price),
      [1],
    ],
    [
      "order:status brings the row",
      [message("order:status", orderStatus(order({ detail: "FILLED" })))],
      (state) => state.orders.get("o-1")?.detail,
      "FILLED",
    ],
    [
      "order:status without a row changes the row that is known",
      [
        message("order:status", orderStatus(order()), 1),
        message("order:status", { ...orderStatus(order()), order: null, filled_quantity: 5, status: "FILLED" }, 2),
      ],
      (state) => [state.orders.get("o-1")?.filled_quantity, state.orders.get("o-1")?.limit_price],
      [5, 415.2],
    ],
    [
      "a known order keeps its place, a new one goes on top",
      [
        message("order:status", orderStatus(order({ id: "a" })), 1),
        message("order:status", orderStatus(order({ id: "b" })), 2),
        message("order:status", orderStatus(order({ id: "a", filled_quantity: 9 })), 3),
      ],
      (state) => [...state.orders.values()].map((each) => [each.id, each.filled_quantity]),
      [
        ["b", 0],
        ["a", 9],
      ],
    ],
    [
      "risk:alert repeated is one entry with a count",
      [message("risk:alert", alert(), 1), message("risk:alert", alert({ current_value: 7 }), 2)],
      (state) => state.alerts.map(({ count, view, onToast }) => [count, view.current_value, onToast]),
      [[2, 7, true]],
    ],
    [
      "an alert for information does not pop up",
      [message("risk:alert", alert({ severity: "info" }))],
      (state) => state.alerts.map((each) => each.onToast),
      [false],
    ],
    [
      "risk:circuit_breaker goes on and off",
      [
        message(
          "risk:circuit_breaker",
          { breaker: "a", action: "activated", reason: "", timestamp: NOW, demand: "" },
          1,
        ),
        message(
          "risk:circuit_breaker",
          { breaker: "b", action: "activated", reason: "", timestamp: NOW, demand: "" },
          2,
        ),
        message(
          "risk:circuit_breaker",
          { breaker: "a", action: "deactivated", reason: "", timestamp: NOW, demand: "" },
          3,
        ),
      ],
      (state) => state.breakers.map((each) => each.breaker),
      ["b"],
    ],
    [
      "truth:gap closes under its id",
      [
        message("truth:gap", gap(), 1),
        message("truth:gap", gap({ closed_at: NOW, missed: 2, learned_by: { reconcile: 2 } }), 2),
      ],
      (state) => state.gaps.map((each) => [each.id, each.missed, each.closed_at]),
      [["g-1", 2, NOW]],
    ],
    [
      "truth:drift goes on to its next state under its id",
      [message("truth:drift", drift({ state: "suspected" }), 1), message("truth:drift", drift({ state: "healed" }), 2)],
      (state) => state.drifts.map((each) => each.state),
      ["healed"],
    ],
    [
      "system:health adds to the truth lag's past",
      [message("system:health", health({ at: ago(-1), truth_lag_s: 1.4 }))],
      (state) => state.lagHistory.map((sample) => sample.lag),
      [0.4, 1.4],
    ],
    [
      "market:quotes keeps quotes that are not mentioned",
      [
        message("market:quotes", { quotes: [{ symbol: "A", bid: 1, ask: 2, at: NOW }] }, 1),
        message("market:quotes", { quotes: [{ symbol: "B", bid: 3, ask: 4, at: NOW }] }, 2),
      ],
      (state) => [...state.quotes.keys()],
      ["A", "B"],
    ],
    [
      "system:feed:disconnected without a feed is about market data",
      [message("system:feed:disconnected", { timestamp: NOW, reason: "closed", feed: "" })],
      (state) => state.feedWords.market_data?.up,
      false,
    ],
    [
      "risk:kill_switch is kept as said",
      [
        message("risk:kill_switch", {
          action: "activate",
          reason: "r",
          operator: "human",
          timestamp: NOW,
          state: "KILLED",
          open_orders_remaining: 1,
          asked_by: "oleg",
        }),
      ],
      (state) => state.killSwitch?.action,
      "activate",
    ],
  ])("%s", (_, actions, look, expected) => {
    expect(look(play(opening(), ...actions))).toEqual(expected);
  });
});

describe("offsets", () => {
  const first = message("order:status", orderStatus(order({ filled_quantity: 1 })), 8);

  test("what the snapshot contains already is not applied again", () => {
    const state = play(opening({ orders: [order({ filled_quantity: 7 })] }, { "order:status": 8 }), first);
    expect(state.orders.get("o-1")?.filled_quantity).toBe(7);
    expect(state.counts.repeated).toBe(1);
    expect(state.awaiting).toBeNull();
  });

  test("the next offset is applied", () => {
    const state = play(opening({}, { "order:status": 7 }), first);
    expect(state.orders.size).toBe(1);
    expect(state.awaiting).toBeNull();
  });

  test("a hole is applied, counted, and makes a snapshot wanted", () => {
    const state = play(opening({}, { "order:status": 6 }), first);
    expect(state.orders.size).toBe(1);
    expect([state.awaiting, state.counts.holes]).toEqual(["hole", 1]);
  });

  test("a channel that the snapshot did not name stood at nought", () => {
    expect(play(opening(), message("truth:gap", gap(), 2)).awaiting).toBe("hole");
    expect(play(opening(), message("truth:gap", gap(), 1)).awaiting).toBeNull();
  });

  test("without cursors in the snapshot the first message sets the place", () => {
    const bare = opening();
    if (bare.type === "envelope") delete (bare.envelope as { cursors?: unknown }).cursors;
    expect(play(bare, first).awaiting).toBeNull();
    expect(play(bare, first, message("order:status", orderStatus(order()), 10)).awaiting).toBe("hole");
  });

  test("a state channel may leave offsets out", () => {
    const state = play(opening({}, { "portfolio:update": 1 }), message("portfolio:update", portfolio({ cash: 9 }), 40));
    expect([state.awaiting, state.portfolio?.cash]).toEqual([null, 9]);
  });

  test("an older state message does not overwrite a newer one", () => {
    const state = play(
      opening(),
      message("portfolio:update", portfolio({ cash: 2 }), 5),
      message("portfolio:update", portfolio({ cash: 1 }), 4),
    );
    expect(state.portfolio?.cash).toBe(2);
  });

  test("a new epoch changes nothing until its snapshot is there", () => {
    const changed = play(opening(), message("order:status", orderStatus(order()), 1, "epoch-2"));
    expect([changed.awaiting, changed.orders.size]).toEqual(["epoch", 0]);
    const still = reduce(changed, message("order:status", orderStatus(order()), 1, "epoch-1"));
    expect(still.orders.size).toBe(0);
    const healed = reduce(still, opening({ orders: [order()] }));
    expect([healed.awaiting, healed.orders.size]).toEqual([null, 1]);
  });
});

describe("bounds and repetition", () => {
  test("nothing grows without end, and a working order is not what is dropped", () => {
    let state = play(opening({ orders: [order({ id: "working" })] }));
    for (let n = 1; n <= KEPT.orders + 10; n += 1) {
      state = reduce(state, message("order:status", orderStatus(order({ id: `done-${n}`, terminal: true })), n));
    }
    expect(state.orders.size).toBe(KEPT.orders);
    expect(state.orders.has("working")).toBe(true);
    expect(state.orders.has("done-1")).toBe(false);
  });

  test("the same messages twice end in the same state", () => {
    const story = [
      message("order:status", orderStatus(order()), 1),
      message("trade:executed", fill(), 1),
      message("truth:gap", gap(), 1),
      message("truth:drift", drift(), 1),
      message("risk:alert", alert(), 1),
    ];
    const once = play(opening(), ...story);
    const twice = play(opening(), ...story, ...story);
    expect({ ...twice, counts: once.counts }).toEqual(once);
    expect(twice.counts.repeated).toBe(story.length);
  });

  test("an answer over HTTP does not overwrite what the socket has told since", () => {
    const told = order({ detail: "FILLED", updated_at: ago(1) });
    const answered = order({ detail: "PENDING_NEW", updated_at: ago(2) });
    const state = play(opening({ orders: [told] }), { type: "order", order: answered });
    expect(state.orders.get("o-1")?.detail).toBe("FILLED");
    expect(play(opening(), { type: "order", order: answered }).orders.get("o-1")?.detail).toBe("PENDING_NEW");
  });
});
