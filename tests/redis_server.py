"""A real Redis of the tests' own: started on a free port, killed and started again at will, empty each time."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

DEADLINE_S = 30.0


class RedisServer:
    """One redis-server (or valkey-server) process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program is not None, "no redis-server here: scripts/need.sh redis installs it"
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut would: nothing is saved, nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)
            self._process = None

    def tell(self, *words: str) -> list[bytes]:
        """One command in Redis's own words; the lines of its answer."""
        parts = [word.encode() for word in words]
        text = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as line:
            line.sendall(text)
            return line.recv(1 << 20).split(b"\r\n")

    def _answers(self) -> bool:
        try:
            return self.tell("PING")[0] == b"+PONG"
        except OSError:
            return False
