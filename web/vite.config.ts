/** How the dashboard is built, served while it is being written, and tested. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The runtime that the development server stands in front of.
const RUNTIME = "localhost:8000";

export default defineConfig({
  plugins: [react()],
  build: {
    // The Python package serves these files; nothing else is ever put into that folder.
    outDir: "../src/trueup/api/static",
    emptyOutDir: true,
    target: "es2022",
  },
  server: {
    port: 3000,
    proxy: {
      "/ws": { target: `ws://${RUNTIME}`, ws: true },
      "/api": { target: `http://${RUNTIME}` },
    },
  },
  test: {
    environment: "happy-dom",
    setupFiles: ["src/testing/setup.ts"],
    restoreMocks: true,
    unstubGlobals: true,
  },
});
