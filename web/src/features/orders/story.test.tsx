import { act, fireEvent, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ExplanationView, OrderDetailView } from "../../api/types";
import { FLUSH_MS, store } from "../../state/store";
import { openOrder } from "../../state/ui";
import { ago, believed, explanation, fill, gap, NOW, order, orderStatus, timelineEntry } from "../../testing/facts";
import { FakeApi } from "../../testing/fakeApi";
import { asEnvelope, leave, pass, person, show, stopTime } from "../../testing/render";
import { OrderDrawer } from "./OrderDrawer";
import { believedAt, fullDetail, rangeOf, stopsOf, storyLines } from "./story";
import { FIRST_MS, REST_MS } from "./useStory";

beforeEach(stopTime);
afterEach(leave);

const row = order({ detail: "FILLED", status: "FILLED", filled_quantity: 100, terminal: true, updated_at: ago(2) });

/** 40 filled by stream; 60 filled in a gap, inferred first and then named by the real execution, 38 s late. */
const detail: OrderDetailView = {
  order: row,
  timeline: [
    timelineEntry(),
    timelineEntry({
      offset: 2,
      event: "STATUS",
      told: "broker's answer to our request",
      text: "the broker's answer to our submit",
      source: "reply",
      broker_at: ago(55),
      arrived_at: ago(54.9),
      status_after: "NEW",
    }),
    timelineEntry({
      offset: 4,
      event: "NEW",
      told: "broker works the order",
      source: "stream",
      broker_at: ago(55),
      arrived_at: ago(54.8),
      status_after: "NEW",
      changed: false,
    }),
    timelineEntry({
      offset: 5,
      event: "TRADE",
      told: "fill",
      source: "stream",
      broker_at: ago(50),
      arrived_at: ago(49.9),
      status_after: "PARTIALLY_FILLED",
      filled_after: 40,
      fills: [
        {
          kind: "fill",
          quantity: 40,
          price: 415.19,
          execution_id: "x-1",
          replaced: 0,
          inferred: false,
          replaces_inferred: false,
        },
      ],
    }),
    timelineEntry({
      offset: 9,
      event: "STATUS",
      told: "fill inferred from the broker's total, found in the broker's snapshot",
      source: "reconcile",
      broker_at: ago(40),
      arrived_at: ago(3),
      status_after: "FILLED",
      filled_after: 100,
      fills: [
        {
          kind: "fill",
          quantity: 60,
          price: 415.2,
          execution_id: "",
          replaced: 60,
          inferred: true,
          replaces_inferred: false,
        },
      ],
    }),
    timelineEntry({
      offset: 9,
      event: "TRADE",
      told: "fill",
      source: "reconcile",
      broker_at: ago(40),
      arrived_at: ago(2),
      status_after: "FILLED",
      filled_after: 100,
      fills: [
        {
          kind: "fill",
          quantity: 60,
          price: 415.2,
          execution_id: "x-2",
          replaced: 0,
          inferred: false,
          replaces_inferred: true,
        },
      ],
    }),
  ],
  executions: [
    fill({ entry_time: ago(50) }),
    fill({
      id: "f-2",
      source: "reconcile",
      missed_by_stream: true,
      quantity: 60,
      entry_time: ago(40),
      late_s: 38,
    }),
  ],
  gaps: [gap({ opened_at: ago(45), closed_at: ago(1.5), missed: 1 })],
};

const story: ExplanationView = explanation({
  detail,
  deeds: [{ offset: 1, at: ago(60), what: "sent the order as tu-1", times: 1 }],
  meanwhile: [{ offset: 7, at: ago(44), what: "stream of broker events lost: closed", times: 3 }],
  bands: [
    { kind: "kill", name: "kill", demand: "KILLED", reason: "enough", opened_at: ago(20), closed_at: ago(10) },
    {
      kind: "breaker",
      name: "stale_data",
      demand: "REDUCE_ONLY",
      reason: "no events",
      opened_at: ago(45),
      closed_at: null,
    },
  ],
  beliefs: [
    believed(),
    believed({ at: ago(54.9), offset: 2, detail: "NEW", source: "reply" }),
    believed({
      at: ago(49.9),
      offset: 5,
      detail: "PARTIALLY_FILLED",
      filled_quantity: 40,
      position: 40,
      source: "stream",
    }),
    believed({
      at: ago(45),
      offset: 6,
      detail: "PARTIALLY_FILLED",
      filled_quantity: 40,
      position: 40,
      source: "stream",
      trading_state: "REDUCE_ONLY",
      broker_events: "DOWN",
      gap: "g-1",
      proved_at: ago(46),
    }),
    believed({ at: ago(3), offset: 9, detail: "FILLED", filled_quantity: 100, position: 100, source: "reconcile" }),
  ],
});

const at = (seconds: number) => Date.parse(ago(seconds));

describe("a story as lines", () => {
  test("stands in the broker's order, with gaps, stops and deeds between the rows that they separate", () => {
    const kinds = storyLines(detail, story).map((line) => {
      if (line.kind === "entry") return line.entry.offset;
      return line.kind === "deed" ? line.deed.what.slice(0, 6) : line.kind;
    });
    expect(kinds).toEqual([1, "sent t", 2, 4, 5, "gap", "stream", 9, 9, "band"]);
  });

  test("each fact knows what was believed before it, in the order of arrival", () => {
    const before = storyLines(detail).flatMap((line) => (line.kind === "entry" ? [line.before?.filled_after] : []));
    expect(before).toEqual([undefined, 0, 0, 0, 40, 100]);
  });

  test("lines that belief has cut are taken from the journal, and newer ones kept", () => {
    const newest = timelineEntry({ offset: 30, event: "CANCELED" });
    const cut = { ...detail, timeline: [detail.timeline[0] ?? newest, newest] };
    expect(fullDetail(cut, story).timeline.map((entry) => entry.offset)).toEqual([1, 2, 4, 5, 9, 9, 30]);
    expect(fullDetail(detail, null)).toBe(detail);
  });
});

describe("a moment", () => {
  test.each([
    ["before it was known", 60.5, undefined, 0, 0],
    ["sent, not answered", 55, "PENDING_NEW", 0, 0],
    ["between fill and knowledge", 49.95, "NEW", 0, 40],
    ["inside the gap", 30, "PARTIALLY_FILLED", 40, 100],
    ["at the instant of arrival", 3, "FILLED", 100, 100],
  ])("%s", (_, seconds, status, filled, brokers) => {
    const moment = believedAt(story, at(seconds));
    expect(moment.belief?.detail).toBe(status);
    expect(moment.belief?.filled_quantity ?? 0).toBe(filled);
    expect(moment.brokerFilled).toBe(brokers);
  });

  test("names what the broker had and we learned later, the open gap, and who stopped trading", () => {
    const inside = believedAt(story, at(15));
    expect(inside.ahead.map((entry) => [entry.offset, entry.event])).toEqual([
      [9, "STATUS"],
      [9, "TRADE"],
    ]);
    expect(inside.gap?.id).toBe("g-1");
    expect(inside.bands.map((band) => band.name)).toEqual(["kill"]);
    expect(believedAt(story, at(10)).bands).toEqual([]);
  });

  test("a finished order's story ends with its last line, an open one's where the journal does", () => {
    const range = rangeOf(story);
    expect([range.from < at(60), range.to]).toEqual([true, at(2)]);
    const open = { ...story, detail: { ...detail, order: order() } };
    expect(rangeOf(open).to).toBe(Date.parse(NOW));
    expect(rangeOf({ ...open, beliefs_end_at: ago(30) }).to).toBe(at(30) - 1);
    expect(stopsOf(story, range)).toContain(at(40));
  });
});

describe("the drawer", () => {
  async function open(answers: { story?: unknown; status?: number } = {}): Promise<FakeApi> {
    const api = new FakeApi();
    api.on("GET /api/orders/o-1", { status: 200, body: detail });
    api.on("GET /api/explain/o-1", { status: answers.status ?? 200, body: answers.story ?? story });
    show(<OrderDrawer />, { orders: [row] });
    act(() => openOrder("o-1"));
    await pass(FLUSH_MS);
    await pass(FIRST_MS);
    return api;
  }
  const drawer = () => within(screen.getByRole("dialog", { name: /Buy 100 MSFT/ }));
  const scrub = () => screen.getByRole("slider", { name: "Believed at" });
  const choose = (seconds: number) => fireEvent.change(scrub(), { target: { value: String(at(seconds)) } });

  test("tells of each fact both times, the delay, the way it came, and what it changed", async () => {
    await open();
    const rows = drawer().getAllByTestId("timeline-row");
    expect(rows.map((each) => each.dataset.source)).toEqual([
      "command",
      "reply",
      "stream",
      "stream",
      "reconcile",
      "reconcile",
    ]);
    expect(rows[1]).toHaveTextContent("The broker's answer to our submit");
    expect(rows[1]).toHaveTextContent("Unconfirmed →became Working");
    expect(rows[2]).toHaveTextContent("changed nothing");
    expect(rows[3]).toHaveTextContent("+100 ms");
    expect(rows[3]).toHaveTextContent("filled 0 →became 40");
    expect(rows[5]).toHaveTextContent("Fill · snapshot");
    expect(rows[5]).toHaveTextContent("known 38.0 s late");
    expect(screen.queryByText("Status")).toBeNull();
    expect(document.activeElement).toHaveTextContent("Buy 100 MSFT");
  });

  test("strikes an inferred fill through once the real one has taken its place", async () => {
    await open();
    const fills = drawer().getAllByTestId("timeline-fill");
    expect(fills.map((each) => each.dataset.inferred)).toEqual(["no", "replaced", "no"]);
    expect(fills[1]?.querySelector("s")).toHaveTextContent("60 @ 415.20");
    expect(fills[2]).toHaveTextContent("takes the place of an inferred one");
  });

  test("shows gaps and kills as bands, and what was done meanwhile", async () => {
    await open();
    expect(drawer().getByText(/Broker events interrupted, 43 s: the stream was closed/)).toBeVisible();
    expect(drawer().getByText(/Kill switch engaged, 10 s: enough/)).toBeVisible();
    expect(drawer().getAllByTestId("timeline-band")).toHaveLength(1);
    const deeds = drawer().getAllByTestId("timeline-deed");
    expect(deeds[0]).toHaveTextContent("we sent the order as tu-1");
    expect(deeds[1]).toHaveTextContent("stream of broker events lost: closed · 3 times");
  });

  test("scrubbed into the gap shows the old belief against what the broker had", async () => {
    await open();
    expect(screen.getByTestId("believed")).toHaveAttribute("data-agrees", "true");
    choose(30);
    const sides = within(screen.getByTestId("believed"));
    expect(sides.getByText("Part filled")).toBeVisible();
    expect(sides.getByTestId("broker-filled")).toHaveTextContent("100");
    expect(sides.getByText("≠ 2 facts ahead of us")).toBeVisible();
    expect(sides.getAllByTestId("ahead")[1]).toHaveTextContent("fill 60 @ 415.20: we knew 28.0 s later, by snapshot");
    expect(sides.getByText(/40 MSFT held; last word of the order by stream 19.9 s before/)).toBeVisible();
    expect(sides.getByText(/A gap was open since .*nothing was proven for 16.0 s/)).toBeVisible();
    expect(scrub()).toHaveAccessibleName("Believed at");
    expect(scrub().getAttribute("aria-valuetext")).toContain(
      "believed Part filled, 40 of 100 filled, during a gap; the broker had 100 of 100 filled",
    );
    const later = drawer().getAllByTestId("timeline-row");
    expect(later.map((each) => each.dataset.later)).toEqual(["false", "false", "false", "false", "true", "true"]);
    await person().click(screen.getByRole("button", { name: "Newest" }));
    expect(screen.getByTestId("believed")).toHaveAttribute("data-filled", "100");
  });

  test("goes from change to change, and to a time that is typed", async () => {
    await open();
    const user = person();
    await user.click(screen.getByRole("button", { name: "Earlier change" }));
    expect(screen.getByTestId("believed")).toHaveAttribute("data-filled", "100");
    await user.click(screen.getByRole("button", { name: "Earlier change" }));
    expect(screen.getByTestId("believed")).toHaveAttribute("data-filled", "40");
    const type = async (text: string) => {
      const field = screen.getByTestId("believed-time");
      await user.clear(field);
      await user.type(field, `${text}{Enter}`);
    };
    await type("13:59:05.500");
    expect(screen.getByTestId("believed")).toHaveAttribute("data-filled", "0");
    await type("soon");
    expect(screen.getByRole("alert")).toHaveTextContent("Write a time such as 14:32:11.250.");
    await type("09:00:00");
    expect(screen.getByRole("alert")).toHaveTextContent(/Write a time between 13:58:5\d\.\d+ and 13:59:58\.000/);
  });

  test("is named in the address with its moment, and opened by it", async () => {
    await open();
    expect(window.location.hash).toBe("#order=o-1");
    choose(30);
    await pass(1_000);
    expect(window.location.hash).toBe(`#order=o-1&at=${encodeURIComponent(ago(30))}`);
    expect(screen.getByTestId("believed")).toHaveAttribute("data-filled", "40");
    window.location.hash = `#order=o-1&at=${encodeURIComponent(ago(60.5))}`;
    act(() => void window.dispatchEvent(new Event("hashchange")));
    expect(screen.getByTestId("believed")).toHaveTextContent("nothing of this order yet");
    await person().keyboard("{Escape}");
    expect(window.location.hash).toBe("");
  });

  test("asks the journal again after a change, and not at every one", async () => {
    const api = await open();
    expect(api.sent("GET /api/explain/o-1")).toHaveLength(1);
    const more = { ...detail, timeline: [...detail.timeline, timelineEntry({ offset: 12 })] };
    api.on("GET /api/orders/o-1", { status: 200, body: more });
    for (const offset of [1, 2, 3]) {
      const view = orderStatus({ ...row, updated_at: ago(1 - offset / 10) });
      act(() => store.dispatch({ type: "envelope", now: 0, envelope: asEnvelope("order:status", view, offset) }));
      await pass(FLUSH_MS);
    }
    expect(api.sent("GET /api/orders/o-1").length).toBeGreaterThan(2);
    expect(api.sent("GET /api/explain/o-1")).toHaveLength(1);
    await pass(REST_MS);
    expect(api.sent("GET /api/explain/o-1")).toHaveLength(2);
    await person().keyboard("{Escape}");
    expect(screen.queryByRole("dialog")).toBeNull();
  });

  test("without a journal it tells the order all the same, and says why there is no looking back", async () => {
    const nothing = { error: { field: "", message: "there is no /api/explain", code: "not_found" } };
    await open({ status: 404, story: nothing });
    expect(screen.getByRole("alert")).toHaveTextContent("No journal is kept on disk here");
    expect(drawer().getAllByTestId("timeline-row")).toHaveLength(6);
    expect(screen.queryByRole("slider")).toBeNull();
  });

  test("a journal that is asked too often can be asked again", async () => {
    const busy = { error: { field: "", message: "4 questions wait already; try again", code: "busy" } };
    const api = await open({ status: 503, story: busy });
    expect(screen.getByRole("alert")).toHaveTextContent("4 questions wait already");
    api.on("GET /api/explain/o-1", { status: 200, body: story });
    await person().click(screen.getByRole("button", { name: "Ask the journal again" }));
    await pass(0);
    expect(scrub()).toBeVisible();
    expect(screen.queryByRole("alert")).toBeNull();
  });

  test("an order that cannot be fetched says so and can be tried again", async () => {
    const api = new FakeApi();
    api.on("GET /api/explain/o-1", { status: 200, body: story });
    api.on(
      "GET /api/orders/o-1",
      { status: 500, body: { error: { field: null, message: "The server is stopping.", code: "stopping" } } },
      { status: 200, body: detail },
    );
    show(<OrderDrawer />, { orders: [row] });
    act(() => openOrder("o-1"));
    await pass(0);
    expect(screen.getByRole("alert")).toHaveTextContent("The server is stopping.");
    await person().click(screen.getByRole("button", { name: "Try again" }));
    await pass(0);
    expect(screen.getAllByTestId("timeline-row")).toHaveLength(6);
  });

  test("more changes than one answer tells are said to be missing", async () => {
    await open({ story: { ...story, beliefs_end_at: ago(30) } });
    expect(screen.getByText("trueup explain o-1 --at TIME")).toBeVisible();
    expect(screen.getByTestId("believed")).toHaveAttribute("data-filled", "40");
  });
});
