/**
 * Numbers and instants as people read them.
 *
 * Not for arithmetic on what the account holds, but for one sum, done in whole millionths. Invariant: a missing value
 * is a dash, never a zero, and a minus is a true minus.
 */

export const DASH = "—";
const MINUS = "−";

function grouped(minimum: number, maximum: number): Intl.NumberFormat {
  return new Intl.NumberFormat("en-US", {
    minimumFractionDigits: minimum,
    maximumFractionDigits: maximum,
    useGrouping: true,
  });
}

const MONEY = grouped(2, 2);
const PRICE = grouped(2, 4);
const SMALL_PRICE = grouped(4, 6);
const QUANTITY = grouped(0, 9);

/** Formats with a true minus, and without a sign on what rounds to zero. */
function signless(format: Intl.NumberFormat, value: number): string {
  const text = format.format(Math.abs(value));
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

/** Money with two decimals: `1,024,310.55`. */
export function money(value: number | null): string {
  return value === null ? DASH : signless(MONEY, value);
}

/** A price as exactly as it was given, at least two decimals; four and more below one. */
export function price(value: number | null): string {
  if (value === null) return DASH;
  return signless(Math.abs(value) < 1 && value !== 0 ? SMALL_PRICE : PRICE, value);
}

/** A quantity without needless zeros; short is minus. */
export function quantity(value: number | null): string {
  return value === null ? DASH : signless(QUANTITY, value);
}

export type Direction = "up" | "down" | "flat";

/** Which way a signed amount goes once rounded to cents. */
export function direction(value: number | null): Direction {
  if (value === null || !/[1-9]/.test(MONEY.format(Math.abs(value)))) return "flat";
  return value > 0 ? "up" : "down";
}

const SIGN: Record<Direction, string> = { up: "+", down: MINUS, flat: "" };
export const GLYPH: Record<Direction, string> = { up: "▲", down: "▼", flat: "" };

/** A gain or loss with its sign: `+376.00`, `−270.00`, `0.00`. */
export function signedMoney(value: number | null): string {
  return value === null ? DASH : SIGN[direction(value)] + MONEY.format(Math.abs(value));
}

/** A percentage with its sign: `−2.05%`. */
export function signedPercent(value: number | null): string {
  return value === null ? DASH : `${SIGN[direction(value)]}${MONEY.format(Math.abs(value))}%`;
}

/** An age in seconds: `0.4 s`, `47 s`, `14 m`, `2 h`, `3 d`. */
export function age(seconds: number | null): string {
  if (seconds === null) return DASH;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** A stretch of seconds to the second: `47 s`, `3 m 07 s`, `2 h 14 m`. */
export function stretch(seconds: number | null): string {
  if (seconds === null) return DASH;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3_600)} h ${String(Math.floor((whole % 3_600) / 60)).padStart(2, "0")} m`;
}

/** How late something was learned: `88 ms`, `4.21 s`, `38.2 s`, then as a stretch. */
export function lateness(seconds: number | null): string {
  if (seconds === null) return DASH;
  const size = Math.abs(seconds);
  const text =
    size < 1
      ? `${Math.round(size * 1000)} ms`
      : size < 10
        ? `${size.toFixed(2)} s`
        : size < 60
          ? `${size.toFixed(1)} s`
          : stretch(size);
  return seconds < 0 ? MINUS + text : text;
}

export const ZONES = [
  { zone: "America/New_York", label: "ET" },
  { zone: "UTC", label: "UTC" },
  { zone: undefined, label: "local" },
] as const;
export type Zone = (typeof ZONES)[number];

const clocks = new Map<string, Intl.DateTimeFormat>();

function clock(zone: Zone, kind: "time" | "ms" | "day"): Intl.DateTimeFormat {
  const key = `${zone.label}/${kind}`;
  let format = clocks.get(key);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-GB", {
      ...(zone.zone === undefined ? {} : { timeZone: zone.zone }),
      ...(kind === "day"
        ? { day: "2-digit", month: "short" }
        : { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
      ...(kind === "ms" ? { fractionalSecondDigits: 3 } : {}),
    });
    clocks.set(key, format);
  }
  return format;
}

/** An instant as a clock time in a zone, with its date in front when that is another day than `now`. */
export function time(at: string | null, zone: Zone, now: number, milliseconds = false): string {
  const then = at === null ? Number.NaN : Date.parse(at);
  if (Number.isNaN(then)) return DASH;
  const text = clock(zone, milliseconds ? "ms" : "time").format(then);
  const day = clock(zone, "day");
  return day.format(then) === day.format(now) ? text : `${day.format(then)} ${text}`;
}

/** An instant as a clock time in a zone, from milliseconds since 1970. */
export function clockTime(at: number, zone: Zone): string {
  return clock(zone, "time").format(at);
}

/** The instant that a typed clock time such as `14:32:11.250` means in a zone, on the day of `near`; null for no time. */
export function instantOf(text: string, zone: Zone, near: number): number | null {
  const read = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,3}))?)?$/.exec(text.trim());
  if (read === null) return null;
  const [hours, minutes, seconds] = [Number(read[1]), Number(read[2]), Number(read[3] ?? 0)];
  if (hours > 23 || minutes > 59 || seconds > 59) return null;
  const wanted = ((hours * 60 + minutes) * 60 + seconds) * 1000 + Number((read[4] ?? "").padEnd(3, "0"));
  const part = new Map(
    clock(zone, "ms")
      .formatToParts(near)
      .map((each) => [each.type as string, Number(each.value)]),
  );
  const minute = (part.get("hour") ?? 0) * 60 + (part.get("minute") ?? 0);
  const shown = (minute * 60 + (part.get("second") ?? 0)) * 1000 + (part.get("fractionalSecond") ?? 0);
  return near + wanted - shown;
}

/** The exact sum of amounts, done in whole millionths so that no cent is made or lost by floating point. */
export function exactSum(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + Math.round(value * 1e6), 0) / 1e6;
}

/** `PARTIALLY_FILLED` as `Partially filled`. */
export function words(name: string): string {
  const text = name.replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A count with its noun: `1 fill`, `3 fills`; `several` when the plural is another word. */
export function counted(count: number, noun: string, several = `${noun}s`): string {
  return `${QUANTITY.format(count)} ${count === 1 ? noun : several}`;
}
