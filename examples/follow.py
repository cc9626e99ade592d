"""Follows one channel with trueup's own client, and loses nothing when the gateway restarts.

trueup demo                              # in another terminal
python examples/follow.py order:status
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from trueup.client import connect


async def follow(url: str, channel: str, count: int) -> None:
    """Print so many events of a channel; 0 is for ever."""
    seen = 0
    async with connect(url) as trueup:
        async for event in trueup.events(channel):
            print(f"{event.channel} {event.offset}: {event.data}")
            seen += 1
            if seen == count:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("channel", nargs="?", default="order:status")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--count", type=int, default=0, help="stop after so many; 0 is never")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(args.url, args.channel, args.count))


if __name__ == "__main__":
    main()
