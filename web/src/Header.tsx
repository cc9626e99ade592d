/**
 * The strip that is always there: whose money, whether the page is live, what may be traded, and the kill switch.
 *
 * Not for details; those stand right below. Invariant: none of it scrolls away or is hidden by width.
 */
import { Chip } from "./components/Badge";
import { KillButton } from "./features/risk/KillSwitch";
import { useChannel } from "./hooks/useChannel";
import { nextZone, useNow, useZone } from "./hooks/useNow";
import { retryNow } from "./hooks/useWebSocket";
import { age, clockTime, words } from "./lib/format";
import { environment, feedStatus, tradingState } from "./state/selectors";
import { toggleTheme, useTheme } from "./state/ui";

/** The page's header. */
export function Header() {
  return (
    <header className="header">
      <h1 className="brand">
        <svg width="20" height="20" viewBox="0 0 20 20" aria-hidden="true">
          <path d="M2 14.5h16" className="brand-truth" />
          <path d="M2 9.6 18 5.2" className="brand-belief" />
        </svg>
        trueup
      </h1>
      <AccountBadge />
      <Connection />
      <TradingState />
      <FeedIndicator />
      <span className="header-gap" />
      <Clock />
      <ThemeButton />
      <span className="header-kill">
        <KillButton />
      </span>
    </header>
  );
}

const ACCOUNTS = {
  simulated: { label: "SIMULATED", hint: "A simulated broker: no money at all" },
  paper: { label: "PAPER", hint: "A paper account: no real money" },
  real: { label: "REAL MONEY", hint: "Orders on this page move real money" },
  unknown: { label: "ACCOUNT ?", hint: "The server has not said whose account this is" },
} as const;

function AccountBadge() {
  const broker = useChannel((state) => state.health?.broker ?? "");
  const account = useChannel((state) => state.health?.account ?? "");
  const kind = environment(broker);
  const { label, hint } = ACCOUNTS[kind];
  return (
    <span className={`account ${kind}`} data-testid="account" title={`${hint}. ${broker} ${account}`.trim()}>
      {label}
      {account !== "" && <span className="account-name">{account}</span>}
    </span>
  );
}

function Connection() {
  const phase = useChannel((state) => state.phase);
  const attempt = useChannel((state) => state.attempt);
  const tone = phase === "live" ? "ok" : phase === "disconnected" ? "crit" : "warn";
  const word = {
    live: "Live",
    connecting: "Connecting…",
    reconnecting: "Reconnecting…",
    disconnected: "Disconnected",
  }[phase];
  return (
    <span className="connection" role="status">
      <Chip tone={tone}>
        <span
          className={`dot ${phase === "live" ? "" : phase === "disconnected" ? "hollow" : "half"}`}
          aria-hidden="true"
        />
        <span data-testid="connection" data-phase={phase}>
          {word}
        </span>
        {phase !== "live" && attempt > 0 && <span className="quiet">attempt {attempt}</span>}
      </Chip>
      {phase === "disconnected" && (
        <button type="button" className="button small" onClick={retryNow}>
          Retry now
        </button>
      )}
    </span>
  );
}

const STATE_TONES = { ACTIVE: "ok", REDUCE_ONLY: "warn", HALTED: "fill-crit", KILLED: "fill-crit" } as const;
const STATE_HINTS: Record<string, string> = {
  ACTIVE: "Orders may be sent",
  REDUCE_ONLY: "Only orders that reduce a position may be sent",
  HALTED: "No order may be sent; cancels may",
  KILLED: "The kill switch is engaged: no order may be sent; cancels may",
};

function TradingState() {
  const state = useChannel(tradingState);
  const reasons = useChannel((all) => all.health?.reasons.join("; ") ?? "");
  const isLive = useChannel((all) => all.phase === "live");
  const tone = state === null || !isLive ? "neutral" : (STATE_TONES[state as keyof typeof STATE_TONES] ?? "warn");
  return (
    <Chip
      tone={tone}
      title={[STATE_HINTS[state ?? ""] ?? "Not known", reasons].filter((each) => each !== "").join(". ")}
    >
      <span className="chip-label">Trading</span>
      <strong data-testid="trading-state" data-state={state ?? undefined}>
        {state === null ? "—" : words(state)}
      </strong>
    </Chip>
  );
}

function FeedIndicator() {
  const status = useChannel((state) => feedStatus(state, "market_data"));
  const symbols = useChannel((state) => state.health?.market_data.symbol_count ?? 0);
  const isOff = useChannel(
    (state) => state.health?.market_data.last_message_at == null && state.health?.market_data.symbol_count === 0,
  );
  if (status === null || (isOff && status !== "UP")) return null;
  return (
    <span className="feed-indicator">
      <Chip
        tone={status === "UP" ? "neutral" : "fill-warn"}
        title={`Market data: ${words(status)}, ${symbols} symbols`}
      >
        <span className={`dot ${status === "UP" ? "ok" : "hollow"}`} aria-hidden="true" />
        {status === "UP"
          ? "Feed connected"
          : status === "DOWN"
            ? "Feed disconnected"
            : `Feed ${words(status).toLowerCase()}`}
      </Chip>
    </span>
  );
}

function Clock() {
  const now = useNow();
  const zone = useZone();
  const since = useChannel((state) => state.lastMessageAt);
  const silent = since === 0 ? null : Math.max(0, (now - since) / 1000);
  return (
    <button
      type="button"
      className="button plain clock"
      onClick={nextZone}
      title={`The server's time. Last message ${silent === null ? "never" : `${age(silent)} ago`}. Press for another time zone.`}
    >
      {clockTime(now, zone)} <span className="quiet">{zone.label}</span>
    </button>
  );
}

function ThemeButton() {
  const theme = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return (
    <button type="button" className="button plain theme" onClick={toggleTheme} aria-label={`Change to ${other} theme`}>
      <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" strokeWidth="1.5" />
        <path d="M8 1.8a6.2 6.2 0 0 1 0 12.4z" fill="currentColor" />
      </svg>
    </button>
  );
}
