"""`trueup demo` as a user meets it: it comes up healthy, heals a cut, ends without leftovers, and replays equal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import TRUEUP, Process, Run, alive, free_port, until

Start = Callable[..., Process]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _equal(gateway: str, simulator: str) -> bool:
    truth = httpx.get(simulator + "/sim/truth").json()
    orders = json.loads(httpx.get(gateway + "/api/orders?status=all&limit=1000").content, parse_float=Decimal)
    positions = json.loads(httpx.get(gateway + "/api/positions").content, parse_float=Decimal)
    believed = {row["symbol"]: Decimal(row["quantity"]) for row in positions if row["quantity"]}
    held = {symbol: Decimal(quantity) for symbol, quantity in truth["positions"].items() if Decimal(quantity)}
    filled = {row["broker_order_id"]: Decimal(row["filled_quantity"]) for row in orders}
    true_filled = {row["id"]: Decimal(row["filled_qty"]) for row in truth["orders"]}
    return believed == held and filled == true_filled


def test_demo_comes_up_trades_heals_a_cut_and_replays_equal(start: Start, trueup: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    demo = start("demo", "--port", str(free_port()), "--state", str(state), "--seed", "3")
    gateway, simulator = demo.ready["url"], demo.ready["simulator_url"]
    (child,) = _children(demo.popen.pid)

    def health() -> Any:
        return httpx.get(gateway + "/api/health").json()

    until(lambda: health()["status"] == "healthy", told=f"health: {health()}")
    until(lambda: httpx.get(gateway + "/api/executions").json(), told="a first fill of the strategy")

    # Commands find the running demo by themselves.
    cut = trueup("sim", "cut", "trade_updates", "--seconds", "3")
    assert cut.code == 0, cut.err
    until(lambda: health()["broker_events"]["status"] != "UP", told="the cut to be noticed")
    assert health()["entries_gated"] is True
    until(lambda: health()["status"] == "healthy", told="the cut to heal")
    gaps = httpx.get(gateway + "/api/gaps").json()
    assert gaps[0]["closed_at"] is not None
    assert health()["broker_events"]["reconnect_count"] >= 1

    # A kill ends the strategy's orders, so that both books hold still and can be compared whole.
    assert httpx.post(gateway + "/api/kill", json={"reason": "compare"}).is_success
    until(lambda: health()["working_orders"] == 0, told="the kill's cancels")
    until(lambda: _equal(gateway, simulator), told="belief to equal the exchange's books")

    demo.popen.send_signal(signal.SIGINT)
    assert demo.wait() == 0, demo.errors()
    assert "Traceback" not in demo.errors()
    assert not alive(child)
    assert trueup("sim", "truth").code == 69

    verified = trueup("replay", "--state", str(state), "--verify", "--json")
    assert verified.code == 0, verified.err + verified.out
    answer = verified.json()
    assert answer["equal"] is True
    assert answer["digest"] == answer["live_digest"]
    assert answer["entries"] > 10
    shown = trueup("replay", "--state", str(state), "--verify")
    assert "equal to" in shown.out
    # The digest does not hang on the hash seed of the process that makes it.
    for seed in ("1", "2"):
        again = trueup("replay", "--state", str(state), "--json", PYTHONHASHSEED=seed)
        assert again.json()["digest"] == answer["digest"]
    early = trueup("replay", "--state", str(state), "--until", "5", "--json").json()
    assert early["offset"] == 5
    assert early["digest"] != answer["digest"]
    at = trueup("replay", "--state", str(state), "--at", early["belief"]["at"], "--json").json()
    assert at["offset"] >= 5
    assert at["offset"] < answer["offset"]
    assert "belief at" in trueup("replay", "--state", str(state), "--until", "50").out


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_demo_leaves_no_process_behind(sig: signal.Signals, start: Start, tmp_path: Path) -> None:
    demo = start("demo", "--port", str(free_port()), "--strategy", "none", "--state", str(tmp_path / "s"))
    children = _children(demo.popen.pid)
    assert len(children) == 1
    assert alive(children[0])
    demo.popen.send_signal(sig)
    demo.wait()
    until(lambda: not alive(children[0]), told="the simulated exchange to end with its parent")
    with pytest.raises(httpx.TransportError):
        httpx.get(demo.ready["simulator_url"] + "/sim/truth")


def test_demo_ends_when_its_exchange_does(start: Start, tmp_path: Path) -> None:
    demo = start("demo", "--port", str(free_port()), "--strategy", "none", "--state", str(tmp_path / "s"))
    (child,) = _children(demo.popen.pid)
    os.kill(child, signal.SIGKILL)
    assert demo.wait() == 70
    assert "the simulated exchange ended by itself" in demo.errors()
    assert "Traceback" not in demo.errors()


def test_demo_tells_people_what_to_try(environment: dict[str, str], trueup: Run, tmp_path: Path) -> None:
    port = free_port()
    arguments = [*TRUEUP, "demo", "--port", str(port), "--state", str(tmp_path / "s"), "--strategy", "none"]
    said = tmp_path / "said"
    with said.open("wb") as out:
        demo = subprocess.Popen(arguments, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            until(lambda: "Ctrl-C" in said.read_text(), told="the panel")
            panel = said.read_text()
            assert f"http://127.0.0.1:{port}" in panel
            assert "trueup sim cut trade_updates --seconds 10" in panel
            assert str(tmp_path / "s") in panel
            assert f"export TRUEUP_URL=http://127.0.0.1:{port}" in panel
            lost = trueup("status", "--url", f"http://127.0.0.1:{free_port()}")
            assert f"the demo is at http://127.0.0.1:{port}: say so with --url or TRUEUP_URL" in lost.err
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0
    assert re.search(r"trueup replay --verify --state \S+", said.read_text())


def test_demo_wants_an_empty_folder(trueup: Run, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thing").write_text("")
    answer = trueup("demo", "--state", str(tmp_path / "s"), "--port", str(free_port()))
    assert answer.code == 2
    assert "is not empty" in answer.err
    assert answer.err.count("\n") == 1


def test_replay_of_a_folder_without_a_journal_is_one_line(trueup: Run, tmp_path: Path) -> None:
    answer = trueup("replay", "--state", str(tmp_path))
    assert answer.code == 73
    assert "no journal" in answer.err
    assert list(tmp_path.glob("*.sqlite*")) == []
    assert trueup("replay", "--state", str(tmp_path), "--at", "noon").code == 2
