/**
 * The kill switch: a typed word stops all trading, another typed word takes it back.
 *
 * Not for anything gentler. Invariant: the page shows "killed" only on the server's word, but turns off whatever
 * increases risk the moment a kill is sent; and a kill is sent again and again until the server has taken it.
 */
import { type FormEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { ApiError, kill, resume } from "../../api/client";
import { ClockTime } from "../../components/Age";
import { useChannel } from "../../hooks/useChannel";
import { useNow } from "../../hooks/useNow";
import { age, counted, stretch } from "../../lib/format";
import { environment, feedStatus, isKilled, isWorking, killStatement, openGap, truthLag } from "../../state/selectors";
import { store } from "../../state/store";
import { notify, showKillDialog, useKillDialog } from "../../state/ui";
import "./risk.css";

/** How long one attempt may take, and the pause before the next, in milliseconds. */
const ATTEMPT_MS = 2_000;
const PAUSE_MS = 1_000;

/** The button in the header that opens the dialog. */
export function KillButton() {
  const killed = useChannel(isKilled);
  return (
    <button
      type="button"
      className="button danger kill-open"
      data-testid="kill-open"
      aria-keyshortcuts="Control+Shift+."
      onClick={() => showKillDialog(true)}
    >
      <StopSign /> {killed ? "Killed: resume…" : "Kill switch…"}
    </button>
  );
}

function StopSign() {
  return (
    <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">
      <path d="M3.7.8h4.6l2.9 2.9v4.6l-2.9 2.9H3.7L.8 8.3V3.7z" fill="none" stroke="currentColor" strokeWidth="1.5" />
      <path d="M3.6 6h4.8" stroke="currentColor" strokeWidth="1.5" />
    </svg>
  );
}

/** The full-screen dialog, opened by a person or by a kill from anywhere; and the frame that stays while killed. */
export function KillSwitch() {
  const killed = useChannel(isKilled);
  const isAsked = useKillDialog();
  const wasKilled = useRef(false);

  useEffect(() => {
    // Every change of the kill state shows itself over the whole page, whoever made it.
    if (killed && !wasKilled.current) showKillDialog(true);
    if (!killed && wasKilled.current) {
      showKillDialog(false);
      notify("done", "The kill switch was released. Check the trading state before trading on.");
    }
    wasKilled.current = killed;
  }, [killed]);

  useEffect(() => {
    const open = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.shiftKey && (event.code === "Period" || event.key === ".")) {
        event.preventDefault();
        showKillDialog(true);
      }
    };
    document.addEventListener("keydown", open);
    return () => document.removeEventListener("keydown", open);
  }, []);

  return (
    <>
      {killed && !isAsked && <KilledBar />}
      {isAsked && (killed ? <EngagedDialog /> : <EngageDialog />)}
    </>
  );
}

function KilledBar() {
  const statement = useChannel(killStatement);
  return (
    <>
      <div className="killed-frame" aria-hidden="true" />
      <div className="banner fill-crit killed-bar" role="alert">
        <span className="banner-mark" aria-hidden="true">
          ■
        </span>
        <p>
          <strong>KILLED</strong>
          {statement !== null && (
            <>
              {" "}
              at <ClockTime at={statement.timestamp} /> · {statement.reason}
            </>
          )}
          <span className="banner-effect"> · read-only; cancels still work</span>
        </p>
        <button type="button" className="button small on-fill" onClick={() => showKillDialog(true)}>
          Resume…
        </button>
      </div>
    </>
  );
}

/** A modal over everything; Escape and the closing button do what `onClose` does. */
function FullScreen({
  label,
  tone,
  onClose,
  children,
}: {
  readonly label: string;
  readonly tone: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (element === null) return;
    if (!element.open) element.showModal();
    element.querySelector<HTMLElement>("[data-first]")?.focus();
    return () => element.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      className={`kill-dialog ${tone}`}
      role="alertdialog"
      aria-label={label}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <div className="kill-sheet">{children}</div>
    </dialog>
  );
}

function accountWords(broker: string, account: string): string {
  const money = { simulated: "SIMULATED", paper: "PAPER", real: "REAL MONEY", unknown: "ACCOUNT UNKNOWN" };
  const kind = money[environment(broker)];
  return account === "" ? kind : `${kind} ${account}`;
}

function Account() {
  const words = useChannel((state) => accountWords(state.health?.broker ?? "", state.health?.account ?? ""));
  return <p className="kill-account">{words}</p>;
}

function EngageDialog() {
  const now = useNow();
  const working = useChannel((state) => [...state.orders.values()].filter(isWorking).length);
  const held = useChannel((state) => state.portfolio?.positions.filter((each) => each.quantity !== 0).length ?? 0);
  const lag = truthLag(store.shown(), now);
  const isLive = useChannel((state) => state.phase === "live");
  const [word, setWord] = useState("");
  const [reason, setReason] = useState("");
  const [attempt, setAttempt] = useState(0);
  const [fault, setFault] = useState("");
  const sending = useRef(false);
  const isGone = useRef(false);
  const id = useId();
  const isArmed = word.trim() === "KILL";

  useEffect(() => {
    isGone.current = false;
    return () => {
      isGone.current = true;
    };
  }, []);

  async function engage(event: FormEvent): Promise<void> {
    event.preventDefault();
    if (sending.current) return;
    if (!isArmed) {
      setFault("Type KILL first.");
      return;
    }
    sending.current = true;
    setFault("");
    for (let tried = 1; !isGone.current; tried += 1) {
      setAttempt(tried);
      try {
        await kill(reason.trim() || "engaged by hand on the dashboard", ATTEMPT_MS);
        // The dialog changes when the server tells that the switch is on, not because a request was answered.
        return;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status >= 400 && error.status < 500) {
          sending.current = false;
          setAttempt(0);
          setFault(error.message);
          return;
        }
        setFault("No answer yet from the server; trying again.");
        await new Promise((done) => setTimeout(done, PAUSE_MS));
      }
    }
  }

  return (
    <FullScreen label="Stop all trading?" tone="asking" onClose={() => showKillDialog(false)}>
      <header className="kill-head">
        <h1>Stop all trading?</h1>
        <Account />
      </header>
      <ul className="kill-effects">
        <li>
          Every working order is cancelled: <strong>{counted(working, "order")}</strong>.
        </li>
        <li>Every new order is blocked until somebody types RESUME.</li>
        <li>
          Positions stay open: <strong>{counted(held, "position")}</strong>. Nothing is sold or bought back.
        </li>
        <li className="quiet">
          {lag === null ? "Nothing has been proven by the broker yet." : `Last proven by the broker ${age(lag)} ago.`}
          {!isLive && " The page is not connected; the kill goes by its own request."}
        </li>
      </ul>
      <form onSubmit={(event) => void engage(event)} noValidate>
        <div className="kill-fields">
          <div className="field">
            <label htmlFor={`${id}-word`}>
              Type <strong className="mono-word">KILL</strong> to confirm
            </label>
            <input
              id={`${id}-word`}
              className="input kill-word"
              data-first
              value={word}
              onChange={(event) => {
                setWord(event.target.value.toUpperCase());
                setFault("");
              }}
              autoComplete="off"
              autoCapitalize="characters"
              spellCheck={false}
              readOnly={attempt > 0}
              aria-invalid={fault !== "" && attempt === 0}
              aria-describedby={`${id}-fault`}
            />
          </div>
          <div className="field">
            <label htmlFor={`${id}-reason`}>Reason, for the record (may stay empty)</label>
            <input
              id={`${id}-reason`}
              className="input"
              value={reason}
              onChange={(event) => setReason(event.target.value)}
              autoComplete="off"
              readOnly={attempt > 0}
            />
          </div>
        </div>
        <div className="kill-actions">
          <button type="submit" className="button danger" aria-disabled={!isArmed || attempt > 0}>
            {attempt > 0 ? `Sent, attempt ${attempt}…` : "Engage kill switch"}
          </button>
          <button type="button" className="button" onClick={() => showKillDialog(false)}>
            Keep trading <kbd>Esc</kbd>
          </button>
        </div>
        <p className="fault kill-fault" id={`${id}-fault`} role="alert">
          {fault}
        </p>
      </form>
      <details className="kill-fallback">
        <summary>Server unreachable?</summary>
        <ol>
          <li>
            On the machine that runs trueup: <code>trueup kill --reason "by hand"</code>
          </li>
          <li>At the broker's own site: cancel all open orders, then suspend trading for the account.</li>
          <li>
            Then stop the trueup process; on its next start it compares itself with the broker before anything else.
          </li>
        </ol>
      </details>
    </FullScreen>
  );
}

function EngagedDialog() {
  const now = useNow();
  const statement = useChannel(killStatement);
  const working = useChannel((state) => [...state.orders.values()].filter(isWorking).length);
  const held = useChannel((state) => state.portfolio?.positions.filter((each) => each.quantity !== 0).length ?? 0);
  const provenAt = useChannel((state) => state.health?.broker_events.last_reconciliation_at ?? null);
  const at = statement?.timestamp ?? null;
  const isProven = at !== null && provenAt !== null && Date.parse(provenAt) > Date.parse(at);
  const elapsed = at === null ? null : Math.max(0, (now - Date.parse(at)) / 1000);
  return (
    <FullScreen label="Trading is killed" tone="engaged" onClose={() => showKillDialog(false)}>
      <header className="kill-head">
        <h1>Trading is killed</h1>
        <Account />
      </header>
      <p className="kill-why" role="status">
        {statement === null ? (
          "The trading state is KILLED."
        ) : (
          <>
            {statement.operator === "system" ? "By the system" : "By a person"}
            {statement.asked_by ? ` (${statement.asked_by})` : ""} at <ClockTime at={statement.timestamp} />
            {statement.reason === "" ? "" : `: ${statement.reason}`}
          </>
        )}
        {elapsed !== null && <span className="quiet"> · {stretch(elapsed)} ago</span>}
      </p>
      <ul className="kill-checks">
        <Check state="pass">Gate closed: no new order leaves</Check>
        <Check state={working === 0 ? "pass" : "wait"}>
          {working === 0
            ? "No working order is left"
            : `${counted(working, "order")} still working, cancels are under way`}
        </Check>
        <Check state={isProven ? "pass" : "wait"}>
          {isProven
            ? "Proven by a snapshot of the broker since the kill"
            : "Not yet proven by a snapshot since the kill"}
        </Check>
        <Check state={held === 0 ? "pass" : "note"}>
          {held === 0 ? "No position is open" : `${counted(held, "position")} stay open`}
        </Check>
      </ul>
      <ResumeForm />
    </FullScreen>
  );
}

function Check({
  state,
  children,
}: {
  readonly state: "pass" | "wait" | "note" | "fail";
  readonly children: ReactNode;
}) {
  const marks = { pass: "✓", wait: "…", note: "●", fail: "✗" };
  const tones = { pass: "ok", wait: "warn", note: "quiet", fail: "crit" };
  const spoken = { pass: "done: ", wait: "waiting: ", note: "", fail: "not met: " };
  return (
    <li>
      <span className={`check-mark ${tones[state]}`} aria-hidden="true">
        {marks[state]}
      </span>
      <span className="sr">{spoken[state]}</span>
      {children}
    </li>
  );
}

function ResumeForm() {
  const isLive = useChannel((state) => state.phase === "live");
  const isFeedUp = useChannel((state) => feedStatus(state, "broker_events") === "UP");
  const hasGap = useChannel((state) => openGap(state) !== null);
  const doubts = useChannel((state) => state.health?.in_doubt_orders ?? 0);
  const drifts = useChannel((state) => state.health?.open_drifts ?? 0);
  const [word, setWord] = useState("");
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState("");
  const [isSending, setSending] = useState(false);
  const lock = useRef(false);
  const reasonField = useRef<HTMLInputElement>(null);
  const id = useId();
  const isReady = isLive && isFeedUp && !hasGap;
  const isArmed = isReady && word.trim() === "RESUME" && reason.trim() !== "";

  async function release(event: FormEvent): Promise<void> {
    event.preventDefault();
    if (lock.current) return;
    if (!isReady) return setFault("Wait until the conditions marked ✗ are met.");
    if (word.trim() !== "RESUME") return setFault("Type RESUME first.");
    if (reason.trim() === "") {
      reasonField.current?.focus();
      return setFault("Say why trading may go on.");
    }
    lock.current = true;
    setSending(true);
    setFault("");
    try {
      await resume(reason.trim());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFault(error.message);
    } finally {
      lock.current = false;
      setSending(false);
    }
  }

  return (
    <form className="resume" onSubmit={(event) => void release(event)} noValidate>
      <h2>Resume trading</h2>
      <ul className="kill-checks">
        <Check state={isLive ? "pass" : "fail"}>Page connected</Check>
        <Check state={isFeedUp ? "pass" : "fail"}>Broker events up</Check>
        <Check state={hasGap ? "fail" : "pass"}>No gap open</Check>
        <Check state={doubts === 0 ? "pass" : "note"}>
          {doubts === 0 ? "No order in doubt" : `${counted(doubts, "order")} in doubt`}
        </Check>
        <Check state={drifts === 0 ? "pass" : "note"}>
          {drifts === 0 ? "No open drift" : `${counted(drifts, "open drift")}`}
        </Check>
      </ul>
      <div className="kill-fields">
        <div className="field">
          <label htmlFor={`${id}-reason`}>Why trading may go on</label>
          <input
            id={`${id}-reason`}
            ref={reasonField}
            className="input"
            data-first
            value={reason}
            onChange={(event) => {
              setReason(event.target.value);
              setFault("");
            }}
            autoComplete="off"
          />
        </div>
        <div className="field">
          <label htmlFor={`${id}-word`}>
            Type <strong className="mono-word">RESUME</strong> to confirm
          </label>
          <input
            id={`${id}-word`}
            className="input kill-word"
            value={word}
            onChange={(event) => {
              setWord(event.target.value.toUpperCase());
              setFault("");
            }}
            autoComplete="off"
            autoCapitalize="characters"
            spellCheck={false}
            aria-describedby={`${id}-fault`}
          />
        </div>
      </div>
      <div className="kill-actions">
        <button type="submit" className="button primary" aria-disabled={!isArmed || isSending}>
          {isSending ? "Sending…" : "Resume trading"}
        </button>
        <button type="button" className="button" onClick={() => showKillDialog(false)}>
          View read-only desk <kbd>Esc</kbd>
        </button>
      </div>
      <p className="fault kill-fault" id={`${id}-fault`} role="alert">
        {fault}
      </p>
    </form>
  );
}
