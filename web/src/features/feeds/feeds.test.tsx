import { act, cleanup, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FLUSH_MS, store } from "../../state/store";
import { ago, gap, health, NOW } from "../../testing/facts";
import { FakeApi } from "../../testing/fakeApi";
import { asEnvelope, leave, pass, person, show, stopTime } from "../../testing/render";
import { FeedStatus } from "./FeedStatus";
import { GapBanner, healWords } from "./GapBanner";

beforeEach(stopTime);
afterEach(leave);

async function tell(envelope: ReturnType<typeof asEnvelope>): Promise<void> {
  act(() => store.dispatch({ type: "envelope", envelope, now: Date.parse(NOW) }));
  await pass(FLUSH_MS);
}

describe("the strip", () => {
  test("tells of broker events, reconciliation and market data apart from one another", () => {
    show(<FeedStatus />);
    expect(screen.getByTestId("truth-lag")).toHaveTextContent("0.4 s");
    expect(screen.getByTestId("broker-events-status")).toHaveTextContent("Up");
    expect(screen.getByTestId("broker-reconnects")).toHaveTextContent("3");
    expect(screen.getByTestId("reconciliation-age")).toHaveTextContent("24 s ago");
    expect(screen.getByText("clean")).toBeVisible();
    expect(screen.getByTestId("market-data-age")).toHaveTextContent("0.4 s ago");
    expect(screen.getByText("12 symbols")).toBeVisible();
  });

  test("quiet is not dead: a trade update of long ago leaves the stream up", () => {
    show(<FeedStatus />);
    expect(screen.getByText("14 m ago")).toBeVisible();
    expect(screen.getByTestId("broker-events-status")).toHaveTextContent("Up");
  });

  test("truth lag grows by itself until something proves the contrary", async () => {
    show(<FeedStatus />);
    await pass(5_000);
    expect(screen.getByTestId("truth-lag")).toHaveTextContent("5.4 s");
    await tell(asEnvelope("system:health", health({ at: ago(-5), truth_lag_s: 0.1 }), 1));
    expect(screen.getByTestId("truth-lag")).toHaveTextContent("0.1 s");
  });

  test("a feed's own word is believed before health has caught up", async () => {
    show(<FeedStatus />);
    await tell(
      asEnvelope("system:feed:disconnected", { timestamp: ago(-0.5), reason: "closed", feed: "broker_events" }, 1),
    );
    expect(screen.getByTestId("broker-events-status")).toHaveTextContent("Down");
  });

  test("before the first proof it says so, and shows no number", () => {
    show(<FeedStatus />, {
      health: health({
        truth_lag_s: null,
        broker_events: { ...health().broker_events, status: "DOWN", last_reconciliation_at: null },
      }),
    });
    expect(screen.getByTestId("truth-lag")).toHaveTextContent("—");
    expect(screen.getByTestId("reconciliation-age")).toHaveTextContent("never");
    expect(screen.getByTestId("broker-events-status")).toHaveTextContent("Down");
  });

  test("reconcile now asks once, however often it is pressed", async () => {
    const api = new FakeApi();
    let finish = () => {};
    api.on("POST /api/reconcile", new Promise((done) => (finish = () => done({ status: 202, body: {} }))));
    show(<FeedStatus />);
    const user = person();
    await user.dblClick(screen.getByTestId("reconcile-now"));
    expect(api.sent("POST /api/reconcile")).toHaveLength(1);
    expect(screen.getByTestId("reconcile-now")).toHaveTextContent("Asking…");
    finish();
    await pass(0);
    expect(screen.getByTestId("reconcile-now")).toHaveTextContent("Reconcile now");
  });
});

describe("a gap", () => {
  test("open: since when, why, and what it blocks; it cannot be dismissed", async () => {
    show(<GapBanner />, { gaps: [gap()], health: health({ entries_gated: true }) });
    const banner = screen.getByTestId("gap-banner");
    expect(banner).toHaveTextContent("since 13:59:13 (47 s) · the stream was closed");
    expect(banner).toHaveTextContent("new entries are blocked until a clean reconciliation");
    expect(screen.queryByRole("button")).toBeNull();
    await pass(13_000);
    expect(banner).toHaveTextContent("(1 m 00 s)");
  });

  test("closed: what was missed and how it was learned, until dismissed", async () => {
    show(<GapBanner />, { gaps: [gap()] });
    const closed = gap({ closed_at: NOW, missed: 3, learned_by: { reconcile: 2, poll: 1 } });
    await tell(asEnvelope("truth:gap", closed, 1));
    expect(screen.queryByTestId("gap-banner")).toBeNull();
    expect(screen.getByTestId("heal-summary")).toHaveTextContent(
      "Gap closed at 14:00:00 after 47 s: 3 fills missed, learned by reconcile 2 / poll 1.",
    );
    await person().click(screen.getByRole("button", { name: "Dismiss" }));
    expect(screen.queryByTestId("heal-summary")).toBeNull();
  });

  test("closed long ago says nothing any more", () => {
    show(<GapBanner />, { gaps: [gap({ opened_at: ago(900), closed_at: ago(800) })] });
    expect(screen.queryByTestId("heal-summary")).toBeNull();
  });

  test("that hid nothing says so for a shorter time than one that hid a fill", () => {
    show(<GapBanner />, { gaps: [gap({ opened_at: ago(70), closed_at: ago(60) })] });
    expect(screen.queryByTestId("heal-summary")).toBeNull();
    cleanup();
    show(<GapBanner />, { gaps: [gap({ opened_at: ago(70), closed_at: ago(60), missed: 1 })] });
    expect(screen.getByTestId("heal-summary")).toBeVisible();
  });

  test("of market data is no gap in broker events", () => {
    show(<GapBanner />, { gaps: [gap({ feed: "market_data" })] });
    expect(screen.queryByTestId("gap-banner")).toBeNull();
  });

  test.each([
    [gap({ missed: 0 }), "no fill was missed"],
    [gap({ missed: 1, learned_by: { reconcile: 1 } }), "1 fill missed, learned by reconcile 1"],
    [
      gap({ missed: 2, learned_by: { lookup: 1, reply: 1, poll: 0 } }),
      "2 fills missed, learned by look-up 1 / answer 1",
    ],
    [gap({ missed: 1 }), "1 fill missed, learned by the broker's books"],
  ])("in words", (closed, text) => expect(healWords(closed)).toBe(text));
});
