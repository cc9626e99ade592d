import { act, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FLUSH_MS, store } from "../../state/store";
import { ago, NOW, portfolio, position } from "../../testing/facts";
import { leave, pass, show, stopTime } from "../../testing/render";
import { CashLine } from "./CashLine";
import { PositionsTable } from "./PositionsTable";

beforeEach(stopTime);
afterEach(leave);

const row = (symbol: string) => {
  const cell = screen.getByText(symbol, { selector: "td" });
  return within(cell.closest("tr") as HTMLElement);
};

test("a position shows its quantity, value and gain, each with its age", () => {
  show(<PositionsTable />, {
    portfolio: portfolio({ positions: [position({ quantity: -150, unrealized_pnl: -270 })] }),
  });
  expect(screen.getByTestId("position-row")).toHaveAttribute("data-quantity", "-150");
  expect(row("AAPL").getByText("−150")).toBeVisible();
  expect(row("AAPL").getByText("0.3 s")).toBeVisible();
  expect(row("AAPL").getByText("12 s")).toBeVisible();
  expect(screen.getByTestId("position-row")).toHaveTextContent("▼−270.00");
});

test("an old quote is marked in form, not only in colour, and so is the total made from it", () => {
  show(<PositionsTable />, {
    portfolio: portfolio({
      positions: [position(), position({ symbol: "AMD", quote_at: ago(47), unrealized_pnl: 0.1 })],
      stale_symbols: ["AMD"],
    }),
  });
  expect(row("AMD").getByText("227.04").parentElement).toHaveAttribute("data-stale", "true");
  expect(row("AMD").getByText("47 s").closest(".age")).toHaveTextContent("(stale)");
  expect(row("AAPL").getByText("227.04").parentElement).not.toHaveAttribute("data-stale");
  expect(screen.getByText("1 old quote").closest("tr")).toHaveTextContent("+376.10 stale");
});

test("a position whose quantity the broker disputes shows both quantities", () => {
  show(<PositionsTable />, {
    portfolio: portfolio({ positions: [position({ broker_quantity: 300, drift: "confirmed" })] }),
  });
  expect(row("AAPL").getByText("≠ broker 300")).toBeVisible();
});

test("what nobody knows is a dash with its reason, never a nought", () => {
  show(<PositionsTable />, {
    portfolio: portfolio({
      positions: [position({ price: null, market_value: null, unrealized_pnl: null, quote_at: null })],
    }),
  });
  expect(row("AAPL").getAllByText("no quote yet")).not.toHaveLength(0);
  expect(screen.getByTestId("position-row")).not.toHaveTextContent("0.00");
});

test("no positions is a sentence", () => {
  show(<PositionsTable />);
  expect(screen.getByText("No open positions")).toBeVisible();
});

test("the account line shows equity, cash, and gains with sign and glyph", () => {
  show(<CashLine />);
  expect(screen.getByTestId("equity")).toHaveTextContent("1,024,310.55");
  expect(screen.getByTestId("cash")).toHaveTextContent("831,204.18");
  const day = screen.getByText("Day P&L").parentElement;
  expect(day).toHaveTextContent("▼−270.00−2.05%");
});

test("money goes stale with its proof, and at once with the connection", async () => {
  show(<CashLine />);
  expect(screen.getByTestId("equity").parentElement).not.toHaveAttribute("data-stale");
  await pass(181_000);
  expect(screen.getByTestId("equity").parentElement).toHaveAttribute("data-stale", "true");
});

test("a cut connection makes money look old", async () => {
  show(<CashLine />);
  act(() => store.dispatch({ type: "phase", phase: "reconnecting", attempt: 1, now: Date.parse(NOW) }));
  await pass(FLUSH_MS);
  expect(screen.getByTestId("cash").parentElement).toHaveAttribute("data-stale", "true");
});
