"""`trueup run` against a simulated exchange, as real processes: starts that must fail, and commands that must work."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Process, Run, free_port, until

Start = Callable[..., Process]

KEYS = {"APCA_API_KEY_ID": "SIM", "APCA_API_SECRET_KEY": "SIM"}


@pytest.fixture
def exchange(start: Start) -> Process:
    """A running simulated exchange."""
    return start("simulate", "--port", "0", "--seed", "11", "--rate-limit", "0")


class House:
    """A running trueup and the commands that talk to it."""

    def __init__(self, process: Process, run: Run) -> None:
        self.process = process
        self.url = process.ready["url"]
        self._run = run

    def ask(self, *arguments: str) -> Any:
        """The JSON answer of a command that must succeed."""
        answer = self._run(*arguments, "--url", self.url, "--json")
        assert answer.code == 0, answer.err
        return answer.json()

    def say(self, *arguments: str) -> str:
        """What a command that must succeed shows to people."""
        answer = self._run(*arguments, "--url", self.url)
        assert answer.code == 0, answer.err
        assert answer.err == ""
        return answer.out

    def healthy(self) -> None:
        """Wait until it is."""
        until(lambda: self.ask("status")["status"] == "healthy", told=f"health; it said {self.process.errors()}")


def _run_arguments(exchange: Process, state: Path) -> list[str]:
    return ["run", "--port", str(free_port()), "--alpaca-url", exchange.ready["url"], "--state", str(state)]


@pytest.fixture
def house(exchange: Process, start: Start, trueup: Run, tmp_path: Path) -> House:
    """A healthy trueup, connected to the exchange."""
    running = House(start(*_run_arguments(exchange, tmp_path / "state"), "--symbols", "AAPL,MSFT", **KEYS), trueup)
    running.healthy()
    return running


def test_a_broker_that_is_not_there_is_one_line_that_names_the_setting(trueup: Run, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    answer = trueup(
        "run", "--port", str(free_port()), "--alpaca-url", url, "--state", str(tmp_path / "s"), "--json", **KEYS
    )
    assert answer.code == 69
    told = json.loads(answer.err.splitlines()[-1])["error"]["message"]
    assert "--alpaca-url" in told
    assert url.removeprefix("http://") in told


def test_keys_that_the_broker_refuses_are_one_line(exchange: Process, trueup: Run, tmp_path: Path) -> None:
    answer = trueup(*_run_arguments(exchange, tmp_path / "s"), APCA_API_KEY_ID="SIM", APCA_API_SECRET_KEY="wrong")
    assert answer.code == 77
    assert "APCA_API_KEY_ID" in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err
    assert "wrong" not in answer.err


def test_a_state_folder_belongs_to_one_account(exchange: Process, start: Start, trueup: Run, tmp_path: Path) -> None:
    first = start(*_run_arguments(exchange, tmp_path / "s"), **KEYS)
    first.popen.send_signal(signal.SIGTERM)
    assert first.wait() == 0, first.errors()
    other = start("simulate", "--port", "0", "--seed", "12")
    answer = trueup(*_run_arguments(other, tmp_path / "s"), **KEYS)
    assert answer.code == 78, answer.err
    assert "account" in answer.err.splitlines()[-1]
    assert "give another state folder" in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_two_processes_cannot_write_one_journal(house: House, exchange: Process, trueup: Run, tmp_path: Path) -> None:
    answer = trueup(*_run_arguments(exchange, tmp_path / "state"), **KEYS)
    assert answer.code == 73, answer.err
    assert "in use by another trueup" in answer.err.splitlines()[-1]
    assert house.ask("status")["status"] == "healthy"


def test_a_journal_of_a_newer_version_is_left_alone(
    exchange: Process, start: Start, trueup: Run, tmp_path: Path
) -> None:
    first = start(*_run_arguments(exchange, tmp_path / "s"), **KEYS)
    first.popen.send_signal(signal.SIGTERM)
    assert first.wait() == 0, first.errors()
    (journal,) = (tmp_path / "s").glob("*.sqlite3")
    with sqlite3.connect(journal) as database:
        changed = database.execute("UPDATE meta SET value = '999' WHERE name = 'format'")
        assert changed.rowcount == 1
    database.close()
    before = journal.read_bytes()
    for command in (_run_arguments(exchange, tmp_path / "s"), ["replay", "--state", str(tmp_path / "s")]):
        answer = trueup(*command, **KEYS)
        assert answer.code == 73, answer.err
        assert "run that version or a later one" in answer.err.splitlines()[-1]
        assert "Traceback" not in answer.err
    assert journal.read_bytes() == before


def test_the_life_of_an_order_from_the_command_line(house: House, exchange: Process, trueup: Run) -> None:
    sim = ["--url", exchange.ready["url"]]
    assert trueup("sim", "price", "AAPL", "200", "--hold", "600", *sim).code == 0
    placed = house.ask("orders", "submit", "buy", "aapl", "10", "--limit", "150.5", "--client-order-id", "mine-1")
    assert (placed["side"], placed["symbol"], placed["type"]) == ("BUY", "AAPL", "LIMIT")
    again = house.ask("orders", "submit", "buy", "aapl", "10", "--limit", "150.5", "--client-order-id", "mine-1")
    assert again["id"] == placed["id"]

    def known() -> Any:
        order = house.ask("orders", "show", placed["id"])["order"]
        return order if order["broker_order_id"] and order["detail"] == "NEW" else None

    order = until(known, told="the broker's word about the order")
    assert trueup("sim", "fill", order["broker_order_id"], "4", "150.5", *sim).code == 0

    def partly() -> Any:
        detail = house.ask("orders", "show", "mine-1")
        return detail if Decimal(str(detail["order"]["filled_quantity"])) == 4 else None

    detail = until(partly, told="the partial fill")
    assert [Decimal(str(fill["quantity"])) for fill in detail["executions"]] == [4]
    shown = house.say("orders", "show", placed["id"])
    assert "4/10" in shown
    assert "timeline" in shown
    assert "executions" in shown
    assert "PARTIALLY_FILLED" in shown
    assert [row["id"] for row in house.ask("orders", "list", "--status", "working")] == [placed["id"]]
    house.ask("orders", "cancel", placed["id"])
    until(lambda: house.ask("orders", "list", "--status", "working") == [], told="the cancel")
    assert "CANCELLED" in house.say("orders")


def test_a_denied_order_is_one_line_with_exit_1(house: House, trueup: Run) -> None:
    answer = trueup("orders", "submit", "BUY", "AAPL", "0", "--url", house.url)
    assert answer.code == 1
    assert answer.out == ""
    assert "quantity" in answer.err
    assert answer.err.count("\n") == 1
    answer = trueup("orders", "show", "no-such-order", "--url", house.url, "--json")
    assert answer.code == 1
    assert "no-such-order" in json.loads(answer.err)["error"]["message"]


def test_status_reconcile_kill_and_resume(house: House, exchange: Process, trueup: Run) -> None:
    shown = house.say("status")
    for word in ("HEALTHY", "ACTIVE", "truth lag", "broker events", "market data", "UP", "reconciled"):
        assert word in shown
    assert trueup("status", "--check", "--url", house.url).code == 0
    before = house.ask("status")["broker_events"]["last_reconciliation_at"]
    house.ask("reconcile")
    assert house.ask("status")["broker_events"]["last_reconciliation_at"] > before
    assert "HEALTHY" in house.say("reconcile")

    assert trueup("sim", "price", "MSFT", "400", "--hold", "600", "--url", exchange.ready["url"]).code == 0
    working = house.ask("orders", "submit", "BUY", "MSFT", "1", "--limit", "100")
    assert "KILLED" in house.say("kill", "--reason", "a test")
    assert house.ask("status")["trading_state"] == "KILLED"
    assert trueup("status", "--check", "--url", house.url).code == 1
    answer = trueup("orders", "submit", "BUY", "MSFT", "1", "--limit", "100", "--url", house.url)
    assert answer.code == 1

    def cancelled() -> bool:
        return bool(house.ask("orders", "show", working["id"])["order"]["detail"] == "CANCELED")

    until(cancelled, told="the kill's cancel")
    refused = trueup("resume", "--url", house.url, stdin="resume\n")
    assert refused.code == 1
    assert "not resumed" in refused.err
    assert house.ask("status")["trading_state"] == "KILLED"
    assert trueup("resume", "--url", house.url, stdin="RESUME\n").code == 0
    until(lambda: house.ask("status")["trading_state"] == "ACTIVE", told="the resume")


def test_a_restart_keeps_the_kill(exchange: Process, start: Start, trueup: Run, tmp_path: Path) -> None:
    arguments = _run_arguments(exchange, tmp_path / "s")
    first = House(start(*arguments, **KEYS), trueup)
    first.healthy()
    first.ask("kill")
    first.process.popen.kill()
    first.process.wait()
    second = House(start(*_run_arguments(exchange, tmp_path / "s"), **KEYS), trueup)
    assert second.ask("status")["trading_state"] == "KILLED"


def test_a_kill_needs_no_running_process(exchange: Process, start: Start, trueup: Run, tmp_path: Path) -> None:
    url = exchange.ready["url"]
    assert trueup("sim", "price", "AAPL", "200", "--hold", "600", "--url", url).code == 0
    first = House(start(*_run_arguments(exchange, tmp_path / "s"), **KEYS), trueup)
    first.healthy()
    mine = first.ask("orders", "submit", "BUY", "AAPL", "1", "--limit", "100")
    until(lambda: first.ask("orders", "show", mine["id"])["order"]["detail"] == "NEW", told="the order to work")
    nowhere = ["--url", f"http://127.0.0.1:{free_port()}", "--alpaca-url", url, "--state", str(tmp_path / "s")]

    # While the process lives its journal is its own: the orders go, and the answer says what is missing.
    answer = trueup("kill", *nowhere, "--json", **KEYS)
    assert answer.code == 1
    assert "in use by another trueup" in json.loads(answer.err)["error"]["message"]
    assert answer.json()["cancelled"] == 1
    until(lambda: first.ask("orders", "show", mine["id"])["order"]["detail"] == "CANCELED", told="the cancel")

    first.process.popen.kill()
    first.process.wait()
    assert trueup("sim", "order", "BUY", "AAPL", "2", "--limit", "100", "--url", url).code == 0
    answer = trueup("kill", *nowhere, **KEYS)
    assert answer.code == 0, answer.err
    assert "1 open orders cancelled" in answer.out
    second = House(start(*_run_arguments(exchange, tmp_path / "s"), **KEYS), trueup)
    assert second.ask("status")["trading_state"] == "KILLED"
    assert "without running" in trueup("kill", "--url", nowhere[1]).err
    assert trueup("kill", *nowhere).code == 77


def test_a_restart_while_the_broker_is_away_comes_up_and_heals(
    exchange: Process, start: Start, trueup: Run, tmp_path: Path
) -> None:
    first = start(*_run_arguments(exchange, tmp_path / "s"), **KEYS)
    first.popen.send_signal(signal.SIGTERM)
    assert first.wait() == 0, first.errors()
    away = trueup("sim", "fault", "rest", "drop", "--url", exchange.ready["url"], "--json")
    assert away.code == 0, away.err
    second = House(start(*_run_arguments(exchange, tmp_path / "s"), **KEYS), trueup)
    health = second.ask("status")
    assert health["entries_gated"] is True
    assert health["broker_events"]["status"] != "UP"
    assert trueup("sim", "clear", "--url", exchange.ready["url"]).code == 0
    second.healthy()


def test_a_token_is_asked_for_and_taken(exchange: Process, start: Start, trueup: Run, tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    start_arguments = [*_run_arguments(exchange, tmp_path / "s"), "--host", "0.0.0.0"]
    running = start(*start_arguments, TRUEUP_TOKEN=token, **KEYS)
    url = running.ready["url"].replace("0.0.0.0", "127.0.0.1")
    answer = trueup("status", "--url", url)
    assert answer.code == 77
    assert "TRUEUP_TOKEN" in answer.err
    assert trueup("status", "--url", url, TRUEUP_TOKEN=token).code == 0


def test_doctor_finds_what_is_right_and_what_is_wrong(
    exchange: Process, trueup: Run, start: Start, tmp_path: Path
) -> None:
    good = ["--alpaca-url", exchange.ready["url"], "--state", str(tmp_path / "s"), "--port", str(free_port())]
    answer = trueup("doctor", *good, "--json", **KEYS)
    assert answer.code == 0, answer.out
    checks = {row["check"]: row for row in answer.json()["checks"]}
    assert {"python", "time zones", "keys", "broker", "clock", "state folder", "port", "dashboard"} <= set(checks)
    assert all(row["status"] == "ok" for name, row in checks.items() if name != "dashboard"), checks
    assert "nothing stands in the way" in trueup("doctor", *good, **KEYS).out

    def failed(*arguments: str, **environment: str) -> dict[str, Any]:
        answer = trueup("doctor", *arguments, "--json", **environment)
        assert answer.code == 1, answer.out
        rows = [row for row in answer.json()["checks"] if row["status"] == "fail"]
        assert len(rows) == 1, rows
        assert rows[0]["do"], rows
        row: dict[str, Any] = rows[0]
        return row

    assert failed(*good)["check"] == "keys"
    assert failed(*good, APCA_API_KEY_ID="SIM", APCA_API_SECRET_KEY="wrong")["check"] == "broker"
    nowhere = ["--alpaca-url", f"http://127.0.0.1:{free_port()}", *good[2:]]
    assert failed(*nowhere, **KEYS)["check"] == "broker"
    taken = [*good[:4], "--port", str(exchange.ready["port"])]
    assert failed(*taken, **KEYS)["check"] == "port"
    (tmp_path / "file").write_text("")
    bad_state = [*good[:2], "--state", str(tmp_path / "file" / "s"), *good[4:]]
    assert failed(*bad_state, **KEYS)["check"] == "state folder"
