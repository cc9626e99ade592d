"""`trueup doctor`: looks at everything that a start needs, and says what to do about what is wrong.

Not for changing anything: it leaves no file and no order behind. Invariant: one check that fails never hides another.
"""

from __future__ import annotations

import asyncio
import os
import platform
import zoneinfo
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from trueup.cli.output import EXIT_NO, JsonFlag, emit, out, styled
from trueup.cli.running import AlpacaUrl, SetOption, pairs
from trueup.errors import BadCredentials, TrueupError
from trueup.settings import Settings, help_of, read_settings, unknown_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; `status` is ok, warn or fail, `do` is what helps."""

    check: str
    status: str
    found: str
    do: str = ""


def doctor(
    alpaca_url: AlpacaUrl = None,
    state: Annotated[str | None, typer.Option("--state", metavar="FOLDER", help=help_of("state"))] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help=help_of("host"))] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help=help_of("port"))] = None,
    set_: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check this machine, the keys, the broker, the clock, the state folder and the port."""
    given = pairs(set_)
    by_option = {"alpaca_url": alpaca_url, "state": state, "host": host, "port": port}
    given |= {name: value for name, value in by_option.items() if value is not None}
    settings = read_settings(os.environ, given)
    findings = examine(settings)
    failed = sum(finding.status == "fail" for finding in findings)
    if as_json:
        emit({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("", "check", "found", "what to do"):
            table.add_column(title, overflow="fold")
        for finding in findings:
            table.add_row(styled(finding.status), finding.check, finding.found, finding.do)
        out.print(table)
        out.print(f"{failed} failed" if failed else "nothing stands in the way", style="red" if failed else "green")
    if failed:
        raise typer.Exit(EXIT_NO)


def examine(settings: Settings) -> list[Finding]:
    """Every check in turn."""
    from trueup import bootstrap

    return [
        _python(),
        _time_zones(),
        *_environment(),
        _attempt("keys", lambda: bootstrap.check_keys(settings), "found"),
        *_broker(settings),
        _attempt("state folder", lambda: bootstrap.describe_state(settings), ""),
        _attempt("port", lambda: bootstrap.check_port(settings), f"{settings.host}:{settings.port} is free"),
        _dashboard(),
    ]


def _attempt(check: str, probe: Callable[[], str | None], found: str) -> Finding:
    try:
        told = probe()
    except TrueupError as error:
        return _failure(check, str(error))
    return Finding(check=check, status="ok", found=told or found)


def _failure(check: str, message: str) -> Finding:
    found, _, do = message.partition("; ")
    return Finding(check=check, status="fail", found=found, do=do)


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()}"
    return Finding(check="python", status="ok", found=found)


def _time_zones() -> Finding:
    try:
        zoneinfo.ZoneInfo("America/New_York")
    except zoneinfo.ZoneInfoNotFoundError:
        do = "install the tzdata package; without it market hours can't be told"
        return Finding(check="time zones", status="fail", found="America/New_York is unknown", do=do)
    return Finding(check="time zones", status="ok", found="America/New_York is known")


def _environment() -> list[Finding]:
    return [
        Finding(check="environment", status="warn", found=warning, do="it has no effect; rename or remove it")
        for warning in unknown_names(os.environ)
    ]


def _broker(settings: Settings) -> list[Finding]:
    from trueup import bootstrap

    if not settings.alpaca_key or not settings.alpaca_secret:
        return [Finding(check="broker", status="warn", found="not asked, there are no keys")]
    try:
        identity = asyncio.run(bootstrap.identify(settings))
    except BadCredentials as error:
        return [_failure("broker", str(error))]
    except TrueupError as error:
        return [_failure("broker", str(error))]
    kind = "real money" if bootstrap.is_real_money(settings) else "paper or simulated"
    findings = [Finding(check="broker", status="ok", found=f"account {identity.account} ({kind})")]
    skew = identity.clock_skew_s
    if skew is None:
        findings.append(Finding(check="clock", status="warn", found="the broker does not tell its time"))
    elif abs(skew) > bootstrap.CLOCK_SKEW_ALLOWED_S:
        do = "set this machine's clock, for example with a time service"
        findings.append(
            Finding(check="clock", status="warn", found=f"differs from the broker's by {skew:.1f} s", do=do)
        )
    else:
        findings.append(Finding(check="clock", status="ok", found=f"within {max(abs(skew), 1):.0f} s of the broker's"))
    return findings


def _dashboard() -> Finding:
    from trueup import bootstrap

    if bootstrap.has_dashboard():
        return Finding(check="dashboard", status="ok", found="built")
    return Finding(check="dashboard", status="warn", found="not built", do="run `make web`; the API works without it")
