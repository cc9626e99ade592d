"""The examples run as they stand, against real processes; and the naive bot shows what it is there to show."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import DEADLINE_S, Process, Run, free_port, until

Start = Callable[..., Process]

EXAMPLES = Path(__file__).parents[2] / "examples"


def _example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_order_and_watch_fills(start: Start, tmp_path: Path) -> None:
    demo = start("demo", "--port", str(free_port()), "--state", str(tmp_path / "s"), "--seed", "3")
    url = demo.ready["url"]
    watched = _example("watch_fills.py", "--url", url.replace("http", "ws") + "/ws", "--count", "1")
    assert watched.startswith("connected: ")
    assert " at " in watched.splitlines()[-1]
    followed = _example("follow.py", "system:health", "--url", url, "--count", "2")
    assert followed.count("system:health ") == 2
    story = _example("first_order.py", "BUY", "AAPL", "1", "--url", url)
    assert "FILLED" in story
    assert "its story:" in story
    refused = subprocess.run(
        [sys.executable, str(EXAMPLES / "first_order.py"), "BUY", "AAPL", "-1", "--url", url],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("not submitted: ")


def test_the_naive_bot_is_right_until_its_stream_is_cut(start: Start, trueup: Run) -> None:
    exchange = start("simulate", "--port", "0", "--seed", "11", "--rate-limit", "0")
    url = exchange.ready["url"]
    bot = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "naive_bot.py"), "--url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    believed: list[dict[str, Any]] = []
    assert bot.stdout is not None
    lines = bot.stdout
    reader = threading.Thread(target=lambda: believed.extend(json.loads(line) for line in lines), daemon=True)
    reader.start()
    try:
        assert trueup("sim", "price", "AAPL", "200", "--hold", "600", "--url", url).code == 0

        def fill() -> str:
            placed = trueup("sim", "order", "BUY", "AAPL", "5", "--limit", "150", "--url", url, "--json").json()
            assert trueup("sim", "fill", placed["id"], "5", "150", "--url", url).code == 0
            order: str = placed["id"]
            return order

        def seen() -> str | None:
            order = fill()
            known = believed[-1]["orders"] if believed else {}
            return order if known.get(order, {}).get("status") == "filled" else None

        until(seen, told="the bot's first fill")
        assert trueup("sim", "cut", "trade_updates", "--seconds", "600", "--url", url).code == 0
        missed = fill()
        assert trueup("sim", "clear", "--url", url).code == 0
        later = until(seen, told="the bot to be connected again")
        truth = {
            order["id"]: order["status"] for order in trueup("sim", "truth", "--url", url, "--json").json()["orders"]
        }
        assert (truth[missed], truth[later]) == ("filled", "filled")
        assert missed not in believed[-1]["orders"], "nobody tells it of what it missed"
    finally:
        bot.terminate()
        bot.wait(60)
        reader.join(60)
        lines.close()
