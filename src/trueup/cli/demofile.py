"""Where a running demo can be found: one small file per user that names its addresses and its process.

Not for anything else that runs. Invariant: what `find` returns belongs to a process that was alive a moment ago.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from trueup.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One running demo."""

    pid: int
    gateway_url: str
    simulator_url: str
    state: str


def path() -> Path:
    """The file's place: the user's runtime folder, else a private folder among the temporary ones."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        return Path(runtime) / "trueup" / "demo.json"
    return Path(tempfile.gettempdir()) / f"trueup-{os.getuid()}" / "demo.json"


def write(demo: Demo) -> None:
    """Say that this demo runs; raises `BadInput` where the folder belongs to somebody else."""
    place = path()
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.parent.stat().st_uid != os.getuid():
            raise BadInput(f"{place.parent} belongs to another user; set XDG_RUNTIME_DIR to a folder of your own")
        fresh = place.with_suffix(f".{demo.pid}")
        fresh.write_text(json.dumps(asdict(demo)), encoding="utf-8")
        fresh.replace(place)
    except OSError as error:
        raise BadInput(f"{place.parent} can't be written ({error.strerror}); set XDG_RUNTIME_DIR") from None


def remove(pid: int) -> None:
    """Take the file away if it is still that of process `pid`."""
    demo = _read()
    if demo is not None and demo.pid == pid:
        path().unlink(missing_ok=True)


def find() -> Demo | None:
    """The running demo, or None."""
    demo = _read()
    return demo if demo is not None and _alive(demo.pid) else None


def _read() -> Demo | None:
    try:
        # The folder in /tmp could be prepared by somebody else; only our own file is believed.
        if path().stat().st_uid != os.getuid():
            return None
        raw = json.loads(path().read_text(encoding="utf-8"))
        return Demo(
            pid=int(raw["pid"]),
            gateway_url=str(raw["gateway_url"]),
            simulator_url=str(raw["simulator_url"]),
            state=str(raw["state"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
