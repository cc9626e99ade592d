"""`trueup explain` and `trueup drift`, asked of a running trueup and of its folder: one answer, one line a mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Process, Run, free_port, until

KEYS = {"APCA_API_KEY_ID": "SIM", "APCA_API_SECRET_KEY": "SIM"}


@pytest.fixture
def story(start: Callable[..., Process], trueup: Run, tmp_path: Path) -> dict[str, str]:
    """A running trueup with one filled order: its address, its folder, the order and when it was still unknown."""
    exchange = start("simulate", "--port", "0", "--seed", "11", "--rate-limit", "0")
    state = tmp_path / "state"
    running = start(
        "run", "--port", str(free_port()), "--alpaca-url", exchange.ready["url"], "--state", str(state), **KEYS
    )
    at = ["--url", running.ready["url"]]

    def health() -> Any:
        told = trueup("status", *at, "--json").json()
        return told if told["status"] == "healthy" else None

    healthy = until(health, told="health")
    placed = trueup("orders", "submit", "buy", "AAPL", "3", *at, "--json").json()

    def is_filled() -> bool:
        shown: str = trueup("orders", "show", placed["id"], *at, "--json").json()["order"]["status"]
        return shown == "FILLED"

    until(is_filled, told="the fill")
    return {"url": running.ready["url"], "state": str(state), "order": placed["id"], "before": healthy["at"]}


def test_a_running_trueup_and_its_folder_tell_the_same(story: dict[str, str], trueup: Run) -> None:
    question = ["explain", story["order"], "--at", story["before"]]
    live = trueup(*question, "--url", story["url"], "--json")
    assert live.code == 0, live.err
    folder = trueup(*question, "--state", story["state"], "--json")
    assert folder.code == 0, folder.err
    one, other = json.loads(live.out), json.loads(folder.out)
    assert one["detail"]["timeline"] == other["detail"]["timeline"]
    assert (one["deeds"], one["moment"]) == (other["deeds"], other["moment"])
    assert one["moment"]["order"] is None
    assert one["detail"]["timeline"][0]["event"] == "intent"
    shown = trueup(*question, "--url", story["url"])
    assert "nothing was known of this order" in shown.out
    assert "sent the order as tu-" in shown.out
    narrow = trueup(*question, "--url", story["url"], COLUMNS="80").out
    assert "→ sent the order as tu-" in narrow
    assert {"command", "us", "stream", "FILLED"} <= set(narrow.split()), "a narrow screen leaves nothing out"
    story_lines = narrow[narrow.index("what we learned") :].splitlines()
    assert max(len(line.rstrip()) for line in story_lines) <= 80
    drifts = json.loads(trueup("drift", "--url", story["url"], "--json").out)
    assert drifts["drifts"] == json.loads(trueup("drift", "--state", story["state"], "--json").out)["drifts"]
    assert [gap["reason"] for gap in drifts["gaps"]] == ["process start"]


def test_an_order_that_nobody_knows_is_one_line(story: dict[str, str], trueup: Run) -> None:
    for where in (["--url", story["url"]], ["--state", story["state"]]):
        answer = trueup("explain", "o-9999", *where)
        assert (answer.code, answer.out) == (1, "")
        assert "knows no order 'o-9999'" in answer.err
        assert len(answer.err.splitlines()) == 1


def test_a_time_that_is_none_is_named(trueup: Run, tmp_path: Path) -> None:
    answer = trueup("explain", "o-1", "--at", "noon", "--state", str(tmp_path))
    assert answer.code == 2
    assert "--at must be a time" in answer.err
