import { screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ago, drift, gap, NOW } from "../../testing/facts";
import { leave, show, stopTime } from "../../testing/render";
import { DriftPanel } from "./DriftPanel";

beforeEach(stopTime);
afterEach(leave);

test("a difference shows both sides, its state and its evidence", () => {
  show(<DriftPanel />, { drifts: [drift()] });
  const row = screen.getByTestId("drift-row");
  expect(row).toHaveAttribute("data-state", "confirmed");
  expect(row).toHaveTextContent("AAPLPosition quantityconfirmed3.0 s ago");
  expect(row).toHaveTextContent("belief 300≠broker 400");
  expect(row).toHaveTextContent("two snapshots agree");
  expect(screen.getByRole("region", { name: "Drift and gaps 1 open" })).toBeVisible();
});

test("a healed one stays, with what was put right", () => {
  show(<DriftPanel />, { drifts: [drift({ state: "healed", trued_up: true })] });
  expect(screen.getByTestId("drift-row")).toHaveTextContent("trued up");
  expect(screen.getByRole("region", { name: "Drift and gaps" })).toBeVisible();
});

test("gaps stand below, with what each had hidden", () => {
  show(<DriftPanel />, { gaps: [gap({ opened_at: ago(60), closed_at: NOW, missed: 2, learned_by: { poll: 2 } })] });
  expect(screen.getByText("2 fills missed")).toBeVisible();
});

test("none of either is a sentence", () => {
  show(<DriftPanel />);
  expect(screen.getByText("Belief and the broker's books have not differed")).toBeVisible();
});
