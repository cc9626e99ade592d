/** What every test begins with: DOM matchers, an empty store, and no memory of the server's time. */
import "@testing-library/jest-dom/vitest";
import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";
import { resetClock } from "../lib/clock";
import { store } from "../state/store";
import { openOrder, showKillDialog } from "../state/ui";

afterEach(() => {
  cleanup();
  store.reset();
  resetClock();
  openOrder(null);
  showKillDialog(false);
});
