"""A real Redis of the tests' own: started on a free port, killed and started again at will, empty each time.

`TRUEUP_TEST_REDIS_SERVER` names another program than the one on the path, such as a valkey-server.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

DEADLINE_S = 30.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""

    file: Path
    key: Path


def certificate(folder: Path, name: str = "here") -> Certificate:
    """A new one."""
    program = shutil.which("openssl")
    assert program is not None, "no openssl here; install it"
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", str(made.key), "-out", str(made.file)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made


class RedisServer:
    """One redis-server (or valkey-server) process; with a certificate it speaks TLS, and is asked things without."""

    def __init__(self, folder: Path, certificate: Certificate | None = None) -> None:
        self._folder = folder
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.tls_port = free_port(), free_port()

    @property
    def url(self) -> str:
        if self._certificate is not None:
            return f"rediss://127.0.0.1:{self.tls_port}/0?ssl_ca_certs={self._certificate.file}"
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        named = os.environ.get("TRUEUP_TEST_REDIS_SERVER", "")
        program = named or shutil.which("redis-server") or shutil.which("valkey-server")
        assert program is not None, "no redis-server here: scripts/need.sh redis installs it"
        how = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if self._certificate is not None:
            files = ("--tls-cert-file", str(self._certificate.file), "--tls-key-file", str(self._certificate.key))
            how += ["--tls-port", str(self.tls_port), *files, "--tls-auth-clients", "no"]
        self._process = subprocess.Popen(
            [program, *how],
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
