"""`python -m bench fanout`: one publisher, N websocket clients, trueup's gateway among its peers and a bound in C.

Servers run on CPU 0, the load and its publisher (`peers/load.c`, one epoll loop that never sleeps) on CPU 1, both at
raised priority where the machine allows it. Rounds are interleaved over the peers, and figures are medians. Every peer
reads the same lines from the same kind of socket; trueup's pass its real app, bus, history and encoder. Not for
measuring a network or TLS. Invariant: messages have the same size on every peer's wire, within some bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.harness import Options, Report, median, note
from bench.peers import nchan
from bench.peers.ours import view
from trueup.bus.codec import encode, wire
from trueup.core.views import Channel
from trueup.ports import Envelope
from trueup.runtime.clock import SystemClock

PEERS = Path(__file__).parent / "peers"
ROOT = Path(__file__).parent.parent
IN_FLIGHT = 16
RATE_DELIVERIES_PER_S = 20_000
START_S = 20
NAIVE_CLIENTS = 30
"""The naive gateway's work grows with the square of its clients."""


@dataclass(frozen=True)
class Peer:
    name: str
    command: tuple[str, ...]
    wraps: int = 0
    """Bytes that the peer puts around a line."""


def run(options: Options) -> Report:
    report = Report()
    compiler = shutil.which("cc")
    if compiler is None:
        report.results["skipped"] = "no C compiler (cc) here: the load is a program in C"
        return report
    with tempfile.TemporaryDirectory() as built:
        for name in ("load", "bound"):
            subprocess.run([compiler, "-O2", "-o", f"{built}/{name}", PEERS / f"{name}.c"], check=True)
        measure(options, report, Path(built))
    return report


def measure(options: Options, report: Report, built: Path) -> None:
    python = sys.executable
    ours = Peer("trueup", (python, "-m", "bench.peers.ours"), envelope_bytes())
    peers = [Peer("c-bound", (str(built / "bound"),)), ours, Peer("uvicorn", (python, "-m", "bench.peers.uvicorn_app"))]
    peers.append(Peer("websockets-broadcast", (python, "-m", "bench.peers.websockets_broadcast")))
    skipped: dict[str, str] = {}
    if shutil.which("nginx") and nchan.module() is not None:
        peers.append(Peer("nginx-nchan", (python, "-m", "bench.peers.nchan")))
    else:
        skipped["nginx-nchan"] = "not installed: apt-get install nginx libnginx-mod-nchan"
    if shutil.which("node") and (PEERS / "node_modules" / "ws").is_dir():
        peers.append(Peer("node-ws", ("node", str(PEERS / "node_ws.js"))))
    else:
        skipped["node-ws"] = "not installed: npm install --prefix bench/peers"
    load = built / "load"
    rounds = {1000: 1} if options.quick else {100: 3, 1000: 5, 5000: 3}
    seconds = 0.8 if options.quick else 1.5
    room = open_files() - 200
    table: dict[str, dict[str, Any]] = {}
    ratios: dict[tuple[int, str], float] = {}
    for clients, turns in rounds.items():
        if clients > room:
            skipped[f"{clients} clients"] = f"{room + 200} open files are allowed here; raise ulimit -n"
            continue
        for size in (300, 2000):
            found: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in peers}
            for turn in range(turns):
                for peer in peers:
                    note(f"fanout clients={clients} bytes={size} round={turn + 1} {peer.name}")
                    found[peer.name].append(one(load, peer, clients, size, seconds, with_rate=size == 300))
            table[f"{clients} clients, {size} B"] = {name: medians(runs) for name, runs in found.items()}
            if clients == 1000:
                ratios |= {
                    (size, name): over(found["trueup"], runs, "deliveries_per_s") for name, runs in found.items()
                }
                if size == 300:
                    ratios |= {(size, "p99"): over(found["trueup"], found["c-bound"], "p99_ms_at_20k")}
    note("fanout naive")
    naive = Peer("naive", (python, "-m", "bench.peers.naive"))
    table[f"{NAIVE_CLIENTS} clients, 300 B"] = {
        peer.name: {"deliveries_per_s": once(load, peer, NAIVE_CLIENTS, 300, "flight", seconds)["deliveries_per_s"]}
        for peer in (naive, ours)
    }
    table[f"{NAIVE_CLIENTS} clients, 300 B"]["naive"]["copies_each_client_gets"] = NAIVE_CLIENTS
    idle = {peer.name: once(load, peer, 1000, 300, "idle", 1) for peer in peers if room > 1000}
    told = {str(clients): turns for clients, turns in rounds.items()}
    report.results.update(table=table, idle_1000=idle, skipped=skipped, rounds=told, in_flight=IN_FLIGHT)
    if not ratios:
        return
    report.at_least("fanout.deliveries_over_c_bound", ratios[300, "c-bound"], 0.9)
    report.at_least("fanout.deliveries_over_c_bound_2kb", ratios[2000, "c-bound"], 0.75)
    report.at_least("fanout.deliveries_over_uvicorn", ratios[300, "uvicorn"], 10)
    if (300, "node-ws") in ratios:
        report.at_least("fanout.deliveries_over_node_ws", ratios[300, "node-ws"], 10)
    report.at_most("fanout.p99_over_c_bound_at_20k_per_s", ratios[300, "p99"], 1.25)
    report.at_most("fanout.rss_kb_per_idle_connection", idle["trueup"]["rss_kb_per_connection"], 4)


def over(ours: list[dict[str, float]], theirs: list[dict[str, float]], figure: str) -> float:
    """The median of the rounds' ratios: both sides of a ratio were measured within seconds of each other."""
    return median([one[figure] / other[figure] for one, other in zip(ours, theirs, strict=True)])


def envelope_bytes() -> int:
    """What the gateway puts around a line; offsets have about five digits in a run."""
    at = datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)
    body = encode(view("", SystemClock()))
    return len(wire(Envelope(Channel.RISK_ALERT, "bench", 10_000, at, body)))


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: median([run[key] for run in runs]) for key in runs[0]}


def one(load: Path, peer: Peer, clients: int, size: int, seconds: float, *, with_rate: bool) -> dict[str, float]:
    """One round of a peer: as fast as it can, then at a steady rate; a fresh process for each."""
    found = once(load, peer, clients, size, "flight", seconds)
    keep = {key: found[key] for key in ("deliveries_per_s", "cpu_us_per_delivery", "idle_polls")}
    if with_rate:
        steady = once(load, peer, clients, size, "rate", max(seconds, 100 * clients / RATE_DELIVERIES_PER_S / 2))
        keep |= {f"{key}_at_20k": steady[key] for key in ("cpu_us_per_delivery", "p50_ms", "p99_ms")}
    return keep


def once(load: Path, peer: Peer, clients: int, size: int, mode: str, seconds: float) -> dict[str, float]:
    port, source_port = free_port(), free_port()
    server = subprocess.Popen(
        [*peer.command, str(port), str(source_port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=on_cpu(0),
    )
    try:
        for wanted in (port, source_port):
            until_open(wanted, server)
        argument = IN_FLIGHT if mode == "flight" else RATE_DELIVERIES_PER_S / clients
        line = max(30, size - peer.wraps)
        told = [str(part) for part in (load, port, source_port, server.pid, clients, line, mode, seconds, argument)]
        done = subprocess.run(told, capture_output=True, text=True, timeout=60 + 4 * seconds, preexec_fn=on_cpu(1))
        if done.returncode:
            raise RuntimeError(f"{peer.name}: {done.stderr.strip() or done.stdout.strip()}")
        found: dict[str, float] = json.loads(done.stdout)
        return found
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def on_cpu(number: int) -> Callable[[], None]:
    """What a child does first: keep to one CPU, and go before other work where that is allowed."""

    def settle() -> None:
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})
        try:
            os.nice(-15)
        except PermissionError:
            return

    return settle


def until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError("a peer ended before it listened")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"a peer does not listen on {port} after {START_S} s")


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def open_files() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
