/**
 * A scripted server on the other end of `WebSocket`: tests open, send, cut and go silent as they please.
 *
 * To extend it: add a verb to `FakeServer` that says what a real server can do, and let it act on `Line`, the server's
 * end of one connection. Not for HTTP (`fakeApi.ts`). Invariant: nothing happens that a real socket could not do; what
 * is sent to a closed page never arrives.
 */
import type { Channel, ChannelMap } from "../api/types";
import type { Envelope } from "../state/wire";
import { snapshot } from "./facts";

/** The server's end of one connection, and the page's `WebSocket` at the same time. */
export class Line extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;

  readyState: number = Line.CONNECTING;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  /** What the page has sent, parsed. */
  readonly heard: Record<string, unknown>[] = [];
  readonly url: string;

  constructor(url: string) {
    super();
    this.url = url;
    server().take(this);
  }

  send(text: string): void {
    const message = JSON.parse(text) as Record<string, unknown>;
    this.heard.push(message);
    server().answer(this, message);
  }

  close(): void {
    this.readyState = Line.CLOSED;
  }

  /** The server accepts. */
  open(): void {
    this.readyState = Line.OPEN;
    this.onopen?.();
  }

  /** The server says something; text is sent as it is. */
  say(message: unknown): void {
    if (this.readyState !== Line.OPEN) return;
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  /** The server, or the net between, ends it. */
  cut(reason = ""): void {
    this.readyState = Line.CLOSED;
    this.onclose?.({ reason });
  }
}

let current: FakeServer | undefined;

function server(): FakeServer {
  if (current === undefined) throw new Error("make a FakeServer before a socket is opened");
  return current;
}

export class FakeServer {
  readonly lines: Line[] = [];
  epoch = "epoch-1";
  /** Whether it answers pings and requests for a snapshot. */
  isSilent = false;
  /** Whether a new connection is accepted by itself and gets its snapshot. */
  accepts = true;
  readonly offsets: Record<string, number> = {};
  /** All that was published under this epoch. */
  readonly history: Envelope[] = [];
  facts: Partial<ChannelMap["system:snapshot"]> = {};

  constructor() {
    current = this;
  }

  /** The newest connection. */
  get line(): Line {
    const line = this.lines.at(-1);
    if (line === undefined) throw new Error("the page has opened no socket");
    return line;
  }

  take(line: Line): void {
    this.lines.push(line);
    if (!this.accepts) return;
    queueMicrotask(() => {
      line.open();
      if (!line.url.endsWith("?resume")) line.say(this.snapshot());
    });
  }

  answer(line: Line, message: Record<string, unknown>): void {
    if (this.isSilent) return;
    queueMicrotask(() => {
      if (message.type === "ping") line.say({ type: "pong", server_time: new Date(Date.now()).toISOString() });
      if (message.type === "resync") line.say(this.snapshot());
      if (message.type === "resume")
        this.resume(line, message.cursors as Record<string, { epoch: string; offset: number }>);
    });
  }

  /** What followed the cursors, or the whole state when they are of another epoch. */
  resume(line: Line, cursors: Record<string, { epoch: string; offset: number }>): void {
    const recovered = Object.values(cursors).every((cursor) => cursor.epoch === this.epoch);
    line.say({ type: "resumed", recovered, epoch: this.epoch });
    if (!recovered) line.say(this.snapshot());
    else for (const each of this.history) if (each.offset > (cursors[each.channel]?.offset ?? 0)) line.say(each);
  }

  /** The whole state, up to the offsets published so far. */
  snapshot(): Envelope {
    return {
      channel: "system:snapshot",
      data: snapshot(this.facts),
      epoch: this.epoch,
      offset: 0,
      at: new Date(Date.now()).toISOString(),
      cursors: { ...this.offsets },
    };
  }

  /** An envelope with the channel's next offset. */
  envelope<C extends Channel>(channel: C, data: ChannelMap[C]): Envelope {
    const offset = (this.offsets[channel] ?? 0) + 1;
    this.offsets[channel] = offset;
    const made = { channel, data, epoch: this.epoch, offset, at: new Date(Date.now()).toISOString() } as Envelope;
    this.history.push(made);
    return made;
  }

  /** Publishes on a channel to the newest connection. */
  publish<C extends Channel>(channel: C, data: ChannelMap[C]): void {
    this.line.say(this.envelope(channel, data));
  }

  /** Publishes something that never arrives. */
  lose<C extends Channel>(channel: C, data: ChannelMap[C]): void {
    this.envelope(channel, data);
  }
}
