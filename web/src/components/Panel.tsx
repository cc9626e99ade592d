/**
 * A framed part of the page, in each of its states: loading, empty, ready, frozen without a connection, broken.
 *
 * Not for the content. Invariant: a panel never shows old values as if they were new, and one that breaks leaves its
 * neighbours alone.
 */
import { Component, type ReactNode, useId } from "react";
import { useChannel } from "../hooks/useChannel";
import { useNow, useZone } from "../hooks/useNow";
import { age, clockTime, time } from "../lib/format";

interface PanelProps {
  readonly title: string;
  readonly children: ReactNode;
  readonly count?: string | number | undefined;
  /** When the content was true; the header shows it. */
  readonly asOf?: string | null;
  /** What to say, as a fact, when there is nothing to list. */
  readonly empty?: string | false;
  readonly tools?: ReactNode;
  /** For content without a control of its own: the keyboard can then scroll it. */
  readonly isText?: boolean;
  readonly className?: string;
  readonly testId?: string;
}

/** A panel with its header; shows a skeleton until the first snapshot and a sentence when there is nothing. */
export function Panel({
  title,
  children,
  count,
  asOf,
  empty,
  tools,
  isText = false,
  className = "",
  testId,
}: PanelProps) {
  const heading = useId();
  const known = useChannel((state) => state.snapshotAt !== null);
  const isFrozen = useChannel((state) => state.phase !== "live" && state.snapshotAt !== null);
  return (
    <section className={`panel ${className}`} aria-labelledby={heading} data-frozen={isFrozen} data-testid={testId}>
      <header className="panel-head">
        <h2 id={heading}>
          {title}
          {known && count !== undefined && <span className="panel-count"> {count}</span>}
        </h2>
        {tools}
        {known && <AsOf at={asOf} isFrozen={isFrozen} />}
      </header>
      <div className="panel-body" {...(isText ? { tabIndex: 0, role: "group", "aria-label": `${title}, list` } : {})}>
        <Boundary title={title}>
          {!known ? <Skeleton /> : empty ? <Empty sentence={empty} at={asOf} /> : children}
        </Boundary>
      </div>
    </section>
  );
}

function AsOf({ at, isFrozen }: { readonly at: string | null | undefined; readonly isFrozen: boolean }) {
  const now = useNow();
  const zone = useZone();
  const lastMessageAt = useChannel((state) => state.lastMessageAt);
  if (isFrozen) return <span className="panel-asof">as of {clockTime(lastMessageAt, zone)}, not connected</span>;
  if (at === undefined) return null;
  if (at === null) return <span className="panel-asof">not proven yet</span>;
  const seconds = Math.max(0, (now - Date.parse(at)) / 1000);
  return (
    <span className="panel-asof" title={`${at}, ${age(seconds)} ago`}>
      as of {time(at, zone, now)}
    </span>
  );
}

function Skeleton() {
  return (
    <div className="skeleton">
      <span className="sr" style={{ height: 1 }}>
        Loading
      </span>
      <span style={{ width: "72%" }} />
      <span style={{ width: "86%" }} />
      <span style={{ width: "64%" }} />
    </div>
  );
}

function Empty({ sentence, at }: { readonly sentence: string; readonly at: string | null | undefined }) {
  const now = useNow();
  const zone = useZone();
  return (
    <p className="panel-empty">
      {sentence}
      {at !== undefined && at !== null && <small>as of {time(at, zone, now)}</small>}
    </p>
  );
}

interface BoundaryState {
  readonly fault: string | null;
}

class Boundary extends Component<{ readonly title: string; readonly children: ReactNode }, BoundaryState> {
  override state: BoundaryState = { fault: null };

  static getDerivedStateFromError(error: unknown): BoundaryState {
    return { fault: error instanceof Error ? error.message : String(error) };
  }

  override render(): ReactNode {
    if (this.state.fault === null) return this.props.children;
    return (
      <div className="panel-empty" role="alert">
        <span>{this.props.title} cannot be shown.</span>
        <small>{this.state.fault}</small>
        <button type="button" className="button small" onClick={() => this.setState({ fault: null })}>
          Show again
        </button>
      </div>
    );
  }
}
