"""Prints every fill that trueup learns of, and by which way it learned of it.

    trueup demo                          # in another terminal
    python examples/watch_fills.py

Cut the stream with `trueup sim cut trade_updates --seconds 10` and see what comes by reconciliation instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json

from websockets.asyncio.client import connect


async def watch(url: str, count: int) -> None:
    """Follow the websocket until `count` fills were seen; 0 is for ever."""
    seen = 0
    # `connect` as an iterator opens the socket again whenever it closes. Each time, the first message is a snapshot of
    # everything, so nothing that happened in between stays unknown.
    async for socket in connect(url):
        async for text in socket:
            message = json.loads(text)
            data = message.get("data")
            match message.get("channel"):
                case "system:snapshot":
                    lag = data["health"]["truth_lag_s"]
                    print(f"connected: {len(data['executions'])} fills so far, truth lag {lag} s")
                case "trade:executed":
                    how = f"{data['source']}, {data['late_s']} s late"
                    if data["missed_by_stream"]:
                        how += ", missed by the stream"
                    print(f"{data['side']:<4} {data['quantity']} {data['symbol']} at {data['entry_price']}  ({how})")
                    seen += 1
                    if seen == count:
                        return
                case "truth:gap":
                    state = "opened" if data["closed_at"] is None else f"closed, {data['missed']} fills were missed"
                    print(f"gap {state}: {data['reason']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--count", type=int, default=0, help="stop after so many fills; 0 is never")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(watch(args.url, args.count))


if __name__ == "__main__":
    main()
