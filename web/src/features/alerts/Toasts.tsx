/**
 * What must be seen now: risk alerts by severity, and the outcome of one's own commands.
 *
 * Not for fills or connection changes. Invariant: a critical alert stays until a person has taken it away, and what is
 * shown is also said, in live regions that exist before there is anything to say.
 */
import { useEffect, useRef } from "react";
import { useChannel } from "../../hooks/useChannel";
import { words } from "../../lib/format";
import type { AlertEntry } from "../../state/reducer";
import { store } from "../../state/store";
import { dismissNotice, type Notice, useNotices } from "../../state/ui";
import "./alerts.css";

/** How long a warning, or the outcome of a command, stays by itself, in milliseconds. */
export const TOAST_MS = 10_000;
const SHOWN = 3;

/** The stack of toasts: critical first, newest last, the rest counted. */
export function Toasts() {
  const alerts = useChannel((state) => state.alerts);
  const notices = useNotices();
  const floating = alerts.filter((alert) => alert.onToast);
  const ranked = [
    ...floating.filter((alert) => alert.view.severity === "critical"),
    ...floating.filter((alert) => alert.view.severity !== "critical"),
  ];
  const shown = ranked.slice(0, SHOWN);
  const more = ranked.length - shown.length;
  const newest = floating[0];
  return (
    <>
      <p className="sr" role="status">
        {newest !== undefined && newest.view.severity !== "critical" ? `Warning: ${newest.view.reason}` : ""}
      </p>
      <p className="sr" role="alert">
        {newest?.view.severity === "critical" ? `Critical: ${newest.view.reason}` : ""}
      </p>
      <section className="toasts" aria-label="Notices">
        {notices.map((notice) => (
          <NoticeToast key={notice.id} notice={notice} />
        ))}
        {shown.map((alert) => (
          <AlertToast key={alert.key} alert={alert} />
        ))}
        {more > 0 && <p className="toast-more">+{more} in Alerts</p>}
      </section>
    </>
  );
}

/** Calls back after a while during which nobody pointed at the element or had the focus in it. */
function useExpiry(isExpiring: boolean, renewed: unknown, expire: () => void) {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const callback = useRef(expire);
  callback.current = expire;
  const stop = () => clearTimeout(timer.current);
  const start = () => {
    stop();
    if (isExpiring) timer.current = setTimeout(() => callback.current(), TOAST_MS);
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: a repetition begins the time anew
  useEffect(() => {
    start();
    return stop;
  }, [isExpiring, renewed]);
  return { onPointerEnter: stop, onPointerLeave: start, onFocus: stop, onBlur: start };
}

function AlertToast({ alert }: { readonly alert: AlertEntry }) {
  const isCritical = alert.view.severity === "critical";
  const verb = isCritical ? "Acknowledge" : "Dismiss";
  const hide = () => store.dispatch({ type: "hide-toast", key: alert.key });
  const pause = useExpiry(!isCritical, alert.count, hide);
  return (
    <div className={`toast ${isCritical ? "critical" : "warning"}`} data-testid="toast" {...pause}>
      <span className="toast-mark" aria-hidden="true">
        {isCritical ? "■" : "▲"}
      </span>
      <div>
        <p className="toast-title">
          {isCritical ? "Critical" : "Warning"}: {words(alert.view.type)}
          {alert.count > 1 && ` ×${alert.count}`}
        </p>
        <p>{alert.view.reason}</p>
      </div>
      <button type="button" className="toast-close" onClick={hide} aria-label={`${verb} ${words(alert.view.type)}`}>
        {verb}
      </button>
    </div>
  );
}

function NoticeToast({ notice }: { readonly notice: Notice }) {
  const hide = () => dismissNotice(notice.id);
  const pause = useExpiry(true, notice.id, hide);
  return (
    <div
      className={`toast ${notice.tone}`}
      role={notice.tone === "failed" ? "alert" : "status"}
      data-testid="notice"
      {...pause}
    >
      <span className={`toast-mark ${notice.tone === "failed" ? "crit" : "ok"}`} aria-hidden="true">
        {notice.tone === "failed" ? "⊘" : "✓"}
      </span>
      <p>{notice.text}</p>
      <button type="button" className="toast-close" onClick={hide}>
        Dismiss
      </button>
    </div>
  );
}
