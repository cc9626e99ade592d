"""A whole trueup of its own for a browser: simulated exchange, runtime, gateway and dashboard, as real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_S = 60.0
"""How long anything may take on a slow machine; nothing waits longer than it must."""


def until(what: str, probe: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """The first true answer of `probe`; fails by name when there is none in time."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = probe()
        except (httpx.HTTPError, KeyError) as error:
            last = error
        if last and not isinstance(last, Exception):
            return last
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {last!r}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Demo:
    """A running demo: its dashboard and its exchange."""

    url: str
    sim: str
    state: Path

    def api(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()

    def exchange(self, path: str, body: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self.sim}{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def truth(self) -> Any:
        return httpx.get(f"{self.sim}/sim/truth", timeout=10).json()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """`trueup demo` in a process group of its own, ended with the test.

    Positions are not polled meanwhile: what a gap hides is then always found by the poll of orders first.
    """
    port = free_port()
    state = tmp_path / "state"
    log = (tmp_path / "demo.log").open("w+")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "trueup", "demo"),
            *("--port", str(port), "--state", str(state), "--set", "positions_poll_s=3600"),
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "XDG_RUNTIME_DIR": str(tmp_path)},
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"

        def started() -> str | None:
            assert process.poll() is None, Path(log.name).read_text()
            found = re.search(r"exchange\s+(http://\S+)", Path(log.name).read_text())
            return found.group(1) if found else None

        sim = until("the demo prints where its exchange is", started)
        running = Demo(url=url, sim=sim, state=state)
        until("the demo is healthy", lambda: running.api("/api/health")["status"] == "healthy")
        yield running
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
        log.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; `make test-e2e` installs it where it may and says where it is."""
    path = os.environ.get("TRUEUP_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no Chromium: install the package chromium, or name the program in TRUEUP_CHROMIUM"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A desktop window whose page must not raise an error."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce", color_scheme="dark")
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert not errors, f"the page raised: {errors}"
