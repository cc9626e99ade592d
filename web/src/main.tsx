/** Mounts the page. The shared styles come first, so that a feature's own may refine them. */
import "./styles/tokens.css";
import "./styles/base.css";
import "./components/components.css";
import "./styles/desk.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element with the id root");
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
