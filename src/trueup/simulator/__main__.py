"""`python -m trueup.simulator`: the simulator on its own, without the rest of the house.

For: a first look and for tests in other processes. Not for: settings files; every choice is on the command line.
Invariant: a wrong choice ends with one line that says what would be right.
"""

import argparse
import asyncio
import logging
import signal
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

from trueup.simulator.alpaca import PortTaken, SimulatorConfig, serve
from trueup.simulator.model import AccountRules, FillModel
from trueup.simulator.replay import ReplayInvalid

log = logging.getLogger("trueup.simulator")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of dollars above 0, such as 100000")
    return amount


def _config(arguments: list[str]) -> SimulatorConfig:
    parser = argparse.ArgumentParser(prog="python -m trueup.simulator", description="A local broker on Alpaca's wire.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8801, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="fixes prices, fills and faults (default: %(default)s)")
    parser.add_argument("--replay", type=Path, help="play recorded minute bars from this CSV or Parquet file")
    parser.add_argument("--speed", type=float, default=1.0, help="market time per real time (default: %(default)s)")
    parser.add_argument("--key", default="SIM", help="API key that clients must send (default: %(default)s)")
    parser.add_argument("--secret", default="SIM", help="API secret that clients must send (default: %(default)s)")
    parser.add_argument("--cash", type=_amount, default=Decimal(100_000), help="opening cash (default: %(default)s)")
    parser.add_argument(
        "--rate-limit", type=int, default=200, help="REST requests a minute, 0 for no limit (default: %(default)s)"
    )
    parser.add_argument("--manual", action="store_true", help="fill only on request (POST /sim/fill)")
    parser.add_argument("--stamp", action="store_true", help="put sent_ns into every trade update, for measuring")
    parser.add_argument("--regular-hours", action="store_true", help="trade 09:30-16:00 New York on weekdays only")
    parser.add_argument(
        "--other-activity-ids", action="store_true", help="give activities other ids than the stream's executions"
    )
    chosen = parser.parse_args(arguments)
    try:
        return SimulatorConfig(
            host=chosen.host,
            port=chosen.port,
            seed=chosen.seed,
            replay=chosen.replay,
            speed=chosen.speed,
            key=chosen.key,
            secret=chosen.secret,
            rate_limit=chosen.rate_limit,
            stamp=chosen.stamp,
            is_always_open=not chosen.regular_hours,
            activity_ids_match=not chosen.other_activity_ids,
            rules=AccountRules(cash=chosen.cash),
            fill_model=FillModel(is_manual=chosen.manual),
        )
    except ValueError as problem:
        parser.error(str(problem))


async def _run(config: SimulatorConfig) -> None:
    serving = asyncio.ensure_future(
        serve(
            config,
            ready=lambda port: log.info("simulator ready url=http://%s:%d seed=%d", config.host, port, config.seed),
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()
    log.info("simulator stopped")


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted; the exit code is 0, or 2 for what cannot work."""
    config = _config(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_run(config))
    except (PortTaken, ReplayInvalid) as problem:
        log.error("%s", problem)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
