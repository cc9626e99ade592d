/**
 * The page: one desk on one screen. It opens the socket once.
 *
 * Not for any panel's content. Invariant: places are fixed, so that a number is always found where it was.
 */
import { AlertsList } from "./features/alerts/AlertsList";
import { Toasts } from "./features/alerts/Toasts";
import { Approvals } from "./features/approvals/ApprovalCard";
import { DriftPanel } from "./features/drift/DriftPanel";
import { FeedStatus } from "./features/feeds/FeedStatus";
import { GapBanner } from "./features/feeds/GapBanner";
import { FillsTable } from "./features/orders/FillsTable";
import { OrderDrawer } from "./features/orders/OrderDrawer";
import { OrdersTable } from "./features/orders/OrdersTable";
import { OrderTicket } from "./features/orders/OrderTicket";
import { CashLine } from "./features/portfolio/CashLine";
import { PositionsTable } from "./features/portfolio/PositionsTable";
import { Breakers } from "./features/risk/Breakers";
import { KillSwitch } from "./features/risk/KillSwitch";
import { SignalsList } from "./features/signals/SignalsList";
import { Header } from "./Header";
import { useChannel } from "./hooks/useChannel";
import { useNow } from "./hooks/useNow";
import { useWebSocket } from "./hooks/useWebSocket";
import { stretch } from "./lib/format";

/** The whole dashboard. */
export function App() {
  return (
    <>
      <Socket />
      <div className="desk">
        <Header />
        <div className="banners">
          <KillSwitch />
          <Breakers />
          <ConnectionBanner />
          <GapBanner />
          <FaultBanner />
        </div>
        <main className="main">
          <FeedStatus />
          <CashLine />
          <div className="grid">
            <div className="column wide">
              <PositionsTable />
              <OrdersTable />
            </div>
            <div className="column">
              <FillsTable />
              <DriftPanel />
            </div>
            <div className="column side-column">
              <OrderTicket />
              <Approvals />
              <AlertsList />
              <SignalsList />
            </div>
          </div>
        </main>
      </div>
      <OrderDrawer />
      <Toasts />
    </>
  );
}

/** Holds the socket open; apart, so that a message does not render the page. */
function Socket() {
  useWebSocket();
  return null;
}

function ConnectionBanner() {
  const phase = useChannel((state) => state.phase);
  const since = useChannel((state) => state.phaseSince);
  const lastHeard = useChannel((state) => state.lastMessageAt);
  const now = useNow();
  if (phase !== "disconnected") return null;
  return (
    <div className="banner fill-crit" role="alert">
      <span className="banner-mark" aria-hidden="true">
        ■
      </span>
      <p>
        <strong>Not connected to trueup</strong>
        {lastHeard > 0
          ? ` · last heard ${stretch(Math.max(0, (now - lastHeard) / 1000))} ago`
          : ` for ${stretch(Math.max(0, (now - since) / 1000))}`}
        <span className="banner-effect"> · what you see is old; cancel and kill still try by their own requests</span>
      </p>
    </div>
  );
}

function FaultBanner() {
  const malformed = useChannel((state) => state.counts.malformed);
  const fault = useChannel((state) => state.lastFault);
  if (malformed === 0) return null;
  return (
    <div className="banner" role="status">
      <span className="banner-mark warn" aria-hidden="true">
        ▲
      </span>
      <p>
        <strong>Data error</strong> · {malformed === 1 ? "a message" : `${malformed} messages`} could not be read and
        was left out: {fault}. Reload the page if this goes on.
      </p>
    </div>
  );
}
