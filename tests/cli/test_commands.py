"""Every command explains itself, and every mistake is one line on standard error with its own exit code."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from tests.cli.conftest import Run, free_port
from typer.main import get_command
from typer.testing import CliRunner

from trueup.cli import app

KEYS = {"APCA_API_KEY_ID": "SIM", "APCA_API_SECRET_KEY": "SIM"}


def _commands() -> list[tuple[str, ...]]:
    root = get_command(app)
    found: list[tuple[str, ...]] = [()]
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        found.append((name,))
        found.extend((name, inner) for inner in getattr(command, "commands", {}))
    return found


COMMANDS = _commands()


def test_all_promised_commands_are_there() -> None:
    promised = [
        "demo",
        "run",
        "simulate",
        "gateway",
        "status",
        "orders",
        "reconcile",
        "kill",
        "resume",
        "sim",
        "replay",
        "explain",
        "drift",
        "journal",
        "schema",
        "doctor",
        "chaos",
        "user",
    ]
    assert {command[0] for command in COMMANDS if command} == set(promised)
    sim = {command[1] for command in COMMANDS if len(command) == 2 and command[0] == "sim"}
    assert sim >= {"cut", "fault", "faults", "clear", "truth", "price", "order", "bust"}
    orders = {command[1] for command in COMMANDS if len(command) == 2 and command[0] == "orders"}
    assert orders >= {"list", "show", "submit", "cancel"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_does(command: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert answer.exit_code == 0, answer.output
    assert "Usage: " in answer.output
    groups = {(), ("sim",), ("journal",)}
    if command not in groups:
        assert "--json" in answer.output, "every command can answer in JSON"


def test_help_of_a_setting_shows_unit_default_and_environment(trueup: Run) -> None:
    answer = trueup("run", "--help")
    words = " ".join(answer.out.replace("│", " ").split())
    assert "(seconds; default 10; TRUEUP_ORDERS_POLL_S)" in words


def test_the_version_is_the_package_version(trueup: Run) -> None:
    import trueup as package

    assert trueup("--version").out.strip() == f"trueup {package.__version__}"


@pytest.mark.parametrize(
    "command", [["status"], ["orders"], ["orders", "show", "x"], ["reconcile"], ["kill"], ["replay"]]
)
def test_an_unknown_option_is_a_usage_error(command: list[str], trueup: Run) -> None:
    answer = trueup(*command, "--no-such-option")
    assert answer.code == 2
    assert "--no-such-option" in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["orders"],
        ["orders", "list"],
        ["orders", "show", "x"],
        ["orders", "submit", "BUY", "AAPL", "1"],
        ["orders", "cancel", "x"],
        ["reconcile"],
        ["kill"],
        ["resume", "--yes"],
    ],
    ids=" ".join,
)
def test_without_a_running_trueup_each_says_how_to_start_it(command: list[str], trueup: Run) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    answer = trueup(*command, "--url", url)
    assert answer.code == 69
    assert answer.out == ""
    assert answer.err.startswith(
        f"trueup: trueup does not answer at {url}; start it with `trueup demo` or `trueup run`, "
        "or say where it is with --url"
    )
    assert answer.err.count("\n") == 1
    as_json = trueup(*command, "--url", url, "--json")
    assert as_json.code == 69
    assert json.loads(as_json.err)["error"]["code"] == "unreachable"


class _Html(BaseHTTPRequestHandler):
    """Somebody else's web site on our port."""

    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a web server that is not trueup."""
    with HTTPServer(("127.0.0.1", 0), _Html) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_not_trueup_is_told_apart(stranger: str, trueup: Run) -> None:
    answer = trueup("status", "--url", stranger)
    assert answer.code == 69
    assert f"what answers at {stranger} is not trueup" in answer.err
    assert "Traceback" not in answer.err


def test_a_url_that_is_none_is_a_usage_error(trueup: Run) -> None:
    answer = trueup("status", "--url", "localhost:8000")
    assert answer.code == 2
    assert "--url must be a web address" in answer.err


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        ([], {}, 77, "no keys: APCA_API_KEY_ID and APCA_API_SECRET_KEY not set"),
        ([], {"APCA_API_KEY_ID": "x"}, 77, "no keys: APCA_API_SECRET_KEY not set"),
        (["--broker", "ibkrr"], KEYS, 2, "broker must be one of alpaca"),
        (["--alpaca-url", "nowhere"], KEYS, 2, "alpaca_url must be a web address"),
        (["--port", "99999"], KEYS, 2, "port must be a whole number from 1 to 65535"),
        (["--host", "0.0.0.0"], KEYS, 2, "token of at least 16 characters"),
        (["--host", "0.0.0.0", "--token", "short"], KEYS, 2, "token must be at least 16 printable characters"),
        (["--strategy", "magic"], KEYS, 2, "strategy must be one of none, sma_cross"),
        (["--symbols", "AA PL"], KEYS, 2, "symbols must be a list of symbols"),
        (["--set", "prot=1"], KEYS, 2, "prot is no setting; did you mean port?"),
        (["--set", "port"], KEYS, 2, "--set must be NAME=VALUE"),
        (["--set", "alpaca_secret=x"], KEYS, 2, "from the environment only"),
        (["--log-level", "loud"], KEYS, 2, "log_level must be one of"),
        ([], KEYS | {"TRUEUP_PORT": "x"}, 2, "TRUEUP_PORT must be a whole number"),
        (["--live", "--alpaca-url", "http://127.0.0.1:1"], KEYS, 2, "live is for Alpaca's live address"),
        (["--live"], KEYS, 2, "real money needs a person who types LIVE, or --yes"),
        (["--alpaca-url", "https://api.alpaca.markets"], KEYS, 2, "add --live if that is what you want"),
        ([], KEYS | {"TRUEUP_LIVE": "yes"}, 2, "add --live if that is what you want"),
    ],
)
def test_run_refuses_bad_input_in_one_line(
    arguments: list[str], environment: dict[str, str], code: int, says: str, trueup: Run
) -> None:
    port = [] if "--port" in arguments or "TRUEUP_PORT" in environment else ["--port", str(free_port())]
    answer = trueup("run", *port, *arguments, **environment)
    assert says in answer.err
    assert answer.code == code
    lines = answer.err.splitlines()
    warned = "REAL MONEY" in answer.err
    assert len(lines) == (2 if warned else 1)
    assert "Traceback" not in answer.err


def test_real_money_is_said_before_it_is_asked_for(trueup: Run) -> None:
    answer = trueup("run", "--live", "--port", str(free_port()), **KEYS)
    assert answer.err.splitlines()[0] == "THIS TRADES REAL MONEY at Alpaca's live address"


def test_a_taken_port_is_one_line(trueup: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for command in (["run", "--alpaca-url", "http://127.0.0.1:1"], ["demo"]):
            answer = trueup(*command, "--port", str(port), **KEYS)
            assert answer.code == 2
            assert f"port {port} on 127.0.0.1 is taken; stop what uses it, or give another with --port" in answer.err
            assert answer.err.count("\n") == 1


def test_a_state_folder_that_cannot_be_is_one_line(trueup: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    answer = trueup("run", "--port", str(free_port()), "--state", str(file / "state"), **KEYS)
    assert answer.code == 73
    assert "state folder" in answer.err
    assert "give another with --state" in answer.err
    assert answer.err.count("\n") == 1


def test_a_bug_is_one_line_too_unless_debug_asks_for_more(trueup: Run, tmp_path: Path) -> None:
    # A module of ours that can't be imported stands for any bug.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['trueup.bootstrap'] = None\n")
    answer = trueup("doctor", PYTHONPATH=str(tmp_path))
    assert answer.code == 1
    assert answer.err.startswith("trueup: internal error, ")
    assert "--debug" in answer.err
    assert answer.err.count("\n") == 1
    assert "Traceback" in trueup("doctor", "--debug", PYTHONPATH=str(tmp_path)).err


def test_debug_shows_the_traceback(trueup: Run) -> None:
    answer = trueup("run", "--debug")
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "BadCredentials" in answer.err
