"""Real processes for the command-line tests: a clean environment, a simulated exchange, a demo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

ValueT = TypeVar("ValueT")
TRUEUP = [sys.executable, "-m", "trueup"]
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Run = Callable[..., Answer]


def until(what: Callable[[], ValueT | None], *, told: str) -> ValueT:
    """Poll until `what` gives something true, with a deadline that only a hanging process reaches."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {DEADLINE_S:g} s for {told}")


def alive(pid: int) -> bool:
    """True while the process runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment without keys and settings, whose home and runtime folders are the test's own."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRUEUP_", "APCA_", "XDG_"))}
    own = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "200", "TERM": "dumb"}
    return kept | own


@pytest.fixture
def trueup(environment: dict[str, str]) -> Run:
    """Run one command to its end."""

    def run(*arguments: str, stdin: str = "", **more: str) -> Answer:
        done = subprocess.run(
            [*TRUEUP, *arguments],
            env=environment | more,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


class Process:
    """A command that runs until it is stopped; `ready` is the JSON line that it said when it was up."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.popen = subprocess.Popen(
            [*TRUEUP, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._errors: list[str] = []
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"it ended before it was ready: {self.errors()}"
        self.ready: dict[str, Any] = json.loads(line)

    def _read_errors(self) -> None:
        assert self.popen.stderr is not None
        self._errors.extend(self.popen.stderr)

    def errors(self) -> str:
        """What it wrote to standard error."""
        if self.popen.poll() is not None:
            self._drain.join(10)
        return "".join(self._errors)

    def wait(self) -> int:
        """Its exit code."""
        return self.popen.wait(DEADLINE_S)

    def end(self) -> None:
        """Stop it, gently at first."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(30)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(30)
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                self._drain.join(10)
                pipe.close()


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Start commands that run on; all are stopped at the end of the test."""
    started: list[Process] = []

    def begin(*arguments: str, **more: str) -> Process:
        process = Process([*arguments, "--json"], environment | more)
        started.append(process)
        return process

    yield begin
    for process in reversed(started):
        process.end()
