import { act, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { RiskAlertView } from "../../api/types";
import { FLUSH_MS, store } from "../../state/store";
import { notify } from "../../state/ui";
import { alert, NOW } from "../../testing/facts";
import { asEnvelope, leave, pass, person, show, stopTime } from "../../testing/render";
import { AlertsList } from "./AlertsList";
import { TOAST_MS, Toasts } from "./Toasts";

beforeEach(stopTime);
afterEach(leave);

let offset = 0;

async function raise(...views: RiskAlertView[]): Promise<void> {
  act(() => {
    for (const view of views) {
      offset += 1;
      const envelope = { ...asEnvelope("risk:alert", view, offset) };
      store.dispatch({ type: "envelope", now: Date.parse(NOW), envelope });
    }
  });
  await pass(FLUSH_MS);
}

beforeEach(() => {
  offset = 0;
});

test("a warning shows in amber with its word, is said, and leaves by itself", async () => {
  show(<Toasts />);
  await raise(alert());
  const toast = screen.getByTestId("toast");
  expect(toast).toHaveClass("warning");
  expect(toast).toHaveTextContent("Warning: Position limit");
  expect(screen.getByText(/^Warning: AAPL position size/)).toHaveAttribute("role", "status");
  await pass(TOAST_MS);
  expect(screen.queryByTestId("toast")).toBeNull();
});

test("a critical one shows in red, is said at once, and stays until a person takes it away", async () => {
  show(<Toasts />);
  await raise(alert({ severity: "critical", type: "drawdown", reason: "Day loss 2.1% exceeds 2.0%" }));
  expect(screen.getByTestId("toast")).toHaveClass("critical");
  expect(screen.getByText("Critical: Day loss 2.1% exceeds 2.0%")).toHaveAttribute("role", "alert");
  await pass(TOAST_MS * 20);
  await person().click(screen.getByRole("button", { name: "Acknowledge Drawdown" }));
  expect(screen.queryByTestId("toast")).toBeNull();
});

test("repetitions are one toast with a count", async () => {
  show(<Toasts />);
  await raise(alert(), alert({ reason: "AAPL position size 6.4% exceeds 5% limit" }));
  expect(screen.getAllByTestId("toast")).toHaveLength(1);
  expect(screen.getByTestId("toast")).toHaveTextContent("×2");
  expect(screen.getByTestId("toast")).toHaveTextContent("6.4%");
});

test("three at a time, critical first, the rest counted", async () => {
  show(<Toasts />);
  await raise(
    alert({ severity: "critical", type: "drawdown" }),
    ...["A", "B", "C", "D"].map((symbol) => alert({ symbol })),
  );
  const toasts = screen.getAllByTestId("toast");
  expect(toasts).toHaveLength(3);
  expect(toasts[0]).toHaveClass("critical");
  expect(screen.getByText("+2 in Alerts")).toBeVisible();
});

test("a pointer on a toast keeps it", async () => {
  show(<Toasts />);
  await raise(alert());
  const user = person();
  await user.hover(screen.getByTestId("toast"));
  await pass(TOAST_MS * 2);
  expect(screen.getByTestId("toast")).toBeVisible();
  await user.unhover(screen.getByTestId("toast"));
  await pass(TOAST_MS);
  expect(screen.queryByTestId("toast")).toBeNull();
});

test("an alert for information is listed and does not pop up", async () => {
  show(
    <>
      <Toasts />
      <AlertsList />
    </>,
  );
  await raise(alert({ severity: "info", reason: "Session opens in 5 minutes" }));
  expect(screen.queryByTestId("toast")).toBeNull();
  expect(screen.getByText("Session opens in 5 minutes")).toBeVisible();
});

test("the outcome of a command is told and can be taken away", async () => {
  show(<Toasts />);
  act(() => notify("failed", "Cancel of MSFT was not taken."));
  expect(screen.getByTestId("notice")).toHaveAttribute("role", "alert");
  expect(screen.getByTestId("notice")).toHaveTextContent("Cancel of MSFT was not taken.");
  await person().click(screen.getByRole("button", { name: "Dismiss" }));
  expect(screen.queryByTestId("notice")).toBeNull();
});
