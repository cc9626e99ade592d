/** Circuit breakers that are on, at the top of the page. Not for alerts, which pass. */
import { ClockTime } from "../../components/Age";
import { useChannel } from "../../hooks/useChannel";
import { words } from "../../lib/format";
import { isShownBreaker } from "../../state/selectors";

/** One banner for every breaker that is on: name, why, since when, and what it blocks. */
export function Breakers() {
  const breakers = useChannel((state) => state.breakers);
  return breakers.filter(isShownBreaker).map((breaker) => (
    <div className="banner fill-crit" role="alert" key={breaker.breaker} data-testid="breaker-banner">
      <span className="banner-mark" aria-hidden="true">
        ■
      </span>
      <p>
        <strong>Circuit breaker: {words(breaker.breaker)}</strong> · {breaker.reason} · since{" "}
        <ClockTime at={breaker.timestamp} /> · new entries are blocked; cancels and closing orders are not
      </p>
    </div>
  ));
}
