import { act, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { KillSwitchView } from "../../api/types";
import { FLUSH_MS, store } from "../../state/store";
import { ago, gap, health, NOW, order, portfolio, position } from "../../testing/facts";
import { FakeApi } from "../../testing/fakeApi";
import { asEnvelope, leave, pass, person, show, stopTime } from "../../testing/render";
import { Breakers } from "./Breakers";
import { KillButton, KillSwitch } from "./KillSwitch";

beforeEach(stopTime);
afterEach(leave);

const taken = { status: 202, body: {} };
const engaged: KillSwitchView = {
  action: "activate",
  reason: "unusual fills",
  operator: "human",
  timestamp: ago(-1),
  state: "KILLED",
  open_orders_remaining: 1,
  asked_by: "",
};

const page = (
  <>
    <KillButton />
    <KillSwitch />
  </>
);

async function say(word: KillSwitchView, offset = 1): Promise<void> {
  act(() =>
    store.dispatch({ type: "envelope", now: Date.parse(NOW), envelope: asEnvelope("risk:kill_switch", word, offset) }),
  );
  await pass(FLUSH_MS);
}

describe("engaging", () => {
  test("typing KILL and Enter engages, from the button by keyboard alone", async () => {
    const api = new FakeApi();
    api.on("POST /api/kill", taken);
    show(page, { orders: [order()], portfolio: portfolio({ positions: [position()] }) });
    const user = person();
    await user.tab();
    await user.keyboard("{Enter}");
    const dialog = within(screen.getByRole("alertdialog", { name: "Stop all trading?" }));
    expect(dialog.getByText("1 order")).toBeVisible();
    expect(dialog.getByText("1 position")).toBeVisible();
    expect(dialog.getByLabelText(/^Type KILL/)).toHaveFocus();
    await user.keyboard("kill{Enter}");
    expect(api.sent("POST /api/kill").map((request) => request.body)).toEqual([
      { reason: "engaged by hand on the dashboard" },
    ]);
    await say(engaged);
    expect(screen.getByRole("alertdialog", { name: "Trading is killed" })).toBeVisible();
  });

  test.each(["KIL", "STOP", "KILL IT", ""])("%j and Enter sends nothing and says what to type", async (word) => {
    const api = new FakeApi();
    show(page);
    const user = person();
    await user.click(screen.getByTestId("kill-open"));
    await user.keyboard(`${word}{Enter}`);
    expect(api.requests).toHaveLength(0);
    expect(screen.getByText("Type KILL first.")).toBeVisible();
    expect(screen.getByRole("button", { name: "Engage kill switch" })).toHaveAttribute("aria-disabled", "true");
  });

  test("pasting works, a reason goes along, and a second Enter sends nothing more", async () => {
    const api = new FakeApi();
    api.on("POST /api/kill", taken);
    show(page);
    const user = person();
    await user.click(screen.getByTestId("kill-open"));
    await user.type(screen.getByLabelText(/^Reason/), "odd prices");
    await user.click(screen.getByLabelText(/^Type KILL/));
    await user.paste("  kill ");
    await user.keyboard("{Enter}{Enter}");
    expect(api.sent("POST /api/kill").map((request) => request.body)).toEqual([{ reason: "odd prices" }]);
  });

  test("is tried again until the server takes it", async () => {
    const api = new FakeApi();
    api.on("POST /api/kill", "unreachable", { status: 503, body: null }, taken);
    show(page);
    const user = person();
    await user.click(screen.getByTestId("kill-open"));
    await user.keyboard("KILL{Enter}");
    await pass(0);
    expect(screen.getByText(/trying again/)).toBeVisible();
    await pass(1_000);
    expect(screen.getByRole("button", { name: "Sent, attempt 2…" })).toBeVisible();
    await pass(10_000);
    expect(api.sent("POST /api/kill")).toHaveLength(3);
  });

  test("is not shown as done before the server says so", async () => {
    const api = new FakeApi();
    api.on("POST /api/kill", taken);
    show(page);
    const user = person();
    await user.click(screen.getByTestId("kill-open"));
    await user.keyboard("KILL{Enter}");
    await pass(100);
    expect(screen.queryByRole("alertdialog", { name: "Trading is killed" })).toBeNull();
  });

  test("opens by its shortcut, and closing it sends nothing", async () => {
    const api = new FakeApi();
    show(page);
    act(() => {
      document.dispatchEvent(new KeyboardEvent("keydown", { code: "Period", key: ">", ctrlKey: true, shiftKey: true }));
    });
    await person().click(screen.getByRole("button", { name: /^Keep trading/ }));
    expect(screen.queryByRole("alertdialog")).toBeNull();
    expect(api.requests).toHaveLength(0);
  });
});

describe("killed", () => {
  test("from anywhere else shows itself at once, also over a half-typed word", async () => {
    show(page);
    const user = person();
    await user.click(screen.getByTestId("kill-open"));
    await user.keyboard("KI");
    await say({ ...engaged, operator: "system" });
    const dialog = screen.getByRole("alertdialog", { name: "Trading is killed" });
    expect(dialog).toHaveTextContent("By the system at 14:00:01: unusual fills");
  });

  test("says whose wish it was", async () => {
    show(page);
    await say({ ...engaged, asked_by: "oleg" });
    const dialog = screen.getByRole("alertdialog", { name: "Trading is killed" });
    expect(dialog).toHaveTextContent("By a person (oleg) at 14:00:01: unusual fills");
  });

  test("comes up killed after a reload", () => {
    show(page, { kill_switch: engaged, health: health({ trading_state: "KILLED" }) });
    expect(screen.getByRole("alertdialog", { name: "Trading is killed" })).toBeVisible();
    expect(screen.getByText("Killed: resume…")).toBeInTheDocument();
  });

  test("tells what is still working and what is proven", async () => {
    show(page, { orders: [order()], kill_switch: engaged, health: health({ trading_state: "KILLED" }) });
    expect(screen.getByText(/1 order still working/)).toBeVisible();
    expect(screen.getByText("Not yet proven by a snapshot since the kill")).toBeVisible();
    const after = health({
      at: ago(-3),
      trading_state: "KILLED",
      broker_events: { ...health().broker_events, last_reconciliation_at: ago(-3) },
    });
    act(() => store.dispatch({ type: "envelope", now: 0, envelope: asEnvelope("system:health", after, 1) }));
    await pass(FLUSH_MS);
    expect(screen.getByText("Proven by a snapshot of the broker since the kill")).toBeVisible();
  });

  test("leaves a bar when the desk is looked at", async () => {
    show(page, { kill_switch: engaged, health: health({ trading_state: "KILLED" }) });
    await person().click(screen.getByRole("button", { name: /^View read-only desk/ }));
    expect(screen.queryByRole("alertdialog")).toBeNull();
    expect(screen.getByRole("alert")).toHaveTextContent("KILLED at 14:00:01 · unusual fills");
  });
});

describe("resuming", () => {
  const killed = { kill_switch: engaged, health: health({ trading_state: "KILLED" }) };

  test("needs a reason and the word, then Enter", async () => {
    const api = new FakeApi();
    api.on("POST /api/resume", taken);
    show(page, killed);
    const user = person();
    await user.click(screen.getByLabelText(/^Type RESUME/));
    await user.keyboard("resume{Enter}");
    expect(api.requests).toHaveLength(0);
    expect(screen.getByText("Say why trading may go on.")).toBeVisible();
    expect(screen.getByLabelText("Why trading may go on")).toHaveFocus();
    await user.keyboard("looked at every fill{Enter}");
    expect(api.sent("POST /api/resume").map((request) => request.body)).toEqual([{ reason: "looked at every fill" }]);
    await say({ ...engaged, action: "deactivate", timestamp: ago(-5) });
    expect(screen.queryByRole("alertdialog")).toBeNull();
  });

  test("waits while a gap is open", async () => {
    const api = new FakeApi();
    show(page, { ...killed, gaps: [gap()] });
    const user = person();
    await user.type(screen.getByLabelText("Why trading may go on"), "sure");
    await user.type(screen.getByLabelText(/^Type RESUME/), "RESUME{Enter}");
    expect(api.requests).toHaveLength(0);
    expect(screen.getByText(/Wait until the conditions/)).toBeVisible();
  });

  test("the server's refusal is shown", async () => {
    const api = new FakeApi();
    const error = { field: null, message: "The account is blocked at the broker.", code: "refused" };
    api.on("POST /api/resume", { status: 409, body: { error } });
    show(page, killed);
    const user = person();
    await user.type(screen.getByLabelText("Why trading may go on"), "sure");
    await user.type(screen.getByLabelText(/^Type RESUME/), "RESUME{Enter}");
    await pass(0);
    expect(screen.getByText(error.message)).toBeVisible();
  });
});

describe("circuit breakers", () => {
  const breaker = { breaker: "vix_spike", action: "activated", reason: "VIX 37.2 > 35", timestamp: NOW, demand: "" };

  test("a breaker that is on has a banner", () => {
    show(<Breakers />, { breakers: [breaker] });
    expect(screen.getByRole("alert")).toHaveTextContent("Circuit breaker: Vix spike · VIX 37.2 > 35 · since 14:00:00");
  });

  test("the demand of a gap has the gap's banner only", () => {
    show(<Breakers />, { breakers: [{ ...breaker, breaker: "stale_data" }] });
    expect(screen.queryByRole("alert")).toBeNull();
  });
});
