/**
 * How sure we are: truth lag as the one big number, the two streams apart from one another, the last reconciliation.
 *
 * Not for gaps' banners (`GapBanner`). Invariant: a stream that is merely connected is never called healthy, and quiet
 * is not called dead.
 */
import { useRef, useState } from "react";
import { ApiError, reconcileNow } from "../../api/client";
import type { HealthView } from "../../api/types";
import { Age, ClockTime } from "../../components/Age";
import { Sparkline } from "../../components/Sparkline";
import { useChannel } from "../../hooks/useChannel";
import { useNow } from "../../hooks/useNow";
import { age, counted, DASH, stretch, words } from "../../lib/format";
import { freshness, LIMITS } from "../../lib/fresh";
import { feedStatus, openGap, truthLag } from "../../state/selectors";
import { store } from "../../state/store";
import { notify } from "../../state/ui";
import "./feeds.css";

/** How much of the past the small line shows at most and at least, in milliseconds. */
const WINDOW_MS = 5 * 60_000;
const WINDOW_MS_MIN = 60_000;

/** The strip under the header: truth lag, broker events, reconciliation, market data. */
export function FeedStatus() {
  const health = useChannel((state) => state.health);
  return (
    <section className="truth-strip" aria-label="Truth and streams">
      <TruthLag />
      <BrokerEvents health={health} />
      <Reconciliation health={health} />
      <MarketData health={health} />
    </section>
  );
}

function TruthLag() {
  const now = useNow();
  // The lag grows by itself between two statements, so it is read anew with each beat.
  useChannel((state) => state.health);
  const history = useChannel((state) => state.lagHistory);
  const gaps = useChannel((state) => state.gaps);
  const gapIsOpen = useChannel((state) => openGap(state) !== null);
  const phase = useChannel((state) => state.phase);
  const lag = truthLag(store.shown(), now);
  const tone = lag === null ? "quiet" : gapIsOpen || phase !== "live" ? "warn" : "steady";
  const points = history.map((sample) => ({ at: sample.at, value: sample.lag }));
  if (lag !== null) points.push({ at: now, value: lag });
  const bands = gaps
    .filter((gap) => gap.feed !== "market_data")
    .map((gap) => ({ from: Date.parse(gap.opened_at), to: gap.closed_at === null ? now : Date.parse(gap.closed_at) }));
  const said = lag === null ? "not proven yet" : age(lag);
  const from = Math.max(now - WINDOW_MS, Math.min(now - WINDOW_MS_MIN, points[0]?.at ?? now));
  const peak = Math.max(0, ...points.filter((point) => point.at >= from).map((point) => point.value));
  return (
    <div className="truth-cell truth-lag" title="Time since belief was last known to equal the broker's books">
      <div>
        <h2 className="label">Truth lag</h2>
        <p className={`truth-number ${tone}`} data-testid="truth-lag">
          {lag === null ? DASH : said}
        </p>
        <p className="label">
          {lag === null
            ? "not proven yet"
            : gapIsOpen
              ? "growing: gap open"
              : phase === "live"
                ? "since proven equal"
                : "not connected"}
        </p>
      </div>
      <div className="truth-past">
        <Sparkline points={points} from={from} to={now} shaded={bands} label={`Truth lag: now ${said}`} tone={tone} />
        {lag !== null && (
          <p className="label">
            peak {age(peak)} in {stretch((now - from) / 1000)}
          </p>
        )}
      </div>
    </div>
  );
}

const STATUS_LOOK: Record<string, { readonly tone: string; readonly dot: string; readonly word: string }> = {
  UP: { tone: "ok", dot: "", word: "Up" },
  SUSPECT: { tone: "warn", dot: "half", word: "Suspect" },
  RESTORING: { tone: "warn", dot: "half", word: "Restoring" },
  DOWN: { tone: "crit", dot: "hollow", word: "Down" },
};

function FeedWordLine({ status, testId }: { readonly status: string | null; readonly testId?: string }) {
  const isLive = useChannel((state) => state.phase === "live");
  const look = status === null ? undefined : STATUS_LOOK[status];
  return (
    <p className="feed-word">
      <span className={`${isLive ? (look?.tone ?? "quiet") : "quiet"} feed-dot`}>
        <span className={`dot ${look?.dot ?? "hollow"}`} aria-hidden="true" />
      </span>
      <strong data-testid={testId} data-status={status ?? undefined}>
        {look?.word ?? (status === null ? DASH : words(status))}
      </strong>
      {!isLive && status !== null && <span className="quiet"> when last heard</span>}
    </p>
  );
}

function BrokerEvents({ health }: { readonly health: HealthView | null }) {
  const status = useChannel((state) => feedStatus(state, "broker_events"));
  const feed = health?.broker_events ?? null;
  return (
    <div className="truth-cell">
      <h2 className="label">Broker events</h2>
      <FeedWordLine status={status} testId="broker-events-status" />
      <dl className="facts">
        <div>
          <dt>Last trade update</dt>
          <dd>
            {feed?.last_trade_update_at == null ? (
              "none yet"
            ) : (
              <>
                <ClockTime at={feed.last_trade_update_at} /> <Age at={feed.last_trade_update_at} suffix=" ago" />
              </>
            )}
          </dd>
        </div>
        <div>
          <dt>Last reconnect</dt>
          <dd>{feed?.last_reconnect_at == null ? "none" : <ClockTime at={feed.last_reconnect_at} />}</dd>
        </div>
        <div>
          <dt>Reconnects</dt>
          <dd data-testid="broker-reconnects">{feed === null ? DASH : feed.reconnect_count}</dd>
        </div>
      </dl>
    </div>
  );
}

function Reconciliation({ health }: { readonly health: HealthView | null }) {
  const now = useNow();
  const [isAsking, setAsking] = useState(false);
  const lock = useRef(false);
  const at = health?.broker_events.last_reconciliation_at ?? null;
  const seconds = at === null ? null : Math.max(0, (now - Date.parse(at)) / 1000);
  const result = health?.broker_events.last_result ?? "";
  const drifts = health?.open_drifts ?? 0;
  const doubts = health?.in_doubt_orders ?? 0;
  const isStale = freshness(seconds, LIMITS.reconciliation) === "stale";

  async function ask(): Promise<void> {
    if (lock.current) return;
    lock.current = true;
    setAsking(true);
    try {
      await reconcileNow();
      notify("done", "Reconciliation asked for; its result shows here.");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      notify("failed", `Reconciliation was not begun. ${error.message}`);
    } finally {
      lock.current = false;
      setAsking(false);
    }
  }

  return (
    <div className="truth-cell">
      <h2 className="label">Reconciliation</h2>
      <p className="feed-word">
        <strong data-testid="reconciliation-age" className={isStale ? "warn" : undefined} title={at ?? undefined}>
          {at === null ? "never" : `${age(seconds)} ago`}
        </strong>
        {at !== null && <ResultWord result={result} />}
      </p>
      <div className="facts-row">
        <dl className="facts">
          <div>
            <dt>Open drift</dt>
            <dd className={drifts > 0 ? "warn" : undefined}>{health === null ? DASH : drifts}</dd>
          </div>
          <div>
            <dt>Orders in doubt</dt>
            <dd className={doubts > 0 ? "warn" : undefined}>{health === null ? DASH : doubts}</dd>
          </div>
        </dl>
        <button
          type="button"
          className="button small"
          data-testid="reconcile-now"
          aria-disabled={isAsking}
          onClick={() => void ask()}
        >
          {isAsking ? "Asking…" : "Reconcile now"}
        </button>
      </div>
    </div>
  );
}

/** The result's first word; the sentence behind it is in the title, for it can be long. */
function ResultWord({ result }: { readonly result: string }) {
  const word = result.split(":", 1)[0] ?? "";
  const isClean = word === "clean";
  return (
    <span className={isClean ? "ok" : word === "" ? "quiet" : "warn"} title={result}>
      <span aria-hidden="true">{isClean ? "✓ " : word === "" ? "" : "≠ "}</span>
      {word || "no result"}
    </span>
  );
}

function MarketData({ health }: { readonly health: HealthView | null }) {
  const status = useChannel((state) => feedStatus(state, "market_data"));
  const feed = health?.market_data ?? null;
  const isOff = feed !== null && feed.symbol_count === 0 && feed.last_message_at === null;
  return (
    <div className="truth-cell">
      <h2 className="label">Market data</h2>
      {isOff && status !== "UP" ? (
        <p className="feed-word">
          <strong>{status === null ? DASH : words(status)}</strong>
        </p>
      ) : (
        <FeedWordLine status={status} />
      )}
      <dl className="facts">
        <div>
          <dt>Last message</dt>
          <dd>
            <MarketAge health={health} />
          </dd>
        </div>
        <div>
          <dt>Watching</dt>
          <dd>{feed === null ? DASH : counted(feed.symbol_count, "symbol")}</dd>
        </div>
        <div>
          <dt>Reconnects</dt>
          <dd>{feed === null ? DASH : feed.reconnect_count}</dd>
        </div>
      </dl>
    </div>
  );
}

function MarketAge({ health }: { readonly health: HealthView | null }) {
  // The newest quote on this page may be younger than what health last said.
  const newestQuote = useChannel((state) => {
    let newest: string | null = null;
    for (const quote of state.quotes.values()) {
      if (newest === null || Date.parse(quote.at) > Date.parse(newest)) newest = quote.at;
    }
    return newest;
  });
  const stated = health?.market_data.last_message_at ?? null;
  const at =
    stated === null || (newestQuote !== null && Date.parse(newestQuote) > Date.parse(stated)) ? newestQuote : stated;
  return <Age at={at} limits={LIMITS.quote} testId="market-data-age" suffix=" ago" />;
}
