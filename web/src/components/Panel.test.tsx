import { act, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FLUSH_MS, store } from "../state/store";
import { NOW } from "../testing/facts";
import { leave, pass, person, show, stopTime } from "../testing/render";
import { Panel } from "./Panel";

beforeEach(stopTime);
afterEach(leave);

const content = (
  <Panel title="Positions" count={2} asOf={NOW}>
    <p>two rows</p>
  </Panel>
);

let isBroken = false;

function Fragile() {
  if (isBroken) throw new Error("no such field");
  return <p>whole again</p>;
}

test("loading: a skeleton, and neither a count nor a nought", () => {
  render(content);
  const panel = screen.getByRole("region", { name: "Positions" });
  expect(within(panel).getByText("Loading")).toBeInTheDocument();
  expect(panel).not.toHaveTextContent(/two rows|2|as of/);
});

test("ready: content, count, and as of when", () => {
  show(content);
  const panel = screen.getByRole("region", { name: "Positions 2" });
  expect(panel).toHaveTextContent("two rows");
  expect(panel).toHaveTextContent("as of 14:00:00");
});

test("empty: the fact as a sentence, and as of when", () => {
  show(
    <Panel title="Positions" count={0} asOf={NOW} empty="No open positions">
      <p>never drawn</p>
    </Panel>,
  );
  expect(screen.getByText("No open positions")).toHaveTextContent("as of 14:00:00");
  expect(screen.queryByText("never drawn")).toBeNull();
});

test("disconnected: the last values stay, and the panel says that they are the last", async () => {
  show(content);
  await pass(7_000);
  act(() => store.dispatch({ type: "phase", phase: "reconnecting", attempt: 1, now: Date.parse(NOW) }));
  await pass(FLUSH_MS);
  const panel = screen.getByRole("region", { name: "Positions 2" });
  expect(panel).toHaveAttribute("data-frozen", "true");
  expect(panel).toHaveTextContent("two rows");
  expect(panel).toHaveTextContent("as of 14:00:00, not connected");
});

test("error: one panel breaks, its neighbour does not, and it can be shown again", async () => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  isBroken = true;
  show(
    <>
      <Panel title="Orders">
        <Fragile />
      </Panel>
      {content}
    </>,
  );
  expect(screen.getByRole("alert")).toHaveTextContent("Orders cannot be shown.no such field");
  expect(screen.getByText("two rows")).toBeVisible();
  isBroken = false;
  await person().click(screen.getByRole("button", { name: "Show again" }));
  expect(screen.getByText("whole again")).toBeVisible();
});
