import { screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DivergencesView, DivergenceView } from "../../api/types";
import { ago, drift, gap, NOW } from "../../testing/facts";
import { FakeApi } from "../../testing/fakeApi";
import { leave, pass, person, show, stopTime } from "../../testing/render";
import { DriftPanel } from "./DriftPanel";

beforeEach(stopTime);
afterEach(leave);

test("a difference shows both sides, its state and its evidence", () => {
  show(<DriftPanel />, { drifts: [drift()] });
  const row = screen.getByTestId("drift-row");
  expect(row).toHaveAttribute("data-state", "confirmed");
  expect(row).toHaveTextContent("AAPLPosition quantityconfirmed5.0 s ago");
  expect(row).toHaveTextContent("belief 300≠broker 400");
  expect(row).toHaveTextContent("two snapshots agree");
  expect(screen.getByRole("region", { name: "Drift and gaps 1 open" })).toBeVisible();
});

test("a healed one stays, with what was put right", () => {
  show(<DriftPanel />, { drifts: [drift({ state: "healed", trued_up: true })] });
  expect(screen.getByTestId("drift-row")).toHaveTextContent("trued up");
  expect(screen.getByTestId("drift-row")).toHaveTextContent("seen 13:59:55, trued up 13:59:57 after 2.00 s");
  expect(screen.getByRole("region", { name: "Drift and gaps" })).toBeVisible();
});

test("one about an order leads to its story", async () => {
  show(<DriftPanel />, { drifts: [drift({ kind: "missed_event", subject: "o-7" })] });
  await person().click(screen.getByRole("button", { name: "Open the story of order o-7" }));
  expect(window.location.hash).toBe("#order=o-7");
});

test("gaps stand below, with what each had hidden", () => {
  show(<DriftPanel />, { gaps: [gap({ opened_at: ago(60), closed_at: NOW, missed: 2, learned_by: { poll: 2 } })] });
  expect(screen.getByText("2 fills missed")).toBeVisible();
});

test("none of either is a sentence", () => {
  show(<DriftPanel />);
  expect(screen.getByText("Belief and the broker's books have not differed")).toBeVisible();
});

describe("every difference that there ever was", () => {
  const divergence = (part: Partial<DivergenceView> = {}): DivergenceView => ({
    ...drift({ state: "healed", at: ago(590), first_seen_at: ago(600) }),
    ended_at: ago(590),
    cause: "one snapshot differs",
    ended_by: "a later snapshot agrees",
    history: [drift({ state: "suspected" }), drift({ state: "healed" })],
    ...part,
  });
  const told = (part: Partial<DivergencesView> = {}): DivergencesView => ({
    drifts: [
      divergence(),
      divergence({ id: "d-2", subject: "MSFT", state: "suspected", ended_at: null, ended_by: "" }),
    ],
    gaps: [gap({ opened_at: ago(700), closed_at: ago(650) })],
    folded_to: 48211,
    folded_at: ago(4),
    left_out: 0,
    ...part,
  });

  async function ask(status: number, body: unknown): Promise<FakeApi> {
    const api = new FakeApi();
    api.on("GET /api/divergences", { status, body });
    show(<DriftPanel />);
    await person().click(screen.getByRole("button", { name: "All ever" }));
    await pass(0);
    return api;
  }

  test("newest first: cause, since when, when it ended and by what", async () => {
    await ask(200, told());
    const rows = screen.getAllByTestId("drift-row");
    expect(rows[0]).toHaveTextContent("MSFT");
    expect(rows[0]).toHaveTextContent("stands since 13:50:00");
    expect(rows[1]).toHaveTextContent("seen 13:50:00, healed 13:50:10 after 10.0 s");
    const why = within(rows[1] as HTMLElement);
    expect(why.getByText("cause").parentElement).toHaveTextContent("one snapshot differs");
    expect(why.getByText("ended by").parentElement).toHaveTextContent("a later snapshot agrees · in 2 steps");
    expect(screen.getByText(/2 differences and 1 gap in 48,211 entries/)).toHaveTextContent("4.0 s ago");
    expect(screen.getByText("Gap")).toBeVisible();
  });

  test("none is a sentence", async () => {
    await ask(200, told({ drifts: [], gaps: [] }));
    expect(screen.getByText("Belief and the broker's books have never differed")).toBeVisible();
  });

  test("many are drawn part by part", async () => {
    await ask(200, told({ drifts: Array.from({ length: 130 }, (_, each) => divergence({ id: `d-${each}` })) }));
    expect(screen.getAllByTestId("drift-row")).toHaveLength(100);
    await person().click(screen.getByRole("button", { name: "Show 30 older ones" }));
    expect(screen.getAllByTestId("drift-row")).toHaveLength(130);
  });

  test("a journal that cannot be asked says why, and can be asked again", async () => {
    const busy = { error: { field: "", message: "4 questions wait already.", code: "busy" } };
    const api = await ask(503, busy);
    expect(screen.getByRole("alert")).toHaveTextContent("The journal could not be asked. 4 questions wait already.");
    api.on("GET /api/divergences", { status: 200, body: told() });
    await person().click(screen.getByRole("button", { name: "Ask the journal again" }));
    await pass(0);
    expect(screen.getAllByTestId("drift-row")).toHaveLength(2);
    await person().click(screen.getByRole("button", { name: "All ever" }));
    expect(screen.getByText("Belief and the broker's books have not differed")).toBeVisible();
  });
});
