/** How an order stands: a drawn glyph and the exact words; what may still fill never looks finished. */
import { words } from "../lib/format";

interface Look {
  readonly tone: string;
  readonly draw: "ring" | "dashed" | "dot" | "half" | "turning" | "square" | "cross" | "barred" | "question";
}

const LOOKS: Record<string, Look> = {
  PENDING_NEW: { tone: "quiet", draw: "dashed" },
  NEW: { tone: "accent", draw: "dot" },
  PARTIALLY_FILLED: { tone: "accent", draw: "half" },
  PENDING_CANCEL: { tone: "warn", draw: "turning" },
  PENDING_REPLACE: { tone: "warn", draw: "turning" },
  FILLED: { tone: "ok", draw: "square" },
  CANCELED: { tone: "quiet", draw: "cross" },
  CANCELLED: { tone: "quiet", draw: "cross" },
  EXPIRED: { tone: "quiet", draw: "cross" },
  REJECTED: { tone: "crit", draw: "barred" },
  DENIED: { tone: "crit", draw: "barred" },
  PENDING: { tone: "quiet", draw: "dashed" },
  SUBMITTED: { tone: "accent", draw: "dot" },
};

const UNKNOWN: Look = { tone: "warn", draw: "question" };

const LABELS: Record<string, string> = {
  NEW: "Working",
  PENDING_NEW: "Unconfirmed",
  PENDING_CANCEL: "Cancel pending",
  PENDING_REPLACE: "Replace pending",
  PARTIALLY_FILLED: "Part filled",
  CANCELED: "Cancelled",
};

const SHAPES = {
  ring: <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" />,
  dashed: <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" strokeDasharray="2.2 2" />,
  dot: <circle cx="6" cy="6" r="4.5" fill="currentColor" />,
  half: (
    <>
      <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
      <path d="M6 1.5a4.5 4.5 0 0 1 0 9z" fill="currentColor" />
    </>
  ),
  turning: (
    <>
      <path d="M10.2 4.4A4.5 4.5 0 1 0 10.4 7.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
      <circle cx="6" cy="6" r="1.6" fill="currentColor" />
    </>
  ),
  square: <rect x="1.8" y="1.8" width="8.4" height="8.4" rx="1.5" fill="currentColor" />,
  cross: <path d="m2.5 2.5 7 7m0-7-7 7" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" />,
  barred: (
    <>
      <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
      <path d="m3 9 6-6" stroke="currentColor" strokeWidth="1.5" />
    </>
  ),
  question: (
    <path
      d="M3.6 4.2a2.4 2.4 0 1 1 3.6 2.1c-.8.45-1.2.9-1.2 1.7M6 10.4v.1"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
    />
  ),
} as const;

/** The words that people read for an exact order status. */
export function statusWords(detail: string): string {
  return LABELS[detail] ?? words(detail);
}

/** Glyph and words of a status; with a doubt about it, the doubt comes first. */
export function OrderStatus({
  status,
  detail,
  inDoubt = "",
}: {
  readonly status: string;
  readonly detail: string;
  readonly inDoubt?: string;
}) {
  const exact = detail || status;
  const look = inDoubt === "" ? (LOOKS[exact] ?? LOOKS[status] ?? UNKNOWN) : UNKNOWN;
  const title =
    inDoubt === ""
      ? `${status}: ${exact}`
      : `${status}: ${exact}. Whether the ${inDoubt} reached the broker is not known; it may still fill.`;
  return (
    <span className="order-status" title={title}>
      <svg width="12" height="12" viewBox="0 0 12 12" className={look.tone} aria-hidden="true">
        {SHAPES[look.draw]}
      </svg>
      <span>
        {statusWords(exact)}
        {inDoubt !== "" && <span className="in-doubt">in doubt: {inDoubt}</span>}
        {inDoubt === "" && look.draw === "turning" && <span className="sub">may still fill</span>}
      </span>
    </span>
  );
}
