"""`trueup simulate` and `trueup sim` against each other, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import TRUEUP, Process, Run, alive, free_port, until

Start = Callable[..., Process]


@pytest.fixture
def exchange(start: Start) -> Process:
    """A running simulated exchange."""
    return start("simulate", "--port", "0", "--seed", "11", "--rate-limit", "0")


def test_simulate_says_where_it_is_and_stops_on_a_signal(start: Start) -> None:
    exchange = start("simulate", "--port", "0", "--seed", "5")
    assert exchange.ready["event"] == "ready"
    assert exchange.ready["seed"] == 5
    keys = {"APCA-API-KEY-ID": "SIM", "APCA-API-SECRET-KEY": "SIM"}
    assert httpx.get(exchange.ready["url"] + "/v2/account", headers=keys).status_code == 200
    exchange.popen.send_signal(signal.SIGTERM)
    assert exchange.wait() == 0


def test_simulate_ends_with_its_parent(environment: dict[str, str]) -> None:
    parent = subprocess.Popen(
        [*TRUEUP, "simulate", "--port", "0", "--json", "--with-parent"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert b"ready" in parent.stdout.readline()
    parent.send_signal(signal.SIGINT)  # Ctrl-C reaches the whole group; the parent says when it is time
    with pytest.raises(subprocess.TimeoutExpired):
        parent.wait(1.0)
    parent.stdin.close()
    assert parent.wait(60) == 0
    parent.stdout.close()


def test_a_taken_port_is_one_line(exchange: Process, trueup: Run) -> None:
    answer = trueup("simulate", "--port", str(exchange.ready["port"]))
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "another port" in answer.err


def test_a_replay_file_that_is_not_there_is_one_line(trueup: Run, tmp_path: Path) -> None:
    answer = trueup("simulate", "--port", "0", "--replay", str(tmp_path / "none.csv"))
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "none.csv" in answer.err


def test_cut_and_clear(exchange: Process, trueup: Run) -> None:
    url = exchange.ready["url"]
    cut = trueup("sim", "cut", "trade_updates", "--seconds", "60", "--url", url, "--json")
    assert cut.code == 0, cut.err
    faults = httpx.get(url + "/sim/faults").json()
    rows = faults if isinstance(faults, list) else faults["faults"]
    assert [(row["target"], row["kind"]) for row in rows] == [("trade_updates", "drop")]
    listed = trueup("sim", "faults", "--url", url)
    assert "trade_updates" in listed.out
    assert "60 s" in listed.out
    assert trueup("sim", "clear", str(cut.json()["id"]), "--url", url).code == 0
    assert trueup("sim", "faults", "--url", url).out.strip() == "no faults"


def test_a_fault_that_is_none_is_refused_with_what_is_right(exchange: Process, trueup: Run) -> None:
    answer = trueup("sim", "fault", "trade_updates", "explode", "--url", exchange.ready["url"])
    assert answer.code == 1
    assert "mute" in answer.err
    assert answer.err.count("\n") == 1
    answer = trueup("sim", "fault", "trade_updates", "mute", "--match", "fill", "--url", exchange.ready["url"])
    assert answer.code == 2
    assert "--match must be NAME=VALUE" in answer.err


def test_orders_prices_fills_and_busts_reach_the_books(exchange: Process, trueup: Run) -> None:
    url = exchange.ready["url"]
    assert trueup("sim", "price", "AAPL", "200", "--hold", "600", "--url", url).code == 0
    placed = trueup("sim", "order", "BUY", "aapl", "10", "--limit", "150", "--url", url, "--json")
    assert placed.code == 0, placed.err
    order_id = placed.json()["id"]
    filled = trueup("sim", "fill", order_id, "4", "150", "--url", url, "--json")
    assert filled.code == 0, filled.err

    def books() -> dict[str, object] | None:
        truth = trueup("sim", "truth", "--url", url, "--json").json()
        return truth if truth["executions"] else None

    truth = until(books, told="the execution in the books")
    assert truth["positions"] == {"AAPL": "4"}
    shown = trueup("sim", "truth", "--url", url, COLUMNS="80")
    assert "4/10" in shown.out
    assert order_id in shown.out, "whole, as `sim fill` wants it"
    assert "AAPL 4" in shown.out
    execution = truth["executions"][0]["id"]  # type: ignore[index]
    busted = trueup("sim", "bust", execution, "--url", url)
    assert busted.code == 0, busted.err
    assert trueup("sim", "truth", "--url", url, "--json").json()["positions"] in ({}, {"AAPL": "0"})
    frames = trueup("sim", "frames", "--url", url, "--json")
    assert frames.code == 0
    assert isinstance(frames.json(), list)


def test_without_a_simulator_the_line_says_how_to_get_one(trueup: Run) -> None:
    answer = trueup("sim", "truth")
    assert answer.code == 69
    assert "no demo is running" in answer.err
    assert "trueup demo" in answer.err
    answer = trueup("sim", "truth", "--url", f"http://127.0.0.1:{free_port()}")
    assert answer.code == 69
    assert "the simulator does not answer at http://127.0.0.1:" in answer.err


def test_a_file_of_a_demo_that_ended_is_not_believed(trueup: Run, environment: dict[str, str]) -> None:
    ended = subprocess.Popen([*TRUEUP, "--version"], stdout=subprocess.DEVNULL, env=environment)
    ended.wait(60)
    assert not alive(ended.pid)
    place = Path(environment["XDG_RUNTIME_DIR"]) / "trueup" / "demo.json"
    place.parent.mkdir()
    place.write_text(f'{{"pid": {ended.pid}, "gateway_url": "", "simulator_url": "http://127.0.0.1:1", "state": ""}}')
    answer = trueup("sim", "faults")
    assert answer.code == 69
    assert "no demo is running" in answer.err
    place.write_text(place.read_text().replace(str(ended.pid), str(os.getpid())))
    answer = trueup("sim", "faults")
    assert "http://127.0.0.1:1" in answer.err
