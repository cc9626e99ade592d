/** A small line of a number's recent past; the number itself stands beside it. */

interface SparklineProps {
  readonly points: readonly { readonly at: number; readonly value: number }[];
  readonly from: number;
  readonly to: number;
  /** Stretches of time to shade, in milliseconds. */
  readonly shaded?: readonly { readonly from: number; readonly to: number }[];
  readonly label: string;
  readonly tone: string;
}

const WIDTH = 200;
const HEIGHT = 40;

/** Draws the points of the window `from` to `to`; the scale starts at zero and never magnifies noise. */
export function Sparkline({ points, from, to, shaded = [], label, tone }: SparklineProps) {
  const span = Math.max(1, to - from);
  const top = Math.max(10, ...points.map((point) => point.value)) * 1.08;
  const x = (at: number) => ((Math.min(Math.max(at, from), to) - from) / span) * WIDTH;
  const y = (value: number) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
  const inside = points.filter((point) => point.at >= from);
  const line = inside.map((point) => `${x(point.at).toFixed(1)},${y(point.value).toFixed(1)}`).join(" ");
  const first = inside[0];
  const last = inside.at(-1);
  return (
    <svg
      className={`sparkline ${tone}`}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {shaded
        .filter((band) => band.to > from)
        .map((band) => (
          <rect
            key={band.from}
            className="sparkline-band"
            x={x(band.from)}
            y="0"
            width={Math.max(1, x(band.to) - x(band.from))}
            height={HEIGHT}
          />
        ))}
      {first !== undefined && last !== undefined && (
        <>
          <polygon className="sparkline-area" points={`${x(first.at)},${HEIGHT} ${line} ${x(last.at)},${HEIGHT}`} />
          <polyline className="sparkline-line" points={line} vectorEffect="non-scaling-stroke" />
        </>
      )}
    </svg>
  );
}
